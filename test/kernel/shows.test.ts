import assert from "node:assert/strict";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { CellOutput } from "../../kernel/client/outputs.js";
import { projectRoot } from "../src/cli/project.js";
import { startKernel } from "./support.js";

const kernel = await startKernel();
symlinkSync(join(projectRoot, "node_modules"), join(kernel.folder, "node_modules"));

async function result(code: string): Promise<Record<string, unknown>> {
  const { outputs, text, reply } = await kernel.run(code);
  assert.equal(reply.status, "ok", text);
  const last = outputs.at(-1);
  assert.ok(last?.output_type === "execute_result", text);
  return last.data;
}

function data(output: CellOutput | undefined): Record<string, unknown> {
  assert.ok(output !== undefined && "data" in output);
  return output.data;
}

test("a plotly object is shown as a figure", async () => {
  const shown = await result(
    '({ data: [{ type: "scatter", x: [1, 2], y: new Float32Array([3, 4]) }], layout: { title: { text: "t" } } })',
  );
  assert.deepEqual(shown["application/vnd.plotly.v1+json"], {
    data: [{ type: "scatter", x: [1, 2], y: [3, 4] }],
    layout: { title: { text: "t" } },
  });
  assert.equal(typeof shown["text/plain"], "string");
  // Other objects with data are left alone.
  assert.deepEqual(Object.keys(await result("({ data: [1, 2] })")), ["text/plain"]);
  assert.deepEqual(Object.keys(await result("({ data: [{ x: 1 }], status: 200 })")), ["text/plain"]);
});

test("Vega and Vega-Lite specifications are shown as charts, also those that toSpec() makes", async () => {
  const spec = (schema: string) =>
    `({ $schema: "https://vega.github.io/schema/${schema}.json", title: "t", data: { values: new Float32Array([1, 2]) }, mark: "bar" })`;
  const lite = await result(spec("vega-lite/v5"));
  assert.deepEqual(lite["application/vnd.vegalite.v5+json"], {
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: "t",
    data: { values: [1, 2] },
    mark: "bar",
  });
  assert.equal(lite["text/plain"], "[Vega-Lite chart: t]");
  assert.ok("application/vnd.vega.v5+json" in (await result(spec("vega/v5.20"))));
  // JupyterLab 4 draws nothing newer than 5.
  const newer = Object.keys(await result(spec("vega-lite/v6")));
  for (const version of [5, 6]) assert.ok(newer.includes(`application/vnd.vegalite.v${version}+json`));
  assert.deepEqual(Object.keys(await result(spec("draft-07"))), ["text/plain"]);
  const api = await result(
    'import * as vl from "vega-lite-api";\nvl.markBar().data([{ a: 1 }]).encode(vl.x().fieldQ("a"))',
  );
  assert.equal((api["application/vnd.vegalite.v5+json"] as { mark: { type: string } }).mark.type, "bar");
  assert.ok(
    "application/vnd.vegalite.v5+json" in (await result("({ toSpec() { return { mark: 'point' }; } })")),
  );
});

test("data frames of arquero and Apache Arrow are tables, with their size", async () => {
  const frame = await result(
    'import * as aq from "arquero";\naq.table({ a: Array.from({ length: 100 }, (_, i) => i), b: Array(100).fill("<x>") })',
  );
  assert.match(
    String(frame["text/html"]),
    /<th align="right" style="text-align: right">a<\/th>.*&lt;x&gt;.*<p>60 of 100 rows<\/p>$/s,
  );
  assert.match(
    String(frame["text/plain"]),
    /^\[ColumnTable: 100 rows x 2 columns\]\n {3}a {4}b\n0 {2}0 {2}<x>\n/,
  );
  const arrow = await result(
    'import { tableFromArrays } from "apache-arrow";\ntableFromArrays({ n: Float64Array.from([1, 2.5]), s: ["u", "v"] })',
  );
  assert.equal(
    arrow["text/plain"],
    ["[Table: 2 rows x 2 columns]", "     n  s", "0    1  u", "1  2.5  v"].join("\n"),
  );
  assert.match(String(arrow["text/html"]), /<td align="right" style="text-align: right">2.5<\/td>/);
});

test("rows of a class are a table; instances that do more than hold data are not", async () => {
  const rows = await result(
    "class Row { constructor(public a: number, public b: string) {} }\n[new Row(1, 'x'), new Row(2, 'y')]",
  );
  assert.match(String(rows["text/html"]), /<th align="left" style="text-align: left">b<\/th>/);
  for (const code of [
    "[new Error('a'), new Error('b')]",
    "[new Date(0), new Date(1)]",
    "[new (class { inner = {}; })(), new (class { inner = {}; })()]",
    "[new Map([[1, 2]]), new Map()]",
    "[Promise.resolve(1), Promise.resolve(2)]",
  ])
    assert.deepEqual(Object.keys(await result(code)), ["text/plain"], code);
});

test("elements of jsdom, d3 and Observable Plot are shown, SVG as a file that a browser can draw", async () => {
  await kernel.run(
    'import * as Plot from "@observablehq/plot"; import * as d3 from "d3"; import { JSDOM } from "jsdom";',
  );
  const plot = await result(
    "const { document } = new JSDOM('').window;\nPlot.plot({ document, marks: [Plot.dot([[1, 2]])] })",
  );
  // The text's colour is black in a file, so it has a ground of its own in a dark theme.
  assert.match(
    String(plot["image/svg+xml"]),
    /^<svg style="background: white" xmlns="http:\/\/www.w3.org\/2000\/svg" class="plot[^>]*fill="currentColor"/,
  );
  const titled = await result("Plot.plot({ document, title: 'T', marks: [Plot.dot([[1, 2]])] })");
  assert.match(String(titled["text/html"]), /^<figure/);
  const chosen = await result("d3.select(document.body).append('svg').attr('width', 3)");
  assert.equal(chosen["image/svg+xml"], '<svg xmlns="http://www.w3.org/2000/svg" width="3"/>');
  const text = await result(
    "const svg = new JSDOM('<svg><text>a&nbsp;b</text></svg>').window.document.querySelector('svg')!; svg",
  );
  assert.equal(text["image/svg+xml"], '<svg xmlns="http://www.w3.org/2000/svg"><text>a\u00a0b</text></svg>');
  const fragment = await result(
    "const part = document.createDocumentFragment(); part.append('x<', document.createElement('b')); part",
  );
  assert.equal(fragment["text/html"], "x&lt;<b></b>");
});

test("the bytes of a picture's file are the picture, all other bytes are bytes", async () => {
  const png =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const shown = await result(`Buffer.from("${png}", "base64")`);
  assert.equal(shown["image/png"], png);
  assert.equal(shown["text/plain"], "[image/png: 70 bytes]");
  assert.ok("image/jpeg" in (await result("new Uint8Array([0xff, 0xd8, 0xff, 0xe0])")));
  assert.deepEqual(Object.keys(await result("new Uint8Array([1, 2, 3])")), ["text/plain"]);
  assert.deepEqual(Object.keys(await result("Buffer.alloc(0)")), ["text/plain"]);
});

test("getters are not run to see what a value is", async () => {
  await kernel.run("let runs = 0;");
  for (const code of [
    "({ get data() { runs++; return [{ type: 'scatter', x: [1] }]; }, layout: {} })",
    "new (class { get width() { runs++; return 1; } get nodeType() { runs++; return 1; } toBuffer() {} })()",
    "[{ get a() { runs++; return 1; } }, { get a() { runs++; return 2; } }]",
    "({ x: { get y() { runs++; return 1; } } })",
  ])
    assert.deepEqual(Object.keys(await result(code)), ["text/plain"], code);
  assert.equal((await result("runs"))["text/plain"], "0");
});

test("BigInt in JSON is a number where that is exact, else its digits", async () => {
  const { outputs, reply } = await kernel.run(
    'display.json({ small: 1n, large: 2n ** 70n }); display({ "application/json": [3n] }, { raw: true })',
  );
  assert.equal(reply.status, "ok");
  assert.deepEqual(data(outputs[0])["application/json"], { small: 1, large: "1180591620717411303424" });
  assert.deepEqual(data(outputs[1])["application/json"], [3]);
  assert.match(
    (await kernel.run("const ring: any = {}; ring.self = ring; display.json(ring)")).text,
    /circular/,
  );
});

test("half a character is replaced before it costs a notebook that is stored as UTF-8", async () => {
  const { messages, outputs } = await kernel.run(
    String.raw`console.log("a\ud83d"); display.text("b\udc00 \\ud800 \u{1f600}"); display({ "application/json": { "k\ud800": "\ud800" } }, { raw: true, metadata: { m: "\udfff" } })`,
  );
  assert.ok(messages.every((message) => !/[\ud800-\udfff]/u.test(JSON.stringify(message))));
  assert.deepEqual(
    outputs.slice(1).map((output) => data(output)),
    [{ "text/plain": "b\ufffd \\ud800 \u{1f600}" }, { "application/json": { "k\ufffd": "\ufffd" } }],
  );
  const failed = await kernel.run('throw new Error("bad \ud83d end")');
  assert.equal(failed.reply.evalue, "bad \ufffd end");
  assert.doesNotMatch(JSON.stringify([failed.messages, failed.reply]), /\\ud[89a-f]/);
});

test("a sharp image is shown as a picture", async () => {
  const shown = await result(
    'import sharp from "sharp"; sharp({ create: { width: 5, height: 3, channels: 3, background: "red" } })',
  );
  const png = Buffer.from(String(shown["image/png"]), "base64");
  assert.equal(png.toString("latin1", 1, 4), "PNG");
  assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [5, 3]);
});

test("an array of objects is shown as a table, with its text escaped", async () => {
  const shown = await result('[{ name: "<a&b>", n: 1 }, { name: "c", n: 2.5 }]');
  assert.match(String(shown["text/html"]), /<td[^>]*>&lt;a&amp;b&gt;<\/td>/);
  assert.match(String(shown["text/html"]), /2\.5/);
  assert.equal(shown["text/plain"], "[ { name: '<a&b>', n: 1 }, { name: 'c', n: 2.5 } ]");
  const long = await result("Array.from({ length: 500 }, (_, i) => ({ i }))");
  assert.match(String(long["text/html"]), /60 of 500 rows/);
  for (const other of ["[{ a: 1 }]", "[{ a: 1 }, 2]", "[[1], [2]]", "[]"]) {
    assert.deepEqual(Object.keys(await result(other)), ["text/plain"], other);
  }
});

test("a long typed array is shown with its extent, a short one as it is", async () => {
  const shown = await result("Float64Array.from({ length: 100 }, (_, i) => (i === 50 ? NaN : i))");
  assert.match(String(shown["text/html"]), /Float64Array.*<td>100<\/td><td>0<\/td><td>99<\/td>/);
  assert.match(String(shown["text/html"]), /not finite/);
  assert.deepEqual(await result("new Int8Array([1, 2])"), { "text/plain": "Int8Array(2) [ 1, 2 ]" });
});

test("what the display global can do", async () => {
  const { outputs, text } = await kernel.run(`
    display.html("<b>h</b>"); display.markdown("m"); display.latex("$x$"); display.svg("<svg/>");
    display.png(new Uint8Array([1])); display.json({ a: [1] }); display.text("t");
    display({ "text/html": "raw" }, { raw: true, metadata: { "text/html": { isolated: true } } });
    display({ plain: 1 });`);
  assert.deepEqual(
    outputs.map((output) => Object.keys(data(output))[0]),
    [
      "text/html",
      "text/markdown",
      "text/latex",
      "image/svg+xml",
      "image/png",
      "application/json",
      "text/plain",
      "text/html",
      "text/plain",
    ],
    text,
  );
  assert.equal(data(outputs[4])["image/png"], "AQ==");
  assert.deepEqual(data(outputs[5])["application/json"], { a: [1] });
  const raw = outputs[7];
  assert.ok(raw?.output_type === "display_data");
  assert.deepEqual(raw.metadata, { "text/html": { isolated: true } });
});

test("a display as the last expression is shown once", async () => {
  const { outputs } = await kernel.run('display("once")');
  assert.equal(outputs.length, 1);
});

test("a slider of ipywidgets, made from TypeScript", async () => {
  const { outputs, text, reply, messages } = await kernel.run(`
const widget = (state: Record<string, unknown>) =>
  comms.open("jupyter.widget", { state, buffer_paths: [] }, { metadata: { version: "2.1.0" } });
const base = { _view_module: "@jupyter-widgets/base", _model_module: "@jupyter-widgets/base", _model_module_version: "2.0.0", _view_module_version: "2.0.0" };
const controls = { _view_module: "@jupyter-widgets/controls", _model_module: "@jupyter-widgets/controls", _model_module_version: "2.0.0", _view_module_version: "2.0.0" };
const layout = widget({ ...base, _model_name: "LayoutModel", _view_name: "LayoutView" });
const style = widget({ ...controls, _model_name: "SliderStyleModel", _view_module: "@jupyter-widgets/base", _view_name: "StyleView" });
const slider = widget({ ...controls, _model_name: "IntSliderModel", _view_name: "IntSliderView", value: 3, min: 0, max: 10,
  layout: "IPY_MODEL_" + layout.id, style: "IPY_MODEL_" + style.id });
let sliderValue = 3;
slider.onMessage(({ data }) => { if (data.method === "update") sliderValue = data.state.value; });
display({ "application/vnd.jupyter.widget-view+json": { version_major: 2, version_minor: 0, model_id: slider.id } }, { raw: true });`);
  assert.equal(reply.status, "ok", text);
  const opened = messages.filter(({ header }) => header.msg_type === "comm_open");
  assert.equal(opened.length, 3);
  assert.deepEqual(opened[0]!.metadata, { version: "2.1.0" });
  const view = data(outputs[0])["application/vnd.jupyter.widget-view+json"] as { model_id: string };
  assert.equal(view.model_id, opened[2]!.content.comm_id);
  // What JupyterLab sends when the slider is moved.
  kernel.client.post("comm_msg", {
    comm_id: view.model_id,
    data: { method: "update", state: { value: 8 }, buffer_paths: [] },
  });
  assert.equal((await kernel.run("sliderValue")).text, "8");
});

test("tslab notebooks: every function of its display API, and a display that is drawn over", async () => {
  const { outputs, text } = await kernel.run(`
import * as tslab from "tslab";
tslab.display.javascript("1"); tslab.display.html("h"); tslab.display.markdown("m"); tslab.display.latex("l");
tslab.display.svg("<svg/>"); tslab.display.png(new Uint8Array([1])); tslab.display.jpeg(new Uint8Array([2]));
tslab.display.gif(new Uint8Array([3])); tslab.display.pdf(new Uint8Array([4])); tslab.display.text("t");
tslab.display.raw("application/x-own", "own");
const d = tslab.newDisplay();
for (const step of [1, 2, 3]) { d.html(\`step \${step}\`); await new Promise((r) => setTimeout(r, 5)); }
console.log(Object.keys(tslab.versions).join());`);
  assert.deepEqual(
    outputs.slice(0, 12).map((output) => Object.entries(data(output))[0]),
    [
      ["text/javascript", "1"],
      ["text/html", "h"],
      ["text/markdown", "m"],
      ["text/latex", "l"],
      ["image/svg+xml", "<svg/>"],
      ["image/png", "AQ=="],
      ["image/jpeg", "Ag=="],
      ["image/gif", "Aw=="],
      ["application/pdf", "BA=="],
      ["text/plain", "t"],
      ["application/x-own", "own"],
      ["text/html", "step 3"],
    ],
    text,
  );
  assert.match(text, /tslab,typescript,node\n$/);
});

test("tslab notebooks: modules of the notebook's own, and require, reach the same display", async () => {
  writeFileSync(
    join(kernel.folder, "own.ts"),
    'import { display } from "tslab";\nexport const show = () => display.html("from a module");\n',
  );
  const { outputs, text } = await kernel.run(
    'import { show } from "./own"; show(); require("tslab").display.html("from require")',
  );
  assert.deepEqual(
    outputs.map((output) => data(output)["text/html"]),
    ["from a module", "from require"],
    text,
  );
});

test("tslab notebooks: named import, types, redeclared variables, Node's modules, await at the top", async () => {
  for (const [code, expected] of [
    [
      'import { display, newDisplay, Display } from "tslab"; let shown: Display = newDisplay(); shown.text("x")',
      "x",
    ],
    ["let total = [1, 2, 3].reduce((a, b) => a + b); total", "6"],
    ["let total = 'again'; total.toUpperCase()", "'AGAIN'"],
    [
      'import * as os from "os"; import * as path from "path"; path.join("a", "b") + (os.cpus().length > 0)',
      "'a/btrue'",
    ],
    [
      "class Naive { constructor(public value: number) {} double() { return this.value * 2 } } new Naive(4).double()",
      "8",
    ],
    [
      "let later = (ms: number) => new Promise<string>((r) => setTimeout(() => r('done'), ms)); await later(5)",
      "'done'",
    ],
    [
      'import { promisify } from "util"; import * as fs from "fs"; typeof (await promisify(fs.readdir)("."))',
      "'object'",
    ],
  ] as const) {
    const { text, reply } = await kernel.run(code);
    assert.equal(reply.status, "ok", text);
    assert.equal(text, expected);
  }
});
