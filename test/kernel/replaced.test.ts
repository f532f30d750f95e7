/**
 * Cells share JavaScript's built-ins with the process that runs them, and may replace any of them. A cell that does ends
 * like any other, and so do the cells behind it: with a result, or with the error that what they replaced throws.
 */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { interrupted, startKernel } from "./support.js";

/** What the cells behind show that use what was replaced themselves; everything else works. */
interface Broken {
  readonly print?: RegExp;
  readonly error?: RegExp;
  readonly later?: RegExp;
}

const bad = 'throw new Error("replaced")';
const all = (owner: string, except: string) =>
  `for (const key of Object.getOwnPropertyNames(${owner})) if (!/^(?:constructor|length|${except})$/.test(key)) (${owner} as any)[key] = () => { ${bad} };`;
const each = (owner: string, ...keys: string[]) =>
  keys.map((key) => `(${owner} as any).${key} = () => { ${bad} };`).join(" ");
const onObjects = (key: string, get: string) =>
  `Object.defineProperty(Object.prototype, ${JSON.stringify(key)}, { get() { ${get} }, set() {}, configurable: true })`;

const cases: readonly (readonly [what: string, code: string, broken?: Broken])[] = [
  ["JSON.stringify that throws", each("JSON", "stringify")],
  ["JSON.stringify that gives nothing", "JSON.stringify = () => undefined as any"],
  ["JSON.parse", each("JSON", "parse")],
  ["no JSON", "(globalThis as any).JSON = undefined"],
  ["Object.prototype.toJSON", '(Object.prototype as any).toJSON = () => "x"'],
  ["Object.prototype.toJSON that throws", each("Object.prototype", "toJSON")],
  ["Object.prototype.toJSON by a getter", onObjects("toJSON", bad)],
  ["Array.prototype.toJSON", '(Array.prototype as any).toJSON = () => "x"'],
  ["String.prototype.toJSON", "(String.prototype as any).toJSON = () => 5"],
  ["properties of all objects", '(Object.prototype as any).junk = 5; (Object.prototype as any).op = "done"'],
  [
    "descriptors of all objects",
    "(Object.prototype as any).get = () => 1; (Object.prototype as any).writable = false",
  ],
  [
    "a property `value` of all objects that throws",
    onObjects("value", bad),
    { print: /replaced|printed/, later: /replaced|later/ },
  ],
  ["String.prototype", all("String.prototype", "")],
  // Node itself calls Array.prototype.pop by its name at the end of each turn of its event loop.
  ["Array.prototype", all("Array.prototype", "pop")],
  ["the iterator of arrays, removed", "delete (Array.prototype as any)[Symbol.iterator]"],
  ["the iterator of arrays", "Object.getPrototypeOf([][Symbol.iterator]()).next = () => { throw 5 }"],
  ["Map.prototype", each("Map.prototype", "get", "set", "has", "delete", "forEach", "clear")],
  ["the iterator of maps, removed", "delete (Map.prototype as any)[Symbol.iterator]"],
  [
    "Set.prototype and WeakSet.prototype",
    `${each("Set.prototype", "add", "has", "delete")} ${each("WeakSet.prototype", "add", "has", "delete")}`,
  ],
  ["Promise.prototype.then that throws", each("Promise.prototype", "then")],
  ["Promise.prototype.then that does nothing", "Promise.prototype.then = function () { return this } as any"],
  ["Promise.race and its like", each("Promise", "race", "resolve", "all", "allSettled", "reject", "any")],
  ["Promise", `(globalThis as any).Promise = class { constructor() { ${bad} } }`, { later: /replaced/ }],
  [
    "a promise's constructor",
    `Object.defineProperty(Promise.prototype, "constructor", { value: class { constructor() { ${bad} } }, configurable: true })`,
  ],
  [
    "Symbol.species of promises",
    `Object.defineProperty(Promise, Symbol.species, { get() { ${bad} }, configurable: true })`,
  ],
  ["Object.defineProperty", each("Object", "defineProperty")],
  [
    "Object.keys and its like",
    each("Object", "keys", "entries", "fromEntries", "assign", "getPrototypeOf", "setPrototypeOf", "create"),
  ],
  ["no Object", "(globalThis as any).Object = undefined"],
  ["Reflect", all("Reflect", "")],
  ["Function.prototype.call, apply and bind", each("Function.prototype", "call", "apply", "bind")],
  [
    "Symbol.hasInstance of errors",
    `Object.defineProperty(Error, Symbol.hasInstance, { value: () => { ${bad} }, configurable: true })`,
  ],
  ["process.send", each("process", "send")],
  ["process.emit", each("process", "emit")],
  ["process.exit, kill and nextTick", each("process", "exit", "kill", "nextTick", "cwd", "cpuUsage")],
  ["no process", "(globalThis as any).process = undefined"],
  [
    "process.stdout.write",
    `${each("process.stdout", "write")} ${each("process.stderr", "write")}`,
    { print: /replaced/ },
  ],
  ["no console", "(globalThis as any).console = undefined", { print: /reading 'log'/ }],
  ["console.log", each("console", "log"), { print: /replaced/ }],
  ["EventEmitter.prototype.emit", each('require("node:events").prototype', "emit")],
  [
    "EventEmitter.prototype.on",
    each('require("node:events").prototype', "on", "once", "off", "removeListener", "addListener"),
  ],
  [
    "streams",
    `${each('require("node:stream").Readable.prototype', "push", "read", "on")} ${each('require("node:stream").Writable.prototype', "write")}`,
    { print: /replaced/ },
  ],
  ["Buffer's functions", each("Buffer", "from", "concat", "alloc", "allocUnsafe", "byteLength")],
  [
    "Buffer.prototype",
    each(
      "Buffer.prototype",
      "toString",
      "write",
      "writeUInt32LE",
      "writeUInt8",
      "readUInt32LE",
      "readUInt8",
      "subarray",
      "slice",
      "set",
      "utf8Slice",
      "utf8Write",
    ),
  ],
  [
    "no Buffer and no Uint8Array",
    "(globalThis as any).Buffer = undefined; (globalThis as any).Uint8Array = undefined",
  ],
  [
    "Uint8Array.prototype",
    each("Object.getPrototypeOf(Uint8Array.prototype)", "subarray", "slice", "set", "fill"),
  ],
  [
    "no Date and no structuredClone",
    "(globalThis as any).Date = undefined; (globalThis as any).structuredClone = undefined",
  ],
  [
    "no Number, String, Math and BigInt",
    'for (const name of ["Number", "String", "Math", "BigInt"]) (globalThis as any)[name] = undefined',
  ],
  ["no Symbol", "(globalThis as any).Symbol = undefined"],
  ["Symbol.for", each("Symbol", "for")],
  ["fs", each('require("node:fs")', "writeSync", "readFileSync", "existsSync")],
  ["Atomics", each("Atomics", "load", "store", "wait", "add", "notify", "exchange", "compareExchange")],
  [
    "timers",
    each("globalThis", "setTimeout", "setImmediate", "clearTimeout", "queueMicrotask"),
    { later: /replaced/ },
  ],
  ["Error.prepareStackTrace", each("Error", "prepareStackTrace")],
  [
    "Error.prepareStackTrace, removed",
    "Error.prepareStackTrace = undefined as any; Error.stackTraceLimit = 0",
  ],
  ["no Error", "(globalThis as any).Error = undefined", { error: /not a constructor/ }],
  [
    "RegExp.prototype",
    `${each("RegExp.prototype", "exec", "test")} (RegExp.prototype as any)[Symbol.replace] = () => { ${bad} }`,
  ],
  ["util.inspect", each('require("node:util")', "inspect")],
  ["the inspector", each('require("node:inspector").Session.prototype', "post", "connect")],
  ["AsyncLocalStorage", each('require("node:async_hooks").AsyncLocalStorage.prototype', "run", "getStore")],
  [
    "frozen prototypes",
    "for (const f of [Object, Array, String, Promise, Map, Function, Error, RegExp]) Object.freeze(f.prototype)",
  ],
  ["a frozen globalThis", "Object.freeze(globalThis)"],
  ["no listeners of the process", "process.removeAllListeners()"],
  ["the kernel's own runtime", "Object.assign(__firstframe, { box: 1, await: 2 })"],
  [
    "no globals",
    "for (const key of Object.getOwnPropertyNames(globalThis)) { try { delete (globalThis as any)[key] } catch {} }",
    { error: /Error is not defined/, later: /Promise is not defined/ },
  ],
];

const kernel = await startKernel({ FIRSTFRAME_CHECK: "off", FIRSTFRAME_HISTORY: ":memory:" });
let pid = await pidOf();

async function pidOf(): Promise<number> {
  const { text } = await kernel.run("process.pid");
  assert.match(text, /^[1-9]\d*$/); // 0 would be the tests' own group
  return Number(text);
}

/** Another process takes the place of the one whose built-ins are not what they were. */
async function replaceProcess(): Promise<void> {
  const replaced = new Promise<void>((resolve) => {
    const stop = kernel.client.listen(({ header, content }) => {
      if (header.msg_type !== "error" || content.ename !== "ExecutorDied") return;
      stop();
      resolve();
    });
  });
  process.kill(pid, "SIGKILL");
  await replaced;
  pid = await pidOf();
}

afterEach(replaceProcess);

for (const [what, code, { print = /^printed\n$/, error = /^mine$/, later = /^'later'$/ } = {}] of cases) {
  test(`a cell that replaces ${what}`, async () => {
    await kernel.run("let kept = 42");
    const attack = await kernel.run(`{ ${code} }`);
    // It may have been refused, as an assignment to what is frozen is.
    if (what === "the kernel's own runtime") assert.equal(attack.reply.ename, "TypeError");
    else assert.equal(attack.reply.status, "ok", attack.text);
    assert.equal((await kernel.run("kept")).text, "42", "the process lives, and its variables");
    assert.match((await kernel.run('console.log("printed")')).text || "no text", print);
    const failed = await kernel.run('throw new Error("mine")');
    assert.equal(failed.reply.status, "error");
    assert.match(failed.reply.evalue!, error);
    assert.match((await kernel.run("await new Promise((r) => setTimeout(r, 1)); 'later'")).text, later);
    assert.equal((await kernel.run("kept")).text, "42");
  });
}

test("what a cell shows comes as it is where JSON is another", async () => {
  await kernel.run(
    '(Object.prototype as any).toJSON = () => "x"; (Array.prototype as any).toJSON = () => "y"',
  );
  const { outputs } = await kernel.run(
    'display.json({ a: [1, { b: "c" }], d: { toJSON: () => "own" } }); display({ [globalThis.Symbol.for("Jupyter.display")]: () => ({ "text/plain": "p", "image/png": new Uint8Array([1, 2, 3]) }) })',
  );
  const bundles = outputs.map((output) => (output.output_type === "display_data" ? output.data : {}));
  assert.deepEqual(bundles[0]!["application/json"], { a: [1, { b: "c" }], d: "own" });
  assert.equal(bundles[1]!["image/png"], "AQID");
  // What the cell itself does with JSON is its own affair.
  assert.equal((await kernel.run("JSON.stringify([1, {}])")).text, "'\"y\"'");
});

test("an interrupt ends a cell where the global object is frozen", async () => {
  await kernel.run("Object.freeze(globalThis)");
  for (const waits of ["for (;;) {}", "await new Promise(() => {})", "for (;;) {}"]) {
    const { reply } = await interrupted(kernel, `console.log("on"); ${waits}`);
    assert.equal(reply.ename, "KeyboardInterrupt");
    assert.equal((await kernel.run("1 + 1")).text, "2");
  }
});

for (const [what, code] of [
  ["throws", each("Error", "prepareStackTrace")],
  ["loops", "Error.prepareStackTrace = (error) => error.stack"],
  ["gives no text", "Error.prepareStackTrace = () => Symbol() as any"],
  [
    "throws, past all setters",
    `Object.defineProperty(Error, "prepareStackTrace", { value: () => { ${bad} } })`,
  ],
] as const) {
  test(`an interrupt ends a cell where Error.prepareStackTrace ${what}`, async () => {
    await kernel.run(`{ ${code} }`);
    for (const waits of ["await new Promise(() => {})", "for (;;) {}"]) {
      const { reply } = await interrupted(kernel, `console.log("on"); ${waits}`);
      assert.equal(reply.ename, "KeyboardInterrupt");
      // The interrupt is still the last one.
      assert.equal((await kernel.run('throw new Error("mine")')).reply.evalue, "mine");
    }
    assert.equal((await kernel.run("1 + 1")).text, "2");
  });
}

test("an interrupt reaches cells whose built-ins are others", async () => {
  await kernel.run(
    `${each("Atomics", "load", "store", "exchange")} ${each("Map.prototype", "set", "delete", "forEach")} ${each('require("node:events").prototype', "emit")} ${each("Promise", "race", "resolve")} 1`,
  );
  for (const code of ["await new Promise(() => {})", "for (;;) {}"]) {
    let sent = false;
    const { reply } = await kernel.run(`console.log("on"); ${code}`, {
      onOutput: ({ header }) => {
        if (sent || header.msg_type !== "stream") return;
        sent = true;
        void kernel.client.interrupt();
      },
    });
    assert.equal(reply.ename, "KeyboardInterrupt");
  }
  assert.equal((await kernel.run("1 + 1")).text, "2");
});
