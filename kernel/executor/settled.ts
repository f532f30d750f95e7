/**
 * Whether a promise is settled already. JavaScript has no way to ask; V8 of Node 20 has, where its own syntax is allowed for
 * as long as it takes to compile one function.
 */
import { types } from "node:util";
import { setFlagsFromString } from "node:v8";
import { resolved } from "../ipc/primordials.js";

const { isPromise } = types;
const NativeFunction = Function;
const pending = 0;

type Status = (promise: object) => number;

const unknown: Status = () => pending;
let status: Status | undefined;

function statusFunction(): Status {
  try {
    setFlagsFromString("--allow-natives-syntax");
    const made = new NativeFunction("promise", "return %PromiseStatus(promise)") as Status;
    made(resolved(undefined));
    return made;
  } catch {
    return unknown; // a newer V8
  } finally {
    setFlagsFromString("--no-allow-natives-syntax");
  }
}

/** False also where it can't be known. */
export function isSettled(value: object): boolean {
  if (!isPromise(value)) return false;
  status ??= statusFunction();
  try {
    return status(value) !== pending;
  } catch {
    // V8 drops the code of functions that rest, and can't compile this one a second time.
    status = undefined;
    return false;
  }
}
