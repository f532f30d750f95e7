import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { anywidget } from "../../../src/display/widgets/any-widget.js";
import { joinBuffers, separateBuffers } from "../../../src/display/widgets/buffers.js";
import { latest } from "../../../src/display/widgets/latest.js";
import { shown } from "./decode.js";

describe("a widget's binary values", () => {
  const bytes = new Uint8Array([1, 2, 3, 4]).subarray(1, 3);

  test("travel beside its JSON, with their paths", () => {
    const state = { n: 1, a: bytes, deep: { list: ["x", bytes.buffer, { b: bytes }] } };
    const { state: plain, paths, buffers } = separateBuffers(state);
    assert.deepEqual(plain, { n: 1, deep: { list: ["x", null, {}] } });
    assert.deepEqual(paths, [["a"], ["deep", "list", 1], ["deep", "list", 2, "b"]]);
    assert.deepEqual(buffers, [bytes, new Uint8Array([1, 2, 3, 4]), bytes]);
    assert.equal(state.deep.list[1], bytes.buffer, "what the caller has stays as it is");
  });

  test("are put where they belong, and nowhere else", () => {
    const state = joinBuffers({ deep: { list: [0] } }, [["deep", "list", 0], ["a"]], [bytes, bytes]);
    const view = (state.deep as { list: DataView[] }).list[0]!;
    assert.equal(view.byteLength, 2);
    assert.deepEqual([view.getUint8(0), view.getUint8(1)], [2, 3]);
    assert.ok(state.a instanceof DataView);
    const paths = [["no", "such"], [], ["__proto__", "polluted"], ["__proto__"], ["b"]];
    joinBuffers(state, paths, [bytes, bytes, bytes, bytes]);
    assert.deepEqual(Object.keys(state), ["deep", "a"]);
    assert.equal((Object.prototype as { polluted?: unknown }).polluted, undefined);
    assert.equal(Object.getPrototypeOf(state), Object.prototype);
  });
});

test("of values that arrive during work, only the last is worked on; an error ends that work, not later work", async () => {
  const worked: number[] = [];
  const work = latest(async (value: number) => {
    await null;
    worked.push(value);
    if (value === 9) throw new Error("nine");
  });
  await Promise.all([work(1), work(2), work(3)]);
  assert.deepEqual(worked, [1, 3]);
  await assert.rejects(work(9), /nine/);
  await work(4);
  assert.deepEqual(worked, [1, 3, 9, 4]);
});

describe("anywidget outside of a notebook", () => {
  afterEach(() => {
    delete (globalThis as { comms?: unknown }).comms;
  });

  test("holds its state, and is shown as text", async () => {
    const heard: unknown[] = [];
    const widget = anywidget({ state: { value: 1, label: "a" }, esm: "export default {}" });
    widget.on("change:value", (value) => heard.push(value));
    widget.set({ value: 2, label: "b" });
    assert.deepEqual([widget.get("value"), widget.get("label")], [2, "b"]);
    assert.deepEqual(heard, [2]);
    widget.off("change:value").set({ value: 3 });
    assert.deepEqual(heard, [2]);
    assert.deepEqual(await shown(widget), { "text/plain": "AnyWidget(value=3, label='b')" });
    assert.equal(String(widget), "AnyWidget(value=3, label='b')");
    assert.throws(() => widget.send({}), /a widget needs a notebook/);
  });

  test("refuses what makes no widget", () => {
    const css = new URL("no-such.css", import.meta.url);
    assert.throws(() => anywidget({}), /anywidget: expected esm or a function render, found undefined/);
    assert.throws(() => anywidget({ esm: "", render: () => 1 }), /expected esm or render, found both/);
    assert.throws(
      () => anywidget({ esm: "", css }),
      /anywidget: css: file:.*no-such\.css could not be read: ENOENT/,
    );
    assert.throws(() => anywidget({ esm: "", state: { _esm: 1 } }), /begin with a letter, found _esm/);
  });
});
