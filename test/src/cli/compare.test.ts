import assert from "node:assert/strict";
import { describe, it } from "node:test";
import sharp from "sharp";
import { compareNotebooks, sameText } from "../../../src/cli/notebook/compare.js";
import { type Notebook, type Output, parseNotebook } from "../../../src/cli/notebook/format.js";
import { junit, reportPage } from "../../../src/cli/notebook/report.js";

const picture = async (width: number, format: "png" | "webp" = "png") =>
  (
    await sharp({ create: { width, height: 8, channels: 3, background: "red" } })
      .toFormat(format)
      .toBuffer()
  ).toString("base64");

const shown = (data: Record<string, unknown>): Output => ({
  output_type: "display_data",
  data,
  metadata: {},
});
const printed = (text: string, name = "stdout"): Output => ({ output_type: "stream", name, text });
const plotly = (figure: object) => shown({ "application/vnd.plotly.v1+json": figure });

function notebook(outputs: Output[], check?: unknown): Notebook {
  const metadata = check === undefined ? {} : { firstframe: { check } };
  const cells = [{ cell_type: "code", id: "a", metadata, source: "1", execution_count: 1, outputs }];
  return parseNotebook(JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells }), "x");
}

async function differences(expected: Output[], found: Output[], check?: unknown): Promise<string[]> {
  const exact = { rtol: 0, atol: 0 };
  const result = await compareNotebooks(notebook(expected, check), notebook(found), exact);
  return (result.get("a") ?? []).map(({ where, message }) => `${where}: ${message}`);
}

describe("comparing a notebook's outputs with those of a run", () => {
  it("takes text exactly, in whatever pieces it was printed", async () => {
    assert.deepEqual(await differences([printed("a\n"), printed("b\n")], [printed("a\nb\n")]), []);
    assert.deepEqual(await differences([printed("a\n")], [printed("b\n")]), ["stdout: text differs"]);
    assert.deepEqual(await differences([printed("a\n", "stderr")], []), ["stderr: text differs"]);
    assert.deepEqual(await differences([shown({ "text/plain": "1" })], [shown({ "text/plain": "1.0" })]), [
      "output 1, text/plain: text differs",
    ]);
  });

  it("takes JSON by its content, in whatever order its keys are", async () => {
    const json = (value: object) => [shown({ "application/vnd.controls+json": value })];
    const [was, is] = [json({ a: [{ b: 1, c: 2 }], d: 3 }), json({ d: 3, a: [{ c: 2, b: 1 }] })];
    assert.deepEqual(await differences(was, is), []);
    assert.deepEqual(await differences(was, json({ d: 3, a: [{ c: 2, b: 4 }] })), [
      "output 1, application/vnd.controls+json: text differs",
    ]);
  });

  it("lets numbers differ within the tolerance that a cell states, and nothing else", async () => {
    const [was, is] = [[printed("loss 0.5000, step   3\n")], [printed("loss 0.5004, step 3\n")]];
    assert.deepEqual(await differences(was, is, { rtol: 1e-3 }), []);
    assert.deepEqual(await differences(was, is, { atol: 1e-3 }), []);
    assert.deepEqual(await differences(was, is, { rtol: 1e-4 }), ["stdout: text differs"]);
    assert.deepEqual(await differences(was, [printed("loss 0.5, stop 3\n")], { rtol: 1 }), [
      "stdout: text differs",
    ]);
    assert.deepEqual(await differences(was, [printed("anything")], "ignore"), []);
    assert.ok(sameText("[ 1e-3, -2 ]", "[ 1.0001e-3, -2.0001 ]", { rtol: 1e-3, atol: 0 }));
    assert.ok(!sameText("1 2", "1 2 3", { rtol: 1, atol: 1 }));
    assert.ok(!sameText("-1", "1", { rtol: 0.5, atol: 0 }));
  });

  it("compares pictures by kind and size", async () => {
    const png = (data: string) => [shown({ "image/png": data })];
    const other = await sharp({ create: { width: 16, height: 8, channels: 3, background: "blue" } })
      .png()
      .toBuffer();
    assert.deepEqual(await differences(png(await picture(16)), png(other.toString("base64"))), []);
    assert.deepEqual(await differences(png(await picture(16)), png(await picture(17))), [
      "output 1, image/png: expected png 16x8, found png 17x8",
    ]);
    assert.deepEqual(
      await differences(png(await picture(16)), [shown({ "image/webp": await picture(16, "webp") })]),
      ["output 1: expected image/png, found image/webp"],
    );
    const html = (data: string, text = "x") => [
      shown({ "text/html": `<p>${text}</p><img src="data:image/png;base64,${data}">` }),
    ];
    assert.deepEqual(await differences(html("AAAA"), html("BBBB")), []);
    assert.deepEqual(await differences(html("AAAA"), html("AAAA", "y")), [
      "output 1, text/html: text differs",
    ]);
  });

  it("compares figures by their traces", async () => {
    const figure = {
      data: [{ type: "bar", y: [1, 2, 3], name: "psnr" }],
      layout: { title: { text: "PSNR" } },
    };
    const changed = (change: (copy: typeof figure) => void) => {
      const copy = structuredClone(figure);
      change(copy);
      return differences([plotly(figure)], [plotly(copy)]);
    };
    const differs = ["output 1, application/vnd.plotly.v1+json: the figure's traces differ"];
    assert.deepEqual(await changed((copy) => copy.data[0]!.y.reverse()), []);
    assert.deepEqual(await changed((copy) => copy.data[0]!.y.pop()), differs);
    assert.deepEqual(await changed((copy) => copy.data.push(copy.data[0]!)), differs);
    assert.deepEqual(await changed((copy) => (copy.data[0]!.name = "ssim")), differs);
    assert.deepEqual(await changed((copy) => (copy.layout.title.text = "SSIM")), differs);
  });

  it("notices outputs that are missing, new, or of another sort", async () => {
    const error: Output = { output_type: "error", ename: "TypeError", evalue: "x", traceback: ["at line 1"] };
    assert.deepEqual(await differences([shown({ "text/plain": "1" })], []), [
      "output 1: expected text/plain, found nothing",
    ]);
    assert.deepEqual(await differences([], [error]), [
      "output 1: expected nothing, found the error TypeError: x",
    ]);
    assert.deepEqual(await differences([error], [{ ...error, traceback: ["at line 2"] }]), []);
    assert.deepEqual(await differences([error], [{ ...error, evalue: "y" }]), [
      "output 1: the error differs",
    ]);
  });

  it("reports in JUnit XML and as a page, whatever the outputs hold", () => {
    const result = {
      path: "a<b>.ipynb",
      seconds: 1.5,
      cells: [
        { id: "a", count: 1, title: 'const a = "<&>";', seconds: 1, differences: [] },
        {
          id: "b",
          count: 2,
          title: "b",
          seconds: 0.5,
          differences: [
            {
              where: "stdout",
              message: "text differs",
              text: { expected: "a\u0000<\n", found: "\u001b[31mb\u001b[0m\n" },
            },
            {
              where: "output 1",
              message: "size",
              pictures: { expected: "data:image/png;base64,AA", found: undefined },
            },
          ],
        },
        {
          id: "c",
          count: 3,
          title: "c",
          seconds: 0,
          differences: [],
          error: "TypeError: <x>",
          traceback: "\u001b[31mTypeError\u001b[0m",
        },
      ],
    };
    const xml = junit([result, { path: "b.ipynb", seconds: 1, cells: [], error: "the kernel ended" }]);
    assert.match(
      xml,
      /<testsuite name="a&#60;b&#62;\.ipynb" tests="3" failures="1" errors="1" time="1\.500">/,
    );
    assert.match(xml, /<testsuite name="b\.ipynb" tests="1" failures="0" errors="1"/);
    assert.ok(!xml.includes("\u0000") && !xml.includes("\u001b"));
    assert.match(xml, /- a\uFFFD&#60;\n\+ b/);
    const page = reportPage([result]);
    assert.match(page, /<del>- a.*<\/del>\n<ins>\+ b<\/ins>/);
    assert.match(page, /<figcaption>expected<\/figcaption>.*nothing<figcaption>found/s);
    assert.match(page, /a&#60;b&#62;\.ipynb/);
  });
});
