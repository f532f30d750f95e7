import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { languageTarget } from "../../kernel/server/typing.js";
import { busyUntil, startKernel, type TestKernel } from "./support.js";

/** What a front end asks while somebody is typing, over a comm of a real kernel. */

interface Found {
  readonly severity: string;
  readonly code: number;
  readonly message: string;
  readonly start: number;
  readonly end: number;
}

interface Answer {
  readonly id: unknown;
  readonly status: string;
  readonly checked?: boolean;
  readonly diagnostics?: Found[];
  readonly found?: boolean;
  readonly data?: Record<string, string>;
  readonly start?: number;
  readonly end?: number;
  readonly place?: { cell?: number; start?: number; end?: number; file?: string; line?: number } | null;
  readonly ename?: string;
  readonly evalue?: string;
}

/** An open comm, and what comes back over it. */
class Front {
  readonly answers: Answer[] = [];
  private readonly id = randomUUID();
  private readonly waiting = new Map<unknown, (answer: Answer) => void>();
  private last = 0;

  constructor(private readonly kernel: TestKernel) {
    kernel.client.listen(({ header, content }) => {
      if (header.msg_type !== "comm_msg" || content.comm_id !== this.id) return;
      const answer = content.data as Answer;
      this.answers.push(answer);
      this.waiting.get(answer.id)?.(answer);
    });
    kernel.client.post("comm_open", { comm_id: this.id, target_name: languageTarget, data: {} });
  }

  send(data: object): Promise<Answer> {
    this.last += 1;
    const id = this.last;
    const answer = new Promise<Answer>((resolve) => this.waiting.set(id, resolve));
    this.kernel.client.post("comm_msg", { comm_id: this.id, data: { id, ...data } });
    return answer;
  }

  /** What is wrong with the last of these cells. */
  async errors(...cells: string[]): Promise<string[]> {
    const answer = await this.send({ method: "diagnostics", cells, cell: cells.length - 1 });
    assert.equal(answer.status, "ok", JSON.stringify(answer));
    const text = cells.at(-1)!;
    return answer.diagnostics!.map(
      ({ severity, code, start, end }) => `${severity} ${code} ${text.slice(start, end)}`,
    );
  }

  /** Asks about the place marked with `|` in the last cell. */
  at(method: "hover" | "definition", ...cells: string[]): Promise<Answer> {
    const last = cells.at(-1)!;
    const cursor = last.indexOf("|");
    const texts = [...cells.slice(0, -1), last.replace("|", "")];
    return this.send({ method, cells: texts, cell: texts.length - 1, cursor });
  }

  async place(...cells: string[]): Promise<string | null> {
    const { place } = await this.at("definition", ...cells);
    if (!place) return null;
    if (place.file !== undefined) return `${place.file}:${place.line}`;
    const text = cells[place.cell!]!.replace("|", "");
    return `${place.cell}:${place.start} ${text.slice(place.start, place.end)}`;
  }
}

const kernel = await startKernel();
const front = new Front(kernel);

describe("diagnostics", () => {
  test("know the types of cells that have run, at UTF-16 positions", async () => {
    const first =
      "interface Point { x: number }\nfunction shift(p: Point, by: number): Point { return { x: p.x + by }; }";
    await kernel.run(first);
    assert.deepEqual(await front.errors(first, 'const s = "😀"; shift({ x: 1 }, "two")'), [
      'error 2345 "two"',
    ]);
    assert.deepEqual(await front.errors(first, "shift({ x: 1 }, 2).x"), []);
    assert.deepEqual(await front.errors(first, "shift({ x: 1 }, 2).y"), ["error 2339 y"]);
    assert.deepEqual(await front.errors("nowhere()"), ["error 2304 nowhere"]);
  });

  test("are those of the run: the same messages, magics left out, syntax as its own", async () => {
    const code = '%time const n: number = "a";\nlet m: string = 1;';
    const { diagnostics } = await front.send({ method: "diagnostics", cells: [code], cell: 0 });
    const { text } = await kernel.run(code);
    assert.equal(diagnostics!.length, 2);
    for (const { code, message } of diagnostics!) assert.ok(text.includes(`TS${code}: ${message}`), text);
    const broken = "const a = (1 + ;";
    const [found] = (await front.send({ method: "diagnostics", cells: [broken], cell: 0 })).diagnostics!;
    const ran = await kernel.run(broken);
    assert.equal((ran.reply as { evalue?: string }).evalue, `TS${found!.code}: ${found!.message}`);
    assert.deepEqual(await front.errors("// @ts-nocheck\nmissing();"), []);
    assert.deepEqual(await front.errors("%%bash\nls --nothing"), []);
    assert.deepEqual(await front.errors("!ls -la"), []);
    assert.deepEqual(await front.errors("exit"), []);
    assert.deepEqual(await front.errors("!ls\n%nothing 1\nmissing()"), ["error 0 %nothing 1"]);
  });

  test("say nothing about names of cells above that have not run", async () => {
    const above = [
      "const rows = [{ a: 1 }];\nlet count = 0;\nclass Box<T> { value!: T }\nenum Color { Red }\nnamespace Deep { export type T = 1 }",
      'import { readFileSync } from "node:fs";\nimport type { Missing } from "missing-package";',
      "type Pair<A, B> = [A, B]; interface Shape { area: number }",
      "const broken = (1 +;",
    ];
    const uses = [
      "rows.map((row) => row.a).filter((a) => a.b)",
      "count = 3; count += 1; rows[0].nothing.more",
      "class More extends Box<string> {}\nlet b: Box<number>; new Box<string>().value.x",
      "const c: Color.Red = Color.Red; let t: Deep.T",
      "readFileSync('x', 'utf8').length; let m: Missing",
      "const p: Pair<number, string> = [1]; class S implements Shape {}\ninterface T extends Shape { more: 1 }",
      "broken + 1",
      "const rows = 1; rows + 1",
      "for (const { a } of rows) console.log(a); const [x] = rows; Object.entries(rows).map(([k, v]) => v.a)",
    ];
    assert.equal((await front.errors(uses[0]!))[0], "error 2304 rows");
    for (const use of uses) assert.deepEqual(await front.errors(...above, use), [], use);
    // What the cells above don't declare, and what the cell itself does wrong, is said.
    assert.deepEqual(await front.errors(...above, 'const q: number = "x"; rows.x; nowhere'), [
      "error 2322 q",
      "error 2304 nowhere",
    ]);
    // A later cell is none above.
    const { diagnostics } = await front.send({
      method: "diagnostics",
      cells: ["later", "const later = 1"],
      cell: 0,
    });
    assert.equal(diagnostics!.length, 1);
  });

  test("take what has run for the truth, unless it was written anew above", async () => {
    await kernel.run("const width: number = 3;");
    assert.deepEqual(await front.errors("const width: number = 3;", "width.toUpperCase()"), [
      "error 2339 toUpperCase",
    ]);
    assert.deepEqual(await front.errors('const width = "3";', "width.toUpperCase()"), []);
    assert.deepEqual(await front.errors("width.toUpperCase()"), ["error 2339 toUpperCase"]);
    // Checking what is only written changes nothing for what runs.
    await front.errors('const width = "wide"; const only = 1;');
    assert.match((await kernel.run("width.toFixed(1)")).text, /3\.0/);
    assert.match((await kernel.run("only")).text, /TS2304/);
  });

  test("are answered while a cell is executed", async () => {
    let found: string[] | undefined;
    const ran = await busyUntil(kernel, async () => {
      found = await front.errors("width.toUpperCase()");
    });
    assert.equal(ran.reply.status, "ok");
    assert.deepEqual(found, ["error 2339 toUpperCase"]);
  });

  test("of a text that is replaced are not made: the newest counts", async () => {
    // All that is asked while this is checked waits together.
    const long = front.send({
      method: "diagnostics",
      cells: [
        Array.from({ length: 3000 }, (_, i) => `let long${i}: { n: string } = { n: ${i} };`).join("\n"),
      ],
      cell: 0,
      cell_id: "long",
    });
    const asked = Array.from({ length: 40 }, (_, i) =>
      front.send({ method: "diagnostics", cells: [`const n: string = ${i};`], cell: 0, cell_id: "same" }),
    );
    const other = front.send({
      method: "diagnostics",
      cells: ["let o: string = 1"],
      cell: 0,
      cell_id: "other",
    });
    const answers = await Promise.all(asked);
    assert.equal(answers.at(-1)!.diagnostics?.[0]?.code, 2322);
    const statuses = answers.slice(0, -1).map(({ status }) => status);
    assert.ok(statuses.filter((status) => status === "replaced").length >= 30, statuses.join(" "));
    assert.equal((await other).diagnostics?.length, 1);
    assert.ok((await long).diagnostics!.length > 1);
    assert.doesNotMatch(kernel.log, /nobody waits/);
  });

  test("make way for cells that run, and are made afterwards", async () => {
    const many = Array.from({ length: 30 }, (_, i) => `let v${i}: string = ${i};`).join("\n");
    const asked = Array.from({ length: 5 }, (_, i) =>
      front.send({ method: "diagnostics", cells: [`${many}\n// ${i}`], cell: 0, cell_id: `many ${i}` }),
    );
    const ran = await Promise.all([1, 2, 3].map((n) => kernel.run(`const ran${n} = ${n}; ran${n}`)));
    assert.deepEqual(
      ran.map(({ text }) => text),
      ["1", "2", "3"],
    );
    for (const { diagnostics } of await Promise.all(asked)) assert.equal(diagnostics?.length, 30);
  });

  test("follow %check", async () => {
    const wrong = 'const z: number = "z";';
    await kernel.run("%check off");
    const off = await front.send({ method: "diagnostics", cells: [wrong], cell: 0 });
    assert.deepEqual([off.checked, off.diagnostics], [false, []]);
    assert.deepEqual(await front.errors(`%check before\n${wrong}`), ["error 2322 z"]);
    await kernel.run("%check warn");
    assert.deepEqual(await front.errors(wrong), ["warning 2322 z"]);
    await kernel.run("%check before");
    const own = await front.send({ method: "diagnostics", cells: [`%check off\n${wrong}`], cell: 0 });
    assert.deepEqual([own.checked, own.diagnostics], [false, []]);
  });
});

test("hover says what inspection says, for names only", async () => {
  await kernel.run("/** Makes it twice as large. */\nfunction twice(n: number): number { return 2 * n; }");
  const hover = await front.at("hover", 'const s = "😀"; tw|ice(3)');
  assert.match(hover.data!["text/markdown"]!, /twice\(n: number\): number[\s\S]*Makes it twice as large/);
  assert.deepEqual([hover.found, hover.start, hover.end], [true, 16, 21]);
  for (const nothing of ["twice( | )", "unheardOf|", "// tw|ice"])
    assert.deepEqual((await front.at("hover", nothing)).found, false, nothing);
});

test("a definition is in a cell, whichever it is now, or in a file", async () => {
  const declares = "// moved\nclass Ball { roll(): void {} }\nlet pace = 1 as number;";
  await kernel.run(declares);
  assert.equal(await front.place("1", declares, "new Ba|ll()"), "1:15 Ball");
  assert.equal(await front.place(declares, "2", "new Ball().ro|ll()"), "0:22 roll");
  assert.equal(await front.place("0", declares, "pa|ce + 1"), "1:44 pace");
  // Edited since, or not run at all: the nearest cell that declares the name.
  assert.equal(await front.place("let more;\nclass Ball {}", "Ba|ll"), "0:16 Ball");
  assert.equal(await front.place("const fresh = 1", "fre|sh"), "0:6 fresh");
  assert.equal(await front.place("const inner = 1; inn|er"), "0:6 inner");
  assert.equal(await front.place("nowhe|re"), null);
  mkdirSync(join(kernel.folder, "lib"), { recursive: true });
  writeFileSync(
    join(kernel.folder, "lib", "help.ts"),
    "\n\nexport function help(): string { return 'x'; }\n",
  );
  const file = await front.place('import { help } from "./lib/help.ts";\nhel|p()');
  assert.match(file!, /lib\/help\.ts:2$/);
});

test("malformed requests get an error that says what was expected, and change nothing", async () => {
  const wrong: [object, RegExp][] = [
    [{}, /method: expected diagnostics, hover or definition, found nothing/],
    [{ method: "rename", cells: [], cell: 0 }, /method: .* found "rename"/],
    [{ method: "hover" }, /cells: expected an array, found nothing/],
    [
      { method: "hover", cells: ["", 1], cell: 0, cursor: 0 },
      /cells\[1\]: expected a string, found a number/,
    ],
    [
      { method: "hover", cells: ["a"], cell: 1, cursor: 0 },
      /cell: expected the number of one of 1 cells, found 1/,
    ],
    [{ method: "hover", cells: ["a"], cell: -1, cursor: 0 }, /cell: expected an integer from 0, found -1/],
    [{ method: "definition", cells: ["a"], cell: 0 }, /cursor: expected an integer from 0, found nothing/],
    [
      { method: "diagnostics", cells: ["a"], cell: 0, cell_id: 7 },
      /cell_id: expected a string, found a number/,
    ],
  ];
  for (const [data, expected] of wrong) {
    const answer = await front.send(data);
    assert.deepEqual([answer.status, answer.ename], ["error", "ProtocolError"]);
    assert.match(answer.evalue!, expected);
  }
  const deep = await front.send({ method: "diagnostics", cells: ["[".repeat(300_000), "1"], cell: 1 });
  assert.deepEqual(deep.diagnostics, []);
  assert.deepEqual(await front.errors("let fine = 1"), []);
});

test("a restart forgets the cells, not the comm", async () => {
  await kernel.run("process.exit(3)");
  assert.deepEqual(await front.errors("width"), ["error 2304 width"]);
  const open = (await kernel.client.request("comm_info_request", { target_name: languageTarget })).content;
  assert.equal(Object.keys(open.comms as object).length, 1);
});
