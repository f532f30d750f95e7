import { after, before, test } from "node:test";
import { Lab } from "./lab.js";
import { copyOfNotebooks, otherEngine, runTutorial, tutorials } from "./tutorial.js";

/**
 * The larger tutorials on the machine's own engine: one run in JupyterLab that also shows that the committed outputs are
 * what comes out. `test/src/cli/tutorials.test.ts` checks the others' outputs.
 */

const elsewhere = await otherEngine();

let lab: Lab;
before(async () => {
  lab = await Lab.start(copyOfNotebooks());
});
after(() => lab?.stop());

for (const name of tutorials().others) {
  test(`${name} runs in JupyterLab${elsewhere ? "" : " and gives the outputs that it carries"}`, () =>
    runTutorial(lab, name, { compare: elsewhere === false }));
}
