/**
 * What later cells know of names that earlier ones declared. Each case is a list of cells; the errors that a cell must have
 * stand in its comments: `// error 2322`.
 */
import { test } from "node:test";
import { Notebook } from "./support.js";

const notebook = await Notebook.open();

function cases(group: string, table: Readonly<Record<string, readonly string[]>>): void {
  for (const [name, cells] of Object.entries(table)) {
    test(`${group}: ${name}`, async () => {
      notebook.language.reset();
      await notebook.expect(...cells);
    });
  }
}

cases("a name is a value and a type", {
  "a value, then the type made of it": [
    `const User = { parse(x: unknown): { name: string } { return x as { name: string }; } };`,
    `type User = ReturnType<typeof User.parse>;`,
    `const u: User = User.parse({}); u.name.length;`,
    `u.nope // error 2339`,
    `const bad: User = { name: 1 }; // error 2322`,
  ],
  "an interface, then a function of its name": [
    `interface Point { x: number; y: number }`,
    `const Point = (x: number, y: number): Point => ({ x, y });`,
    `const p: Point = Point(1, 2); p.x.toFixed();`,
    `Point(1) // error 2554`,
  ],
  "a class, then an interface: the class still makes its own instances": [
    `class Box { value = 1; }`,
    `interface Box { width: number }`,
    `const b: Box = { width: 1 }; const c = new Box(); c.value.toFixed();`,
    `b.value // error 2339`,
    `c.width // error 2339`,
  ],
  "an interface, then a class, which is both": [
    `interface Shape { r: number }`,
    `class Shape { w = 1 }`,
    `const s: Shape = new Shape(); s.w;`,
    `s.r // error 2339`,
  ],
  "a variable and a type declared in one cell; the variable is assigned later": [
    `let Mode = "a"; type Mode = string | number;`,
    `Mode = "b"; const m: Mode = 5;`,
    `Mode = 5 // error 2322`,
  ],
  "an enum, then a constant": [
    `enum Color { Red = "r" }`,
    `const Color = { Red: "x" as Color };`,
    `const cc: Color = Color.Red;`,
  ],
  "a generic class, then a constant": [
    `class Stack<T> { items: T[] = []; }`,
    `const Stack = { of<T>(...items: T[]): Stack<T> { return { items }; } };`,
    `const st: Stack<number> = Stack.of(1, 2); st.items[0].toFixed();`,
  ],
  "imports of every form, then types of their names, and the other way round": [
    `import { Stats } from "node:fs";`,
    `interface Stats2 { a: 1 }`,
    `interface Dirent { mine: true }`,
    `import { type Dirent as D } from "node:fs"; const d: Dirent = { mine: true };`,
    `import fs from "node:fs";`,
    `type fs = { q: 1 };`,
    `const f: fs = { q: 1 }; fs.existsSync("x");`,
    `import * as path from "node:path";`,
    `interface path { z: 1 }`,
    `const pp: path = { z: 1 }; path.join("a");`,
    `import { Stats as ST } from "node:fs";`,
    `const ST = 5;`,
    `const one: ST | undefined = undefined; ST.toFixed();`,
    `ST.length // error 2339`,
  ],
  "a constant, then a type that is imported": [
    `const Stats = { a: 1 };`,
    `import type { Stats } from "node:fs"; const q: Stats | null = null;`,
    `const q2: Stats | null = null; Stats.a.toFixed();`,
  ],
  "a function and a type, then another type": [
    `function Result(x: number): Result { return { ok: x }; }
interface Result { ok: number }`,
    `const r: Result = Result(1); r.ok;`,
    `type Result = { other: string };`,
    `const r2: Result = { other: "x" }; Result(1).ok;`,
  ],
  "a namespace of types beside a constant": [
    `const N = 5; namespace N { export type T = "t" }`,
    `const t: N.T = "t"; N.toFixed();`,
  ],
});

cases("what a cell finds out about a variable", {
  "throw unless there is a value, also in functions of later cells": [
    `const token = process.env.HOME;
if (!token) throw new Error("no token");`,
    `token.length; const f = () => token.length; function g() { return token.length; }`,
  ],
  "declared in one cell, narrowed in the next": [
    `const token = process.env.HOME;`,
    `token.length // error 18048`,
    `if (!token) throw new Error("no token");`,
    `token.length`,
  ],
  "find, Map.get and match": [
    `const users = [{ n: "a" }]; const user = users.find((u) => u.n === "a");
if (!user) throw new Error("x");
const map = new Map([["a", { v: 1 }]]); const got = map.get("a"); if (got === undefined) { throw new Error("y"); }
const m = "a1".match(/(?<d>\\d)/); if (!m?.groups) throw new Error("z");`,
    `user.n.length; got.v.toFixed(); m.groups.d.length; m.index;`,
    `user.x // error 2339`,
  ],
  "a variable that is assigned, emptied and assigned again": [
    `let conn: { q(): number } | undefined;
conn = { q: () => 5 };`,
    `conn.q();`,
    `conn = undefined;`,
    `conn.q() // error 18048`,
    `conn = { q: () => 6 };`,
    `conn.q(); const later = () => conn.q();`,
  ],
  "a variable may be assigned whatever its declaration allows": [
    `let u: string | number = 5;`,
    `u.toFixed();`,
    `u = "six";`,
    `u.toUpperCase();`,
    `u = true // error 2322`,
    `if (typeof u === "number") u.toFixed(); else u.trim();`,
    `u.toFixed() // error 2339`,
  ],
  "assertion functions, also of what is unknown or any": [
    `const v: unknown = JSON.parse('{"a":1}');
function isA(x: unknown): asserts x is { a: number } { if (typeof x !== "object") throw 0; }
isA(v);
const w = JSON.parse("{}"); isA(w);`,
    `v.a.toFixed(); w.a.toFixed();`,
    `v.b // error 2339`,
    `w.b // error 2339`,
  ],
  "instanceof, discriminated unions, destructured ones": [
    `type R = { kind: "ok"; v: number } | { kind: "err"; e: string };
const load = (): R => ({ kind: "ok", v: 1 });
const r = load(); if (r.kind !== "ok") throw new Error(r.e);
class A { a = 1 } class B { b = 1 } const ab = (): A | B => new A(); const o = ab(); if (!(o instanceof A)) throw new Error();
const { data, error } = await (async (): Promise<{ data: number[]; error: null } | { data: null; error: Error }> => ({ data: [1], error: null }))(); if (error) throw error;`,
    `r.v.toFixed(); o.a; data.length;`,
    `r.e // error 2339`,
    `data.foo // error 2339`,
  ],
  loops: [
    `let found: { n: number } | undefined; for (const n of [1, 2]) { if (n > 1) { found = { n }; break; } }
if (!found) throw new Error();
let tries = 0; let res: string | null = null; while (res === null) { tries += 1; if (tries > 2) res = "x"; }`,
    `found.n; res.length;`,
  ],
  "empty now, filled by a callback": [
    `let late: { n: number } | null = null;`,
    `setTimeout(() => { late = { n: 1 }; }, 1);`,
    `if (late) late.n; late?.n;`,
    `late.n // error 18047`,
  ],
  "a constant of several modes can be compared with each": [
    `const mode: "train" | "eval" = "train"; let state: "a" | "b" = "a";`,
    `if (mode === "eval") console.log(1); if (state === "b") console.log(2); state = "b";`,
    `state = "a"; if (state === "a") console.log(3);`,
    `if (state === "b") console.log(3);`,
  ],
  "a constant declared as a union is what it was given, or what it was declared as": [
    `type R = { kind: "ok"; v: number } | { kind: "err"; e: string };
const r: R = { kind: "ok", v: 1 };`,
    `r.v`,
    `if (r.kind === "err") r.e;`,
  ],
  "properties, also of process.env": [
    `const cfg: { key?: string; deep: { n: number | null } } = { deep: { n: null } };
if (!cfg.key || cfg.deep.n === null) throw new Error();
if (!process.env.TOKEN) throw new Error("no");`,
    `cfg.key.length; cfg.deep.n.toFixed(); process.env.TOKEN.length;`,
    `cfg.key = undefined;`,
    `cfg.key.length // error 18048`,
  ],
  "node:assert": [
    `import assert from "node:assert/strict";
const x = [1].at(0), y: { z?: string } = {};
assert(x !== undefined); assert.ok(y.z);`,
    `x.toFixed(); y.z.length;`,
  ],
  "a variable declared again is not narrow any more": [
    `let a: string | undefined = process.env.A; if (!a) throw 0;`,
    `a.length`,
    `let a: string | undefined = process.env.A;`,
    `a.length // error 18048`,
  ],
  "arrays and variables that begin empty go on taking their types from use": [
    `const list = []; list.push(1); let later; later = "x"; const acc = [];
if (list.length > 5) throw 0;`,
    `list.push("y"); later = 5; acc.push(1);`,
  ],
  "a switch whose other cases throw": [
    `type S = { t: "a"; n: number } | { t: "b"; s: string };
const s = ((): S => ({ t: "a", n: 1 }))(); 
switch (s.t) { case "a": break; default: throw new Error(s.s); }`,
    `s.n`,
  ],
  "try and catch": [
    `let val: number | undefined; try { val = JSON.parse("1") as number; } catch (e) { throw new Error("bad", { cause: e }); }`,
    `val.toFixed()`,
  ],
  "functions that never return, process.exit": [
    `function fail(m: string): never { throw new Error(m); }
const q = process.env.Q; if (!q) fail("no q"); const w2 = process.env.W; if (!w2) process.exit(1);
const e3 = process.env.E ?? fail("x");`,
    `q.length; w2.length; e3.length;`,
  ],
  "instances of a class of the notebook": [
    `class Conn { open = true; query() { return 1; } } let c: Conn | null = null; c = new Conn();`,
    `c.query(); c = null;`,
    `c = new Conn(); c.query()`,
    `c.query(); c.nope // error 2339`,
  ],
  "a real error beside a narrowed variable": [
    `let n: number | undefined = undefined; n = 5;`,
    `n.toFixed(); const s: string = n; // error 2322`,
  ],
  "destructured values": [
    `const [first] = [1, 2] as (number | undefined)[]; if (first === undefined) throw 0; const { a = 1, b } = { a: 2, b: process.env.B }; if (b == null) throw 0;`,
    `first.toFixed(); b.length; a.toFixed();`,
  ],
  "elements of arrays": [
    `const rows: { a: number | null }[] = [{ a: 1 }]; if (rows[0].a === null) throw 0;`,
    `rows[0].a.toFixed()`,
  ],
  "properties of a variable that is narrowed, and real errors in them": [
    `let v: { b?: { c: number } } | null = null; v = { b: { c: 1 } };`,
    `v.b.c // error 18048`,
    `if (v.b) v.b.c.toFixed(); v.b?.c; v?.b;`,
    `v.zz // error 2339`,
    `v = null;`,
    `v.b // error 18047`,
  ],
  "closures and patterns in later cells": [
    `let user: { name: string } | undefined = [{ name: "a" }].find((u) => u.name); if (!user) throw 0;`,
    `const { name: nm } = user; const get = () => user.name; const names = [user].map((u) => u.name);`,
    `names[0].length; nm.length; for (const k of names) k.length;`,
  ],
  "a variable that a loop may empty": [
    `let rows: number[] | undefined; rows = [1];`,
    `for (const r of rows) { rows = r > 1 ? undefined : rows; }`,
    `rows.length // error 18048`,
  ],
  promises: [
    `let p: Promise<number> | null = null;`,
    `p = Promise.resolve(1); const got = await p; got.toFixed();`,
    `(await p).toFixed();`,
  ],
  "a variable that a function of another cell assigns": [
    `let count: number | undefined;
function setup() { count = 5; }`,
    `setup();`,
    `count.toFixed() // error 18048`,
    `if (count === undefined) throw 0;`,
    `count.toFixed(); setup();`,
    `count.toFixed()`,
  ],
  "typeof in types": [
    `let cur: { a: number } | string | null = null; cur = { a: 1 };`,
    `type Cur = typeof cur; const x: NonNullable<Cur> = { a: 2 }; cur.a.toFixed();`,
  ],
  "parameters of the same name": [
    `let val: string | undefined = process.env.X; if (!val) throw 0;`,
    `function f(val: number) { return val.toFixed(); } f(1); const g = (x = val) => x.length;`,
  ],
  "members of enums": [
    `enum E { A, B } let e: E = E.A;`,
    `if (e === E.B) console.log("b");`,
    `switch (e) { case E.A: break; case E.B: break; }`,
  ],
  booleans: [
    `let done: boolean = false; let flag = false as boolean; const yes = true as boolean; if (!yes) throw 0;`,
    `if (done === true) console.log(1); while (!done) { done = true; } if (flag === true) console.log(2);`,
    `if (done === false) console.log(1);`,
  ],
});

cases("functions in later cells are what they were declared as", {
  "parameters, results, overloads, predicates, properties": [
    `function plain(x: number, y?: string, ...z: boolean[]) { return y ? { x, y } : null; }
     async function later(x = 1) { return [x]; } function* ids() { yield 1; } function never(m: string): never { throw new Error(m); }
     function over(x: string): number; function over(x: number): string; function over(x: any): any { return x; }
     function isText(x: unknown): x is string { return typeof x === "string"; } function pick({ a }: { a: number }) { return a; }
     function counted() { counted.calls += 1; } counted.calls = 0; function same<T>(x: T) { return x; }
     function Shape(this: { r: number }, k: number) { return this.r * k; } interface Point { x: number } function point(): Point { return { x: 1 }; }`,
    `plain(1)?.x; plain(1, "a", true)?.y.length; (await later())[0]?.toFixed(); for (const id of ids()) id.toFixed();
     over("x").toFixed(); over(1).length; pick({ a: 1 }).toFixed(); counted.calls.toFixed(); same("x").length; Shape.call({ r: 1 }, 2); point().x;
     const text: unknown = "x"; if (isText(text)) text.length; const home = process.env.HOME ?? never("x"); home.length;`,
    "const maybe = process.env.MAYBE; if (!maybe) never('none');",
    "maybe.length; type Result = ReturnType<typeof plain>; const r: Result = null;",
    "plain() // error 2555",
    "plain('x') // error 2345",
    "plain = never // error 2630",
    "Shape(1) // error 2684",
    "interface Map { mine: true } function map(): globalThis.Map<string, number> { return new globalThis.Map(); }",
    "map().get('x')?.toFixed();",
  ],
  "a chain of them needs no more than the last": [
    "function c0(x: number) { return x; }",
    ...Array.from({ length: 30 }, (_, i) => `function c${i + 1}(x: number) { return c${i}(x) + 1; }`),
    "c30(1).toFixed();",
    "c30(1).length // error 2339",
  ],
});

cases("a cell that runs again unchanged declares the same types", {
  "a class with private members": [
    `class Stack<T> { private items: T[] = []; push(x: T) { this.items.push(x); } get size() { return this.items.length; } }`,
    `const st = new Stack<number>(); st.push(1); const items = [1];`,
    `class Stack<T> { private items: T[] = []; push(x: T) { this.items.push(x); } get size() { return this.items.length; } }`,
    `function sizeOf(s: Stack<number>) { return s.size; }
sizeOf(st)`,
    `class Stack<T> { private items: T[] = []; push(x: T) { this.items.push(x); } get size() { return this.items.length; } more = 1 }`,
    `sizeOf(new Stack<number>()) // error 2345`,
  ],
  "an enum and a unique symbol": [
    `enum Color { Red = "r", Blue = "b" } const KEY: unique symbol = Symbol("k");`,
    `const c: Color = Color.Red; const o = { [KEY]: 1 };`,
    `enum Color { Red = "r", Blue = "b" } const KEY: unique symbol = Symbol("k");`,
    `function paint(x: Color) { return x; }
paint(c); o[KEY].toFixed();`,
  ],
  "an abstract class and one that extends it": [
    `abstract class Shape { protected id = 1; abstract area(): number; }`,
    `class Sq extends Shape { constructor(private s: number) { super(); } area() { return this.s ** 2; } }
const shapes: Shape[] = [new Sq(2)];`,
    `abstract class Shape { protected id = 1; abstract area(): number; }`,
    `shapes.push(new Sq(3)); const more: Shape[] = shapes;`,
    `class Sq extends Shape { constructor(private s: number) { super(); } area() { return this.s ** 2; } }
const shapes: Shape[] = [new Sq(2)];`,
    `const again: Shape[] = [...more, ...shapes]; const sq: Sq = new Sq(1);`,
  ],
});
