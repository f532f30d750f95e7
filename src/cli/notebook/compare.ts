import sharp from "sharp";
import { storedBundle } from "../../../kernel/client/outputs.js";
import { mediaUrl, shownType } from "../page/media.js";
import type { CodeCell, MimeBundle, Notebook, Output } from "./format.js";

/** How far numbers in text may be apart: |found - expected| <= atol + rtol * |expected|, as in numpy's allclose. */
export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** One difference in a cell's outputs. */
export interface Difference {
  /** Where: `stdout`, `output 2, image/png`. */
  readonly where: string;
  readonly message: string;
  /** Both texts, if the difference is in text. */
  readonly text?: { readonly expected: string; readonly found: string };
  /** Both pictures as data URLs, if the outputs show any. */
  readonly pictures?: { readonly expected: string | undefined; readonly found: string | undefined };
}

/**
 * Compares a notebook's outputs with those of its execution, cell by cell: text exactly or within the tolerance, pictures
 * by kind and size, plotly figures by their traces. A cell's `metadata.firstframe.check` may state its own
 * `{ "rtol": x, "atol": y }`, or be `"ignore"`.
 *
 * @returns the differences of each code cell, by the cell's id; cells without any are left out.
 */
export async function compareNotebooks(
  expected: Notebook,
  found: Notebook,
  tolerance: Tolerance,
): Promise<Map<string, Difference[]>> {
  const differences = new Map<string, Difference[]>();
  const executed = new Map(found.cells.map((cell) => [cell.id, cell]));
  for (const cell of expected.cells) {
    const other = executed.get(cell.id);
    if (cell.cell_type !== "code" || other?.cell_type !== "code") continue;
    const own = checkOf(cell);
    if (own === "ignore") continue;
    const list = await compareOutputs(cell.outputs, other.outputs, { ...tolerance, ...own });
    if (list.length > 0) differences.set(cell.id, list);
  }
  return differences;
}

function checkOf(cell: CodeCell): "ignore" | Partial<Tolerance> {
  const { check } = (cell.metadata.firstframe ?? {}) as { check?: unknown };
  if (check === "ignore") return "ignore";
  return typeof check === "object" && check !== null ? check : {};
}

async function compareOutputs(
  expected: Output[],
  found: Output[],
  tolerance: Tolerance,
): Promise<Difference[]> {
  const differences: Difference[] = [];
  // Streams are compared as a whole, since where the kernel splits them depends on timing.
  for (const name of streamNames([...expected, ...found])) {
    const text = { expected: streamText(expected, name), found: streamText(found, name) };
    if (!sameText(text.expected, text.found, tolerance))
      differences.push({ where: name, message: "text differs", text });
  }
  const [before, after] = [expected, found].map((outputs) =>
    outputs.filter((output) => output.output_type !== "stream"),
  );
  for (let i = 0; i < Math.max(before!.length, after!.length); i++) {
    differences.push(...(await compareOutput(`output ${i + 1}`, before![i], after![i], tolerance)));
  }
  return differences;
}

async function compareOutput(
  where: string,
  expected: Output | undefined,
  found: Output | undefined,
  tolerance: Tolerance,
): Promise<Difference[]> {
  if (expected === undefined || found === undefined || expected.output_type !== found.output_type) {
    const kind = (output: Output | undefined) => (output === undefined ? "nothing" : describe(output));
    return [
      {
        where,
        message: `expected ${kind(expected)}, found ${kind(found)}`,
        pictures: pictures(expected, found),
      },
    ];
  }
  if (expected.output_type === "stream" || found.output_type === "stream") return [];
  if (expected.output_type === "error" || found.output_type === "error") {
    const text = { expected: errorText(expected), found: errorText(found) };
    return sameText(text.expected, text.found, tolerance)
      ? []
      : [{ where, message: "the error differs", text }];
  }
  const types = (bundle: MimeBundle) => Object.keys(bundle).sort().join(", ");
  // JupyterLab saves views of widgets, a run does not.
  const [was, is] = [storedBundle(expected.data), storedBundle(found.data)];
  if (types(was) !== types(is)) {
    const message = `expected ${types(was)}, found ${types(is)}`;
    return [{ where, message, pictures: pictures(expected, found) }];
  }
  const differences: Difference[] = [];
  for (const type of Object.keys(was)) {
    const place = `${where}, ${type}`;
    const [before, after] = [was[type], is[type]];
    if (type === "application/vnd.plotly.v1+json") {
      const text = { expected: figureOutline(before), found: figureOutline(after) };
      if (text.expected !== text.found)
        differences.push({ where: place, message: "the figure's traces differ", text });
    } else if (type.startsWith("image/") && type !== "image/svg+xml") {
      const [size, other] = [await pictureSize(before), await pictureSize(after)];
      if (size !== other) {
        differences.push({
          where: place,
          message: `expected ${size}, found ${other}`,
          pictures: pictures(expected, found),
        });
      }
    } else {
      const text = { expected: plain(before), found: plain(after) };
      if (!sameText(text.expected, text.found, tolerance))
        differences.push({ where: place, message: "text differs", text });
    }
  }
  return differences;
}

const streamNames = (outputs: Output[]) =>
  new Set(outputs.flatMap((output) => (output.output_type === "stream" ? [output.name] : [])));

const streamText = (outputs: Output[], name: string) =>
  outputs
    .map((output) => (output.output_type === "stream" && output.name === name ? output.text : ""))
    .join("");

const errorText = (output: Output) =>
  output.output_type === "error" ? `${output.ename}: ${output.evalue}` : describe(output);

function describe(output: Output): string {
  if (output.output_type === "stream") return output.name;
  if (output.output_type === "error") return `the error ${output.ename}: ${output.evalue}`;
  return Object.keys(output.data).join(", ");
}

/** Comparable text: pictures inside HTML and SVG are only named. */
function plain(content: unknown): string {
  const text = typeof content === "string" ? content : JSON.stringify(content, sortedKeys, 1);
  return text.replaceAll(/data:([\w/+.-]+);base64,[\w+/=\s]+/g, "data:$1");
}

/** Files have the keys of objects in alphabetical order, kernels send them in their own order. */
function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const NUMBER = /[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?/gi;

/** Whether texts are the same except for numbers within the tolerance. */
export function sameText(expected: string, found: string, { rtol, atol }: Tolerance): boolean {
  if (expected === found) return true;
  if (rtol === 0 && atol === 0) return false;
  // Aligned columns shift with the widths of their numbers.
  const words = (text: string) => text.replaceAll(NUMBER, "#").replaceAll(/[ \t]+/g, " ");
  if (words(expected) !== words(found)) return false;
  const numbers = (text: string) => (text.match(NUMBER) ?? []).map(Number);
  const after = numbers(found);
  return numbers(expected).every((value, i) => Math.abs(after[i]! - value) <= atol + rtol * Math.abs(value));
}

/** What a figure shows, without its numbers: one line per trace, and the titles. */
function figureOutline(content: unknown): string {
  // The notebook may be anybody's, with anything anywhere.
  const object = (value: unknown) => (value ?? {}) as Record<string, unknown>;
  const { data, layout } = object(content);
  const size = (value: unknown): string => {
    if (Array.isArray(value)) {
      return Array.isArray(value[0]) ? `${value.length}x${size(value[0])}` : `${value.length}`;
    }
    const packed = (value as { bdata?: unknown } | null)?.bdata;
    return typeof packed === "string" ? `${packed.length} characters` : "";
  };
  const lines = (Array.isArray(data) ? data.map(object) : []).map((trace) => {
    const arrays = Object.keys(trace)
      .filter((key) => size(trace[key]) !== "")
      .sort()
      .map((key) => `${key}[${size(trace[key])}]`);
    return [trace.type ?? "scatter", trace.name ?? "", ...arrays].filter((part) => part !== "").join(" ");
  });
  const titles = ["title", "xaxis", "yaxis"].map((key) => {
    const part = object(layout)[key] as { text?: unknown; title?: { text?: unknown } } | undefined;
    return `${key}: ${part?.text ?? part?.title?.text ?? ""}`;
  });
  return [...lines, ...titles].join("\n");
}

async function pictureSize(content: unknown): Promise<string> {
  try {
    const bytes = Buffer.from(String(content), "base64");
    const { format, width, height, pageHeight, pages = 1 } = await sharp(bytes, { pages: -1 }).metadata();
    return `${format} ${width}x${pageHeight ?? height}${pages > 1 ? `, ${pages} frames` : ""}`;
  } catch (error) {
    return `no picture (${(error as Error).message})`;
  }
}

function pictures(expected: Output | undefined, found: Output | undefined): Difference["pictures"] {
  const both = { expected: picture(expected), found: picture(found) };
  return both.expected === undefined && both.found === undefined ? undefined : both;
}

function picture(output: Output | undefined): string | undefined {
  if (output === undefined || !("data" in output)) return undefined;
  const { "image/svg+xml": _, ...pixels } = output.data;
  const type = shownType(pixels, "image");
  return type === undefined ? undefined : mediaUrl(type, pixels[type]);
}
