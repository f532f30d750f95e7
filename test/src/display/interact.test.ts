import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { interact } from "../../../src/display/interact.js";
import { table } from "../../../src/display/table.js";
import { shown } from "./decode.js";

const MIME_TYPE = "application/vnd.firstframe.controls.v1+json";
const scope = globalThis as { comms?: unknown };

type Message = Record<string, unknown>;

/** Stands where the kernel's `comms` is; `open` is what a front end does. */
function frontEnd() {
  let target: ((comm: object, message: { data: unknown }) => void) | undefined;
  scope.comms = {
    registerTarget: (_: string, onOpen: typeof target) => {
      target = onOpen;
    },
  };
  return {
    open(id: string) {
      const sent: Message[] = [];
      let receive: (message: { data: unknown }) => void = () => {};
      const comm = {
        isOpen: true,
        send: (data: Message) => void sent.push(data),
        close: () => {
          comm.isOpen = false;
        },
        onMessage: (handler: typeof receive) => {
          receive = handler;
        },
      };
      target!(comm, { data: { id } });
      return { sent, comm, move: (values: object) => receive({ data: { values } }) };
    },
  };
}

afterEach(() => {
  delete scope.comms;
});

async function idOf(bundle: Promise<Record<string, string>>): Promise<string> {
  return ((await bundle)[MIME_TYPE] as unknown as { id: string }).id;
}

describe("interact", () => {
  test("is the first picture where no kernel answers", async () => {
    const bundle = await shown(interact({ n: [2, 9] }, ({ n }) => table([{ n }])));
    assert.deepEqual(bundle, await shown(table([{ n: 2 }])));
  });

  test("says what its controls are", async () => {
    frontEnd();
    const made = interact(
      {
        frame: [0, 80],
        sigma: { min: 0, max: 1, value: 0.5, label: "σ" },
        mode: ["clean", "noisy"],
        on: true,
      },
      ({ frame, sigma, mode, on }) => `${frame.toFixed(0)} ${sigma.toFixed(1)} ${mode.toUpperCase()} ${on}`,
    );
    const bundle = (await shown(made)) as Record<string, unknown>;
    assert.equal(bundle["text/plain"], "0 0.5 CLEAN true");
    assert.deepEqual((bundle[MIME_TYPE] as { controls: object }).controls, [
      { name: "frame", label: "frame", kind: "slider", min: 0, max: 80, step: 1, value: 0 },
      { name: "sigma", label: "σ", kind: "slider", min: 0, max: 1, step: 0.01, value: 0.5 },
      { name: "mode", label: "mode", kind: "choice", options: ["clean", "noisy"], value: "clean" },
      { name: "on", label: "on", kind: "switch", value: true },
    ]);
  });

  test("draws what is asked for, and of what came meanwhile only the last", async () => {
    const page = frontEnd();
    const drawn: number[] = [];
    const made = interact({ n: [0, 9] }, async ({ n }) => {
      drawn.push(n);
      await sleep(5);
      if (n === 7) throw new RangeError("not seven");
      return `n = ${n}`;
    });
    const { sent, move } = page.open(await idOf(shown(made)));
    assert.deepEqual(sent.slice(), [{ ready: true }]);
    for (const n of [1, 2, 3]) move({ n });
    while (sent.length < 3) await sleep(1);
    assert.deepEqual(drawn, [0, 1, 3]);
    assert.deepEqual(sent.slice(1), [
      { values: { n: 1 }, bundle: { "text/plain": "n = 1" } },
      { values: { n: 3 }, bundle: { "text/plain": "n = 3" } },
    ]);
    move({ n: 7 });
    while (sent.length < 4) await sleep(1);
    assert.deepEqual(sent[3], { values: { n: 7 }, error: "RangeError: not seven" });
    move({ n: 4 });
    while (sent.length < 5) await sleep(1);
    assert.deepEqual(sent[4]!.bundle, { "text/plain": "n = 4" }, "an error does not end it");
  });

  test("refuses views of an earlier session", async () => {
    const page = frontEnd();
    await shown(interact({ n: [0, 9] }, String));
    const { sent, comm } = page.open("of another session");
    assert.equal(comm.isOpen, false);
    assert.deepEqual(sent, []);
  });

  test("refuses what is no control", () => {
    assert.throws(() => interact({}, String), /interact: expected at least one control/);
    assert.throws(
      () => interact({ n: [3, 1] }, String),
      /interact: n: expected \[min, max\], .* found \[3,1\]/,
    );
    assert.throws(() => interact({ n: [0, 1, 0] }, String), /interact: n: expected step > 0, found 0/);
    assert.throws(
      () => interact({ n: { min: 0, max: 1, value: 2 } }, String),
      /n: expected a value from 0 to 1, found 2/,
    );
    assert.throws(() => interact({ n: null as never }, String), /interact: n: expected \[min, max\]/);
    assert.throws(
      () => interact({ n: [0, 1] }, 5 as never),
      /expected a function of the controls' values, found number/,
    );
  });
});
