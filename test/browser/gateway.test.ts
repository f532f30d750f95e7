import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Gateway } from "../kernel/gateway/server.js";
import { Lab } from "./lab.js";
import { copyOfNotebooks, runTutorial } from "./tutorial.js";

/** JupyterLab with `--gateway-url`: its kernels are Enterprise Gateway's, whose distributed process proxy starts them. */

let gateway: Gateway;
let lab: Lab;
before(async () => {
  gateway = await Gateway.start({ elsewhere: true });
  lab = await Lab.start(copyOfNotebooks(), { gateway: gateway.url });
});
after(async () => {
  await lab?.stop();
  await gateway?.stop();
});

for (const name of ["00-hello-kernel.ipynb", "02-first-frame-duplication.ipynb"]) {
  test(`${name} runs in JupyterLab through a gateway`, async () => {
    const since = gateway.log.length;
    // Chromium connects twice, as a gateway offers no subprotocol; see `settingsFor`.
    await lab.startKernel(name);
    await runTutorial(lab, name, { compare: false, suffix: "-gateway" });
    assert.match(gateway.log.slice(since), /Kernel launched on /);
  });
}
