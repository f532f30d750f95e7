/**
 * No regular expression of the kernel takes more than linear time, whatever text it meets: one that does makes whoever
 * applies it deaf. The expressions are read from the kernel's own source, so that none is forgotten.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import fc from "fast-check";
import { parseSync } from "oxc-parser";
import { walk } from "../../kernel/language/source.js";

interface Expression {
  readonly where: string;
  readonly source: string;
  readonly flags: string;
}

/** A text that begins with something, repeats something, and ends with something. */
interface Shape {
  readonly prefix: string;
  readonly unit: string;
  readonly suffix: string;
}

const kernel = fileURLToPath(new URL("../../../kernel", import.meta.url));
/** Long enough to tell which texts an expression likes least. */
const short = 4000;
/** At this length, what grows by the square takes minutes, and what grows linearly milliseconds. */
const long = 1_000_000;
const patience = 60_000;
/** How many texts repeat a token, for each, and how many repeat several. */
const perToken = 8;
const mixed = 300;
/** How many of the texts that took longest are tried at full length. */
const tried = 8;

function sources(folder: string): string[] {
  return (
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      // What runs in the browser and at installation meets no cell of a kernel's.
      .filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts") && !file.startsWith("install"))
      .sort()
  );
}

/** All expressions, and where a RegExp is made of a string. */
function expressionsOf(folder: string): { found: Expression[]; made: string[] } {
  const found: Expression[] = [];
  const made: string[] = [];
  for (const file of sources(folder)) {
    const text = readFileSync(join(folder, file), "utf8");
    const { program } = parseSync(file, text, { lang: "ts", sourceType: "module" });
    const where = (at: number) => `kernel/${file}:${text.slice(0, at).split("\n").length}`;
    walk(program, (node) => {
      if (node.type === "Literal" && "regex" in node) {
        const { pattern, flags } = node.regex;
        found.push({ where: where(node.start), source: pattern, flags });
      }
      const called =
        node.type === "NewExpression" || node.type === "CallExpression" ? node.callee : undefined;
      if (called?.type === "Identifier" && called.name === "RegExp") made.push(where(node.start));
      return true;
    });
  }
  return { found, made };
}

/** What an expression is about: its own words and characters. */
function ownTokens({ source }: Expression): string[] {
  const literal = source.replace(/\\[pP]\{\w+\}|\\[bBdDsSwW]/g, " ").replace(/\\(.)/g, "$1");
  const words = literal.match(/[^()[\]{}|*+?.^$\s]{2,}/g) ?? [];
  return [...new Set([...words, ...literal])];
}

/** One of each kind of character. */
function anyTokens(): string[] {
  const classes = ["a", "Z", "7", "_", "$", "é", "𝒳", " ", "\t", "\n", "\r\n", "\u2028", "\u0000", "\x1b["];
  const punctuation = [..."()[]{}<>.,;:=+-*/%&|^!~?@#\\\"'`"];
  return [...classes, ...punctuation];
}

function textOf({ prefix, unit, suffix }: Shape, length: number): string {
  return prefix + unit.repeat(Math.max(1, Math.floor(length / unit.length))) + suffix;
}

/** What the code does with an expression: look once, or go through all matches. */
function apply({ source, flags }: Expression, text: string): void {
  const expression = new RegExp(source, flags);
  if (flags.includes("g")) for (const match of text.matchAll(expression)) void match;
  else if (flags.includes("y")) while (expression.exec(text) !== null);
  else expression.exec(text);
}

/** In a thread of its own, which can be ended: says what it is about to do, and does it. */
function runExpressions(expressions: readonly Expression[]): void {
  for (const expression of expressions) {
    const own = ownTokens(expression);
    const token = fc.oneof(fc.constantFrom(...own), fc.constantFrom(...anyTokens()));
    const text = (max: number, min = 0) =>
      fc.array(token, { minLength: min, maxLength: max }).map((tokens) => tokens.join(""));
    // The same texts at each run: a failure is the expression's, not the day's.
    const sample = (unit: fc.Arbitrary<string>, numRuns: number) =>
      fc.sample(fc.record({ prefix: text(3), unit, suffix: text(2) }), { numRuns, seed: 1 });
    const words = own.flatMap((token) => [" ", "\n", " a\n"].map((end) => token + end));
    const singles = [...own, ...anyTokens(), ...words].flatMap((unit) => sample(fc.constant(unit), perToken));
    const slowest = [...singles, ...sample(text(3, 1), mixed)]
      .map((sample) => ({ sample, time: timeOf(expression, textOf(sample, short)) }))
      .sort((a, b) => b.time - a.time)
      .slice(0, tried);
    for (const { sample } of slowest) {
      parentPort!.postMessage({ expression, sample });
      apply(expression, textOf(sample, long));
    }
  }
}

function timeOf(expression: Expression, text: string): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 2; i += 1) {
    const start = performance.now();
    apply(expression, text);
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

interface Doing {
  readonly expression: Expression;
  readonly sample: Shape;
}

/** Resolves with what was under way when nothing went on for so long as to be without end. */
function firstWithoutEnd(expressions: readonly Expression[], deadline: number): Promise<Doing | undefined> {
  const worker = new Worker(new URL(import.meta.url), { workerData: expressions });
  return new Promise((resolve, reject) => {
    let doing: Doing | undefined;
    const onLate = () => {
      void worker.terminate();
      resolve(doing ?? { expression: expressions[0]!, sample: { prefix: "", unit: "", suffix: "" } });
    };
    let timer = setTimeout(onLate, deadline);
    worker.on("message", (message: Doing) => {
      doing = message;
      clearTimeout(timer);
      timer = setTimeout(onLate, deadline);
    });
    worker.on("error", reject);
    worker.on("exit", () => {
      clearTimeout(timer);
      resolve(undefined);
    });
  });
}

function describe({ expression, sample }: Doing): string {
  const { where, source, flags } = expression;
  return `${where}: /${source}/${flags} on ${JSON.stringify(sample)}`;
}

if (isMainThread) {
  const { found, made } = expressionsOf(kernel);

  test("the kernel's regular expressions are found", () => {
    assert.ok(found.length > 80, `${found.length}`);
    // What is made of strings has to be looked at by a person. These match URLs of scripts.
    assert.deepEqual(
      made.map((where) => where.replace(/:\d+$/, "")),
      ["kernel/debugger/sources.ts"],
    );
  });

  test("an expression that grows by the square is noticed", async () => {
    const slow = [
      /\s+$/,
      /[\p{ID_Continue}$]*$/u,
      /(cell-[\w.-]+?\.tsx?):(\d+)/g,
      /^import\b([^"'=;(]*?)\bfrom\b/gm,
      /^(a+)+$/,
    ];
    await Promise.all(
      slow.map(async ({ source, flags }) => {
        const doing = await firstWithoutEnd([{ where: "here", source, flags }], 3000);
        assert.ok(doing, source);
      }),
    );
  });

  test("no expression grows faster than its text", async () => {
    const slow = await firstWithoutEnd(found, patience);
    assert.equal(slow && describe(slow), undefined);
  });
} else {
  runExpressions(workerData as Expression[]);
}
