import { after, before, test } from "node:test";
import { Lab } from "./lab.js";
import { copyOfNotebooks, runTutorial, tutorials } from "./tutorial.js";

/** The smaller tutorials in JupyterLab, on the engine that every machine has. */

let lab: Lab;
before(async () => {
  process.env.FIRSTFRAME_ENGINE = "wasm";
  lab = await Lab.start(copyOfNotebooks());
});
after(() => lab?.stop());

for (const name of tutorials().wasm) {
  test(`${name} runs in JupyterLab on WebAssembly`, () =>
    runTutorial(lab, name, { compare: false, suffix: "-wasm" }));
}
