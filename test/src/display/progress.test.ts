import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { afterEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { jupyterDisplay, type MimeBundle } from "../../../src/display/mime.js";
import { progress } from "../../../src/display/progress.js";

interface Update {
  readonly text: string;
  readonly html: string;
  readonly displayId: string;
  readonly update: boolean;
}

const scope = globalThis as { display?: unknown };

/** Stands where the kernel's `display` is, and writes down what a front end would get. */
function frontEnd(): Update[] {
  const updates: Update[] = [];
  scope.display = (
    value: { [jupyterDisplay](): MimeBundle },
    options: { displayId: string; update: boolean },
  ) => {
    const bundle = value[jupyterDisplay]();
    updates.push({ text: String(bundle["text/plain"]), html: String(bundle["text/html"]), ...options });
  };
  return updates;
}

afterEach(() => {
  delete scope.display;
});

describe("progress in a notebook", () => {
  test("is one output that is updated", () => {
    const updates = frontEnd();
    for (const _ of progress([1, 2, 3], { desc: "encode" }));
    assert.equal(updates[0]!.update, false);
    assert.ok(updates.slice(1).every(({ update }) => update));
    assert.equal(new Set(updates.map(({ displayId }) => displayId)).size, 1);
    assert.match(updates[0]!.text, /^encode: 0% \| {20}\| 0\/3 \[00:00<\?\]$/);
    assert.equal(updates.at(-1)!.text, "encode: 100% |████████████████████| 3/3");
    assert.equal(updates.at(-1)!.html, '<progress value="3" max="3"></progress> encode: 100% 3/3');
  });

  test("is updated at most ten times a second", async () => {
    const updates = frontEnd();
    const started = performance.now();
    const bar = progress(100_000);
    for (let i = 0; i < 200; i++) {
      for (let j = 0; j < 500; j++) bar.update();
      await sleep(1);
    }
    bar.close();
    const seconds = (performance.now() - started) / 1000;
    assert.ok(updates.length <= Math.ceil(seconds * 10) + 2, `${updates.length} updates in ${seconds} s`);
    assert.ok(updates.length >= 3, "nothing moved");
    assert.match(updates.at(-1)!.text, / 100000\/100000$/);
  });

  test("shows the last of a burst without waiting for the next step", async () => {
    const updates = frontEnd();
    const bar = progress(10);
    bar.update(4);
    while (updates.length < 2) await sleep(5);
    assert.match(updates.at(-1)!.text, / 4\/10 \[/);
    bar.close();
  });

  test("says how long is left, and what was measured", async () => {
    const updates = frontEnd();
    const bar = progress(4, { desc: "train", unit: "step" });
    await sleep(120);
    bar.update(2);
    bar.setPostfix({ loss: 0.123456 });
    while (!updates.at(-1)!.text.includes("loss")) await sleep(5);
    assert.match(
      updates.at(-1)!.text,
      /^train: 50% \|█{10} {10}\| 2\/4 \[00:00<00:00, [\d.]+ step\/s, loss=0\.1235\]$/,
    );
    bar.close();
    assert.match(updates.at(-1)!.text, /2\/4 \[loss=0\.1235\]$/, "an output that stays tells no time");
  });

  test("stays where a loop was left", () => {
    const updates = frontEnd();
    const items = progress(new Set([1, 2, 3, 4]));
    for (const item of items) if (item === 3) break;
    assert.match(updates.at(-1)!.text, / 2\/4$/);
    assert.throws(() => {
      for (const _ of progress([1, 2])) throw new Error("stop");
    }, /stop/);
    assert.match(updates.at(-1)!.text, / 0\/2$/);
  });

  test("counts what has no end known, also awaited", async () => {
    const updates = frontEnd();
    async function* stream() {
      yield* [1, 2, 3];
    }
    const seen: number[] = [];
    for await (const item of progress(stream(), { unit: "batch" })) seen.push(item);
    assert.deepEqual(seen, [1, 2, 3]);
    assert.equal(updates.at(-1)!.text, "3 batch");
  });

  test("refuses what is no progress", () => {
    assert.throws(() => progress(-1), /progress: expected total >= 0, found -1/);
    assert.throws(() => progress({} as never), /progress: expected a number or an iterable, found object/);
  });
});

test("progress in a script is one line at the end, with the time it took", async () => {
  const program = `
    import { progress } from ${JSON.stringify(new URL("../../../src/display/progress.js", import.meta.url).href)};
    for (const step of progress([1, 2, 3], { desc: "encode" })) await 0;`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program]);
  assert.match(stdout, /^encode: 100% \|█{20}\| 3\/3 \[00:00, [\d.e+]+ it\/s\]\n$/);
});
