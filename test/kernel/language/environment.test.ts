/**
 * Which names cells find that they do not declare: those of the Node that runs them, and of their folder.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Folder, Notebook } from "./support.js";

const nodeTypes = (version: string, text: string) => ({
  "node_modules/@types/node/package.json": JSON.stringify({
    name: "@types/node",
    version,
    types: "index.d.ts",
  }),
  "node_modules/@types/node/index.d.ts": text,
});

for (const nodeVersion of ["20.19.0", "22.20.0", "24.10.0", "26.0.0"]) {
  test(`Node ${nodeVersion}: all names that this Node has are known, and the web's types`, async () => {
    const notebook = await Notebook.open(new Folder(), { nodeVersion });
    if (process.versions.node.split(".")[0] === nodeVersion.split(".")[0]) {
      const names = Object.getOwnPropertyNames(globalThis).filter((name) => /^[\w$]+$/.test(name));
      await notebook.ok(names.map((name) => `${name};`).join("\n"));
    }
    await notebook.expect(
      `const h: HeadersInit = { a: "b" }; new Headers(h); const i: RequestInit = { headers: h, body: "x" as BodyInit }; const f = (x: RequestInfo | URL, init?: RequestInit) => fetch(x, init);
const c: Crypto = crypto; const k: CryptoKey | undefined = undefined; const s: SubtleCrypto = crypto.subtle; const bs: BufferSource = new Uint8Array(2); await crypto.subtle.digest("SHA-256", bs);
const key: CryptoKey = await crypto.subtle.importKey("raw", bs, { name: "HMAC", hash: "SHA-256" }, false, ["sign"] as KeyUsage[]);
const parts: BlobPart[] = ["x", new Uint8Array(1)]; new Blob(parts, { type: "text/plain" } satisfies BlobPropertyBag);
const te: TextEncoder = new TextEncoder(); te.encode("x").length; const p: Performance = performance; p.now();
const l: EventListener = (e) => { e.type; }; new EventTarget().addEventListener("x", l, { once: true } satisfies AddEventListenerOptions);
const us: UnderlyingSource<number> = { start(c) { c.close(); } }; const rs: ReadableStream<number> = new ReadableStream(us);
const ch = new MessageChannel(); const mp: MessagePort = ch.port1; mp.postMessage(1);
const fe: FormDataEntryValue | null = new FormData().get("x");`,
      `const bytes = Uint8Array.from([0,97,115,109,1,0,0,0]);
const { instance } = await WebAssembly.instantiate(bytes); (instance.exports.add as Function)?.(2, 3); WebAssembly.validate(bytes);
const m: WebAssembly.Module = new WebAssembly.Module(bytes); const mem = new WebAssembly.Memory({ initial: 1 }); new Uint8Array(mem.buffer); const im: WebAssembly.Imports = { env: { memory: mem, f: (x: number) => x } };
new WebAssembly.Instance(m, im); const e = new WebAssembly.RuntimeError("x"); e.message;`,
      `h.nope.x // error 2339`,
      `document.body // error 2584`,
      `window // error 2304`,
      `WebAssembly.nope() // error 2339`,
      `__dirname.length; __filename.length; module.exports = { a: 1 }; exports.b = 2; module.paths.length; require.main === module;`,
      `const module = 5; const exports = { x: 1 }; const __dirname = "x"; module.toFixed();`,
    );
  });
}

test("Node's types are those of the Node that runs", async () => {
  const cells = [
    'import { DatabaseSync } from "node:sqlite";',
    'import { globSync } from "node:fs";',
    "new WebSocket('ws:x').readyState; navigator.hardwareConcurrency;",
  ];
  const newer = await Notebook.open(new Folder(), { nodeVersion: "24.4.0" });
  await newer.ok(...cells);
  // Between two known versions it is the older one's.
  await (await Notebook.open(new Folder(), { nodeVersion: "23.1.0" })).ok(...cells);
  const older = await Notebook.open(new Folder(), { nodeVersion: "20.19.0" });
  assert.deepEqual(await older.codes(cells[0]!), [2591]);
  assert.deepEqual(await older.codes(cells[1]!), [2305]);
});

test("types of Node that a project has chosen are taken; those that came with a package are not", async () => {
  const text = "declare var chosen: 5; declare var process: { mine: true };";
  const chosen = new Folder({
    "package.json": '{ "devDependencies": { "@types/node": "*" } }',
    ...nodeTypes("1.0.0", text),
  });
  await (await Notebook.open(chosen)).expect(
    "chosen.toFixed(); process.mine;",
    "process.version // error 2339",
  );
  const brought = new Folder({
    "package.json": '{ "dependencies": { "some-package": "*" } }',
    ...nodeTypes("1.0.0", text),
  });
  await (await Notebook.open(brought)).expect("process.version;", "chosen // error 2304");
});

test("packages whose types refer to Node's get the same ones", async () => {
  const notebook = await Notebook.open(
    new Folder({
      "node_modules/refers/package.json": '{ "name": "refers", "types": "index.d.ts" }',
      "node_modules/refers/index.d.ts": '/// <reference types="node" />\nexport const bytes: Buffer;',
    }),
    { nodeVersion: "24.0.0" },
  );
  await notebook.ok('import { bytes } from "refers"; const mine: Buffer = bytes; mine.toString("hex");');
});

test("the DOM, where a cell asks for it, and Node's names beside it", async () => {
  const notebook = await Notebook.open();
  await notebook.expect(
    `/// <reference lib="dom" />
const el: HTMLElement = document.createElement("p"); const h: HeadersInit = [["a", "b"]]; const cc: Crypto = crypto; WebAssembly.validate(new Uint8Array(2)); new TextEncoder().encode("x"); fetch("x", { headers: h }); prompt("x");`,
  );
});

test("the library in one file says what the compiler's own does, which takes its place where a package refers to that", async () => {
  const joined = await Notebook.open();
  const separate = await Notebook.open(
    new Folder({
      "node_modules/refers/package.json": '{ "name": "refers", "types": "index.d.ts" }',
      "node_modules/refers/index.d.ts": '/// <reference lib="dom" />\nexport const page: HTMLElement;',
    }),
  );
  await joined.expect("document // error 2584");
  await separate.expect("document // error 2584", 'import { page } from "refers"; page.id; document.title;');
  for (const code of [
    "[1].map",
    "[1].reduce",
    "[1].flat",
    "Array.from",
    '"a".replace',
    '"a".at',
    "new Map([[1, 2]]).entries",
    "Promise.all",
    "Object.groupBy",
    "Object.entries",
    "Iterator.from",
    "new Set([1]).union",
    "Math.f16round",
    "new Uint8Array(2).subarray",
    "Intl.NumberFormat",
    "Reflect.apply",
    "Symbol.asyncDispose",
  ]) {
    const [one, other] = await Promise.all(
      [joined, separate].map(({ language }) => language.inspect(code, code.length, 0)),
    );
    assert.ok(one && other, code);
    assert.equal(one.plain, other.plain);
  }
});
