/**
 * What the way of commands in and of output out needs of JavaScript's built-ins, taken before any cell runs. Cells share
 * them with the executor, and may replace them; one that does still ends like any other. What goes this way keeps off
 * what reaches for a prototype by itself: methods of arrays and promises, spread, destructuring of arrays, `for ... of`.
 */
import { types } from "node:util";

const { isUint8Array } = types;
const { bind, call, apply: applyMethod } = Function.prototype;

/** A method as a function whose first parameter is `this`. */
const uncurry = bind.bind(call) as <This, Args extends unknown[], Result>(
  method: (this: This, ...args: Args) => Result,
) => (self: This, ...args: Args) => Result;

const { create, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, hasOwn, keys, setPrototypeOf } =
  Object;
const { apply, ownKeys } = Reflect;
/** They say by false what can't be done, on a frozen object for example, instead of throwing. */
export const { defineProperty: tryDefine, deleteProperty: tryDelete, set: trySet } = Reflect;
const { isArray } = Array;
const objectPrototype = Object.prototype;
const arrayPrototype = Array.prototype;
const json = { parse: JSON.parse, stringify: JSON.stringify };

export const { min } = Math;
export { defineProperty, isArray, keys };

/** A property's descriptor, which means what is written in it and nothing else. */
function descriptorOf(owner: object, name: PropertyKey): PropertyDescriptor | undefined {
  const found = getOwnPropertyDescriptor(owner, name);
  return found && (setPrototypeOf(found, null) as PropertyDescriptor);
}

/** The parts of Node's and V8's interface that cells may replace. */
export const { allocUnsafe, allocUnsafeSlow, byteLength, concat, from: bufferFrom } = Buffer;
type Read = (this: Buffer, at: number) => number;
type Write = (this: Buffer, value: number, at: number) => number;
export const readUInt32 = uncurry(Buffer.prototype.readUInt32LE as Read);
export const readUInt8 = uncurry(Buffer.prototype.readUInt8 as Read);
export const writeUInt32 = uncurry(Buffer.prototype.writeUInt32LE as Write);
export const writeUInt8 = uncurry(Buffer.prototype.writeUInt8 as Write);
export const subarray = uncurry(Buffer.prototype.subarray as (start?: number, end?: number) => Buffer);
export const setBytes = uncurry(
  Buffer.prototype.set as (this: Buffer, bytes: Uint8Array, at: number) => void,
);
type ToText = (this: Buffer) => string;
type FromText = (this: Buffer, text: string, at: number) => number;
/** What Buffer's own `write` and `toString` look up by name. */
const native = Buffer.prototype as unknown as { utf8Write: FromText; utf8Slice: ToText; base64Slice: ToText };
export const writeUtf8 = uncurry(native.utf8Write);
export const textOf = uncurry(native.utf8Slice);
export const base64Of = uncurry(native.base64Slice);
export const slice = uncurry(
  String.prototype.slice as (this: string, start?: number, end?: number) => string,
);
export const startsWith = uncurry(String.prototype.startsWith as (this: string, text: string) => boolean);
export const indexOf = uncurry(
  String.prototype.indexOf as (this: string, text: string, from?: number) => number,
);
export const unitAt = uncurry(String.prototype.charCodeAt as (this: string, at: number) => number);
const isAbove = uncurry(objectPrototype.isPrototypeOf as (this: object, value: unknown) => boolean);
export const hasPrototype = (value: unknown, prototype: object) => isAbove(prototype, value);
export const weakAdd = uncurry(WeakSet.prototype.add) as (set: WeakSet<object>, value: object) => unknown;
export const weakHas = uncurry(WeakSet.prototype.has) as (set: WeakSet<object>, value: object) => boolean;
export const { compareExchange, exchange, load, store, wait } = Atomics;
export const NativePromise = Promise;
export const continueWith = uncurry(Promise.prototype.then) as <T, R>(
  promise: Promise<T>,
  onValue: (value: T) => R,
  onError?: (error: unknown) => R,
) => Promise<R>;
const resolve = uncurry(Promise.resolve as (this: PromiseConstructor, value: unknown) => Promise<unknown>);
export const resolved = <T>(value: T | PromiseLike<T>) =>
  resolve(NativePromise, value) as Promise<Awaited<T>>;
export const { setImmediate: later, setTimeout: after } = globalThis;
const { exit, kill: killProcess, pid } = process;
export const exitProcess = bind.call(exit, process) as (code: number) => never;
/** The process and nothing of its own left to do. */
export const killOurselves = () => apply(killProcess, process, [pid, "SIGKILL"]);

const bufferOf = bufferFrom as (bytes: ArrayBufferLike, at: number, length: number) => Buffer;

/** Bytes as a buffer; undefined for all else. */
export function toBuffer(value: unknown): Buffer | undefined {
  return isUint8Array(value) ? bufferOf(value.buffer, value.byteOffset, value.byteLength) : undefined;
}

/** What JSON.parse makes, but that it has what is written there and nothing else. */
export function parse(text: string): unknown {
  return setPrototypeOf(json.parse(text) as object, null) as unknown;
}

/** JSON, whatever `toJSON` cells give to all objects or arrays. */
export function stringify(value: object): string {
  const written = isPolluted() ? plain(value) : value;
  let text: string;
  try {
    text = json.stringify(written);
  } catch {
    // JSON has no BigInt; whatever else is wrong is so again.
    text = json.stringify(written, withoutBigInt);
  }
  return wellFormed(text);
}

/** A number where that is exact, else its digits. */
function withoutBigInt(_: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  const number = toNumber(value);
  return isSafeInteger(number) ? number : toText(value);
}

const { isSafeInteger } = Number;
const toNumber = Number;
const toText = String;

const loneSurrogate = "\\ud";

/** JSON whose texts others can write as UTF-8: half a character, which `JSON.stringify` escapes, would cost them the notebook. */
export function wellFormed(text: string): string {
  let at = indexOf(text, loneSurrogate);
  if (at < 0) return text;
  let out = "";
  let from = 0;
  while (at >= 0) {
    let before = at;
    while (before > from && unitAt(text, before - 1) === backslash) before -= 1;
    const isEscape = (at - before) % 2 === 0;
    const end = isEscape ? at + 6 : at + 3;
    out += slice(text, from, at) + (isEscape ? "\\ufffd" : slice(text, at, end));
    from = end;
    at = indexOf(text, loneSurrogate, from);
  }
  return out + slice(text, from);
}

const backslash = 0x5c;

function isPolluted(): boolean {
  return hasOwn(objectPrototype, "toJSON") || hasOwn(arrayPrototype, "toJSON");
}

/** A copy without prototypes, which only a value's own `toJSON`, or that of its class, has a say in. */
export function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (saysItself(value)) return plain(value.toJSON());
  const copy = (isArray(value) ? setPrototypeOf([], null) : create(null)) as Record<string, unknown>;
  const names = keys(value);
  for (let i = 0; i < names.length; i++)
    copy[names[i]!] = plain((value as Record<string, unknown>)[names[i]!]);
  return copy;
}

function saysItself(value: object): value is { toJSON(): unknown } {
  for (let at = value; at !== null && at !== objectPrototype && at !== arrayPrototype; ) {
    if (hasOwn(at, "toJSON")) return typeof (value as { toJSON?: unknown }).toJSON === "function";
    at = getPrototypeOf(at) as object;
  }
  return false;
}

/**
 * Has Node write `parameters` to JSON with nobody else's `toJSON` between. It is back once they are, before anything
 * comes of them.
 */
export function withPlainJson(parameters: object, work: (parameters: object) => void): void {
  const before = descriptorOf(objectPrototype, "toJSON");
  if (before === undefined) {
    work(plain(parameters) as object);
    return;
  }
  if (before.configurable !== true)
    throw new Error("Object.prototype.toJSON can't be changed, so that no cell can run; restart the kernel");
  let missing = true;
  const restore = () => {
    if (missing) defineProperty(objectPrototype, "toJSON", before);
    missing = false;
  };
  delete (objectPrototype as { toJSON?: unknown }).toJSON;
  const written = plain(parameters) as Record<string, unknown>;
  const marked = create(null) as Record<string, unknown>;
  marked.toJSON = () => {
    restore();
    return written;
  };
  try {
    work(marked);
  } finally {
    restore();
  }
}

/** What V8 asks of a promise that it waits for. */
const ofPromises: readonly (readonly [object, PropertyKey])[] = [
  [Promise.prototype, "then"],
  [Promise.prototype, "constructor"],
  [Promise, Symbol.species],
];
const original: (PropertyDescriptor | undefined)[] = [];
for (let i = 0; i < ofPromises.length; i++) original[i] = descriptorOf(ofPromises[i]![0], ofPromises[i]![1]);

/**
 * V8 ends a cell by way of a promise's own methods. Where a cell has replaced them, they are the original ones again
 * for the turn of the event loop in which V8 takes the cell's promise.
 */
export function mendPromises(): void {
  for (let i = 0; i < ofPromises.length; i++) {
    const owner = ofPromises[i]![0];
    const name = ofPromises[i]![1];
    const now = descriptorOf(owner, name);
    const before = original[i]!;
    if (now === undefined || now.configurable !== true) continue;
    if (now.value === before.value && now.get === before.get) continue;
    defineProperty(owner, name, before);
    later(() => defineProperty(owner, name, now));
  }
}

/** The first to settle of some promises, by `await`, which asks none of them for a method. */
export function first<T>(...promises: readonly Promise<T>[]): Promise<T> {
  return new NativePromise<T>((onValue, onError) => {
    for (let i = 0; i < promises.length; i++) void settle(promises[i]!, onValue, onError);
  });
}

async function settle<T>(
  promise: Promise<T>,
  onValue: (value: T) => void,
  onError: (error: unknown) => void,
): Promise<void> {
  try {
    onValue(await promise);
  } catch (error) {
    onError(error);
  }
}

/** Node's emitters call a listener by its method `apply`. */
export function listener<Args extends unknown[]>(handle: (...args: Args) => void): (...args: Args) => void {
  return defineProperty(handle, "apply", { value: applyMethod });
}

/** Gives an object the methods of its prototypes, which others call by their names. */
export function withOwnMethods<T extends object>(object: T): T {
  for (let at = getPrototypeOf(object) as object | null; at !== null && at !== objectPrototype; ) {
    const names = ownKeys(at);
    for (let i = 0; i < names.length; i++) {
      const name = names[i]!;
      if (name !== "constructor" && !hasOwn(object, name))
        defineProperty(object, name, { ...descriptorOf(at, name)!, configurable: true });
    }
    at = getPrototypeOf(at) as object | null;
  }
  return object;
}

/** Of a prototype of its own alone: a promise that resolves to an object asks it for a method `then`. */
export function withoutPrototype<T extends object>(object: T): T {
  return setPrototypeOf(object, null) as T;
}
