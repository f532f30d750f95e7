import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isSettled } from "../../kernel/executor/settled.js";

test("what is pending, or no promise, is never taken for settled", () => {
  const promises = [new Promise(() => undefined), () => undefined, new Map()];
  for (const each of [...promises, new Proxy(Promise.resolve(1), {})]) assert.equal(isSettled(each), false);
});

test("promises that are settled are known where V8 can tell, also when it has dropped its code", () => {
  const rejected = Promise.reject(new Error("no"));
  rejected.catch(() => undefined);
  const known = isSettled(Promise.resolve(1));
  assert.equal(known, process.versions.node.startsWith("20."));
  assert.equal(isSettled(rejected), known);
  setFlagsFromString("--expose-gc");
  setFlagsFromString("--stress-flush-code");
  const collect = runInNewContext("gc") as () => void;
  for (let i = 0; i < 20; i++) collect();
  setFlagsFromString("--no-stress-flush-code");
  // Once it may not know.
  isSettled(Promise.resolve(1));
  assert.equal(isSettled(Promise.resolve(1)), known);
  assert.equal(isSettled(new Promise(() => undefined)), false);
  assert.throws(() => new Function("return %PromiseStatus(1)"), SyntaxError);
});
