import assert from "node:assert/strict";
import { test } from "node:test";
import { type DisplayData, installedTslab, ownTslab } from "../../kernel/executor/tslab.js";

type Tslab = ReturnType<typeof ownTslab>;

/** What each function of the API gives to the kernel; ids are numbered, since they are random. */
function written(load: (write: (data: DisplayData, update: boolean | undefined) => void) => Tslab) {
  const ids: (string | undefined)[] = [];
  const calls: unknown[] = [];
  const { display, newDisplay, versions } = load(({ data, metadata, transient }, update) => {
    const id = transient.display_id;
    if (!ids.includes(id)) ids.push(id);
    calls.push({ data, metadata, id: id === undefined ? null : ids.indexOf(id), update: Boolean(update) });
  });
  const bytes = new Uint8Array([1, 2, 250]);
  for (const shown of [display, newDisplay(), newDisplay()]) {
    for (const name of ["javascript", "html", "markdown", "latex", "svg", "text"] as const) shown[name](name);
    for (const name of ["png", "jpeg", "gif", "pdf"] as const) shown[name](bytes);
    shown.raw("application/x-own", "own");
    shown.raw("application/x-own", bytes);
  }
  return { calls, versions: Object.keys(versions), tslab: versions.tslab, node: versions.node };
}

test("without tslab the kernel serves the same display API", () => {
  const theirs = written((write) => {
    const tslab = installedTslab(write);
    assert.ok(tslab, "tslab is installed in a clone");
    return tslab;
  });
  assert.equal(theirs.calls.length, 36);
  assert.deepEqual(written(ownTslab), theirs);
});
