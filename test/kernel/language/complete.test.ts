import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Folder, Notebook } from "./support.js";

const notebook = await Notebook.open(
  new Folder({
    "helper.ts": "export const h = 1;\n",
    "sub/deep.ts": "export const d = 1;\n",
    "data.json": "{}",
  }),
);

before(() =>
  notebook.ok(
    `/** The answer. */ let answer = 42; const names = ["a"]; interface Point { x: number; y: number }
/** Adds. @param a the first */
function add(a: number, b: number): number {
  return a + b;
}
class Box<T> { constructor(readonly value: T) {} /** Opens it. */ open(): T { return this.value; } }
import * as os from "node:os"; enum Color { Red, Green }`,
  ),
);

async function complete(code: string) {
  const cursor = code.includes("|") ? code.indexOf("|") : code.length;
  const text = code.replace("|", "");
  const { items, start, end } = await notebook.language.complete(text, cursor);
  return { items, texts: items.map((item) => item.text), start, end };
}

test("a name that nothing declares is offered with its import, in whatever place the cell is written", async () => {
  const { items, start, end } = await complete("  const text = readFileSy|\nlater()");
  assert.deepEqual(items, [
    { text: 'import { readFileSync } from "node:fs";\nconst text = readFileSync', type: "function" },
  ]);
  assert.deepEqual([start, end], [2, 25]);
  // What is declared comes first, and members, strings, comments and imports are something else.
  assert.deepEqual((await complete("answ")).texts, ["answer"]);
  for (const code of ["answer.readFileSy", "'readFileSy", "// readFileSy", "import { readFileSy", "re"])
    assert.ok(!(await complete(code)).texts.some((text) => text.startsWith("import {")), code);
  const behind = await complete('import { join } from "node:path"\nreadFileSy');
  assert.deepEqual(behind.texts.length, 1);
  assert.deepEqual((await complete("noSuchNameAnywhere")).texts, []);
  assert.ok((await complete("tmpd")).texts[0]?.startsWith('import { tmpdir } from "node:os";'));
});

test("members, with kinds and signatures, and what they replace", async () => {
  const { items, start, end } = await complete("os.hostn");
  assert.deepEqual(items, [{ text: "hostname", type: "function", signature: "(): string" }]);
  assert.deepEqual([start, end], [3, 8]);
  assert.deepEqual((await complete("answer.toFi")).texts, ["toFixed"]);
  assert.deepEqual((await complete('"x".toUpperC')).texts, ["toUpperCase"]);
  assert.ok((await complete("names.")).texts.includes("push"));
  assert.deepEqual((await complete("Color.")).texts, ["Green", "Red"]);
  assert.deepEqual((await complete("new Box(1).op")).texts, ["open"]);
});

test("names of earlier cells, with their kinds", async () => {
  const { items } = await complete("a");
  const kind = (name: string) => items.find(({ text }) => text === name)?.type;
  assert.equal(kind("add"), "function");
  assert.equal(kind("answer"), "variable");
  assert.equal((await complete("Bo")).items.find(({ text }) => text === "Box")?.type, "class");
  assert.equal((await complete("Col")).items.find(({ text }) => text === "Color")?.type, "enum");
  assert.ok((await complete("cons")).texts.includes("console"));
  assert.ok((await complete("displ")).texts.includes("display"));
});

test("in code that is not complete, and in the middle of a cell", async () => {
  assert.deepEqual((await complete("function f(z: string) {\n  if (z) {\n    z.spl")).texts, ["split"]);
  assert.deepEqual((await complete("const local = { apple: 1 };\nlocal.|\nadd(1, 2);")).texts, ["apple"]);
  assert.deepEqual((await complete("const p: Point = { ")).texts, ["x", "y"]);
  assert.deepEqual((await complete("add(answer.toPr")).texts, ["toPrecision"]);
});

test("a name that the cell declares anew is the cell's own, also while it does not parse", async () => {
  assert.deepEqual((await complete("const answer = 'text';\nanswer.toUpperC")).texts, ["toUpperCase"]);
  assert.deepEqual((await complete("const answer = 'text';\nanswer.toUpperC|\nfoo(")).texts, ["toUpperCase"]);
});

test("places are counted in UTF-16 units", async () => {
  const { start, end, texts } = await complete("'😀'; os.hostn");
  assert.deepEqual([texts, start, end], [["hostname"], 9, 14]);
});

test("module names and paths in import specifiers", async () => {
  assert.deepEqual((await complete('import x from "node:os')).texts, ["node:os"]);
  const paths = await complete('import { h } from "./');
  assert.ok(paths.texts.includes("helper"), `${paths.texts}`);
  assert.ok(paths.texts.includes("sub"));
  assert.ok(paths.texts.includes("data.json"));
  const deep = await complete('await import("./sub/d|")');
  assert.deepEqual(deep.texts, ["deep"]);
  assert.deepEqual([deep.start, deep.end], [20, 21]);
  assert.deepEqual(
    (await complete('import { | } from "./helper"')).texts.filter((text) => text === "h"),
    ["h"],
  );
});

test("nothing fits, nothing is offered", async () => {
  const { items, start, end } = await complete("zzzNothing");
  assert.deepEqual(items, []);
  assert.deepEqual([start, end], [0, 10]);
});

test("inspection: signature and documentation, as Markdown and as text", async () => {
  const found = await notebook.language.inspect("os.hostname()", 6, 0);
  assert.match(
    found!.markdown,
    /^```typescript\nfunction os\.hostname\(\): string|^```typescript\nfunction hostname\(\): string/,
  );
  assert.match(found!.plain, /Returns the host name/);
  assert.doesNotMatch(found!.plain, /```/);
  const own = await notebook.language.inspect("add", 3, 0);
  assert.match(own!.markdown, /function add\(a: number, b: number\): number/);
  assert.match(own!.markdown, /Adds\./);
  assert.match(own!.plain, /^@param a — the first$/m);
});

test("inspection of a variable of an earlier cell finds its documentation", async () => {
  const found = await notebook.language.inspect("answer + 1", 2, 0);
  assert.match(found!.plain, /let answer: number/);
  assert.match(found!.plain, /The answer\./);
});

test("a variable that a cell narrowed has its members, and its documentation", async () => {
  await notebook.ok(
    "/** Where to. */\nconst home = process.env.HOME;\nif (!home) throw new Error('none');\nlet link: { send(): void } | null = null;",
    "link = { send() {} };",
  );
  assert.deepEqual((await complete("home.toUpperC")).texts, ["toUpperCase"]);
  assert.deepEqual((await complete("link.se")).texts, ["send"]);
  const found = await notebook.language.inspect("home", 2, 0);
  assert.match(found!.plain, /const home: string$/m);
  assert.match(found!.plain, /Where to\./);
  assert.deepEqual((await complete("link; home; __firstframe")).texts, []);
});

test("inspection among a call's arguments shows the call's signature", async () => {
  const found = await notebook.language.inspect("add( ", 5, 0);
  assert.match(found!.plain, /add\(a: number, b: number\): number/);
});

test("inspection with detail shows the source, of cells and of files", async () => {
  const own = await notebook.language.inspect("add", 1, 1);
  assert.match(own!.plain, /function add\(a: number, b: number\): number \{\n {2}return a \+ b;\n\}/);
  await notebook.ok('import { h } from "./helper";');
  const file = await notebook.language.inspect("h", 1, 1);
  assert.match(file!.plain, /const h = 1|h = 1/);
});

test("inspection of a type by its name alone", async () => {
  await notebook.ok("/** A place. */\ninterface Place {\n  x: number;\n}\ntype Places = Place[];");
  const found = await notebook.language.inspect("Place", 5, 1);
  assert.match(found!.plain, /^interface Place\nA place\./);
  assert.match(found!.plain, /x: number;\n\}/);
  assert.match((await notebook.language.inspect("Places", 3, 0))!.plain, /^type Places = Place\[\]/);
});

test("inspection of a name that is not there finds nothing", async () => {
  assert.equal(await notebook.language.inspect("nowhere", 3, 0), null);
  assert.equal(await notebook.language.inspect("", 0, 0), null);
});
