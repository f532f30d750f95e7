/**
 * How to show values that don't say so themselves: charts, pictures, tables, arrays of numbers.
 */
import { inspect } from "node:util";

type Bundle = Record<string, unknown>;

/** The bundle for a value of a known kind; undefined for all others. Never throws. */
export function known(value: unknown): Bundle | Promise<Bundle> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  try {
    return (
      plotlyFigure(value) ??
      sharpImage(value) ??
      canvas(value) ??
      element(value) ??
      table(value) ??
      numbers(value)
    );
  } catch {
    return undefined; // e.g. a proxy that refuses everything
  }
}

/** `{ data: [{ type: "scatter", ... }], layout: {...} }`, as plotly.js takes it. */
function plotlyFigure(value: object): Bundle | undefined {
  if (!isPlain(value) || hasGetters(value)) return undefined;
  const { data, layout = {}, config, frames, ...rest } = value;
  if (!Array.isArray(data) || data.length === 0 || Object.keys(rest).length > 0) return undefined;
  if (!data.every(isTrace) || !isPlain(layout)) return undefined;
  // An array of traces alone is common data; a layout or a plotly type makes it a figure.
  if (value.layout === undefined && !data.every((trace) => typeof (trace as Bundle).type === "string"))
    return undefined;
  const figure = {
    data: data.map(plainNumbers),
    layout,
    ...(config ? { config } : {}),
    ...(frames ? { frames } : {}),
  };
  const kinds = data.map((trace) => String((trace as Bundle).type ?? "scatter"));
  return { "application/vnd.plotly.v1+json": figure, "text/plain": `[plotly figure: ${kinds.join(", ")}]` };
}

const traceKeys = [
  "x",
  "y",
  "z",
  "values",
  "labels",
  "r",
  "theta",
  "lat",
  "lon",
  "locations",
  "open",
  "node",
  "value",
];

function isTrace(value: unknown): boolean {
  return isPlain(value) && traceKeys.some((key) => key in value);
}

/** Turns typed arrays into arrays, for JSON. */
function plainNumbers(value: unknown): unknown {
  if (isNumbers(value)) return Array.from(value);
  if (Array.isArray(value)) return value.map(plainNumbers);
  if (!isPlain(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plainNumbers(each)]));
}

interface SharpLike {
  clone(): SharpLike;
  png(): { toBuffer(options: { resolveWithObject: true }): Promise<{ data: Buffer; info: SharpInfo }> };
  metadata(): Promise<unknown>;
}

interface SharpInfo {
  readonly width: number;
  readonly height: number;
}

function sharpImage(value: object): Promise<Bundle> | undefined {
  const image = value as Partial<SharpLike>;
  if (value.constructor?.name !== "Sharp" || typeof image.clone !== "function") return undefined;
  return image
    .clone()
    .png()
    .toBuffer({ resolveWithObject: true })
    .then(({ data, info }) => ({
      "image/png": data,
      "text/plain": `[sharp image: ${info.width}x${info.height}]`,
    }));
}

/** Canvases of `canvas`, `@napi-rs/canvas` and `skia-canvas`. */
function canvas(value: object): Bundle | Promise<Bundle> | undefined {
  if (!/Canvas/.test(value.constructor?.name ?? "")) return undefined;
  const { toBuffer, width, height } = value as { toBuffer?: unknown; width?: unknown; height?: unknown };
  if (typeof toBuffer !== "function") return undefined;
  const text = `[canvas: ${String(width)}x${String(height)}]`;
  const png: unknown = toBuffer.call(value, "image/png");
  if (png instanceof Uint8Array) return { "image/png": png, "text/plain": text };
  return Promise.resolve(png as Promise<Uint8Array>).then((data) => ({
    "image/png": data,
    "text/plain": text,
  }));
}

/** DOM elements, from jsdom or from d3 on top of it. */
function element(value: object): Bundle | undefined {
  if (!("nodeType" in value && "outerHTML" in value)) return undefined;
  const { nodeType, outerHTML, tagName } = value as {
    nodeType?: unknown;
    outerHTML?: unknown;
    tagName?: unknown;
  };
  if (nodeType !== 1 || typeof outerHTML !== "string") return undefined;
  const type = String(tagName).toLowerCase() === "svg" ? "image/svg+xml" : "text/html";
  return { [type]: outerHTML, "text/plain": outerHTML };
}

const maxRows = 60;
const maxColumns = 30;

/** Arrays of at least two plain objects whose values fit into cells. */
function table(value: object): Bundle | undefined {
  if (!Array.isArray(value) || value.length < 2) return undefined;
  const rows = value.slice(0, maxRows) as unknown[];
  if (!rows.every((row) => isPlain(row) && !hasGetters(row) && Object.keys(row).length > 0)) return undefined;
  const objects = rows as Bundle[];
  const columns = [...new Set(objects.flatMap((row) => Object.keys(row)))];
  if (columns.length > maxColumns) return undefined;
  // Objects with little in common are not a table.
  const filled = objects.reduce((sum, row) => sum + Object.keys(row).length, 0);
  if (filled < (columns.length * objects.length) / 2) return undefined;
  const numeric = new Set(
    columns.filter((column) =>
      objects.every((row) => row[column] === undefined || typeof row[column] === "number"),
    ),
  );
  const style = (column: string) =>
    numeric.has(column) ? ' style="text-align: right"' : ' style="text-align: left"';
  const head = columns.map((column) => `<th${style(column)}>${escaped(column)}</th>`).join("");
  const body = objects.map((row, i) => {
    const cells = columns.map(
      (column) => `<td${style(column)}>${column in row ? cellText(row[column]) : ""}</td>`,
    );
    return `<tr><th>${i}</th>${cells.join("")}</tr>`;
  });
  const rest = value.length > maxRows ? `<p>${maxRows} of ${value.length} rows</p>` : "";
  const html = `<table><thead><tr><th></th>${head}</tr></thead><tbody>${body.join("")}</tbody></table>${rest}`;
  return { "text/html": html, "text/plain": inspect(value) };
}

function cellText(value: unknown): string {
  if (typeof value === "string") return escaped(value.length > 200 ? `${value.slice(0, 200)}...` : value);
  return escaped(inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY, maxArrayLength: 5 }));
}

type Numbers = Exclude<NodeJS.TypedArray, BigInt64Array | BigUint64Array>;

function isNumbers(value: unknown): value is Numbers {
  return (
    ArrayBuffer.isView(value) &&
    !(value instanceof DataView) &&
    !(value instanceof BigInt64Array) &&
    !(value instanceof BigUint64Array)
  );
}

const shownNumbers = 8;

/** Typed arrays too long to read: their range, and how they begin and end. Bytes are left alone. */
function numbers(value: object): Bundle | undefined {
  if (!isNumbers(value) || value instanceof Uint8Array || value.length <= 2 * shownNumbers) return undefined;
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  let unusual = 0;
  for (const x of value) {
    if (!Number.isFinite(x)) {
      unusual += 1;
      continue;
    }
    if (x < min) min = x;
    if (x > max) max = x;
    sum += x;
  }
  const finite = value.length - unusual;
  const name = value.constructor.name;
  const facts: [string, string][] = [
    ["type", name],
    ["length", value.length.toLocaleString("en-US")],
    ["min", finite > 0 ? short(min) : "-"],
    ["max", finite > 0 ? short(max) : "-"],
    ["mean", finite > 0 ? short(sum / finite) : "-"],
    ...(unusual > 0 ? [["not finite", unusual.toLocaleString("en-US")] as [string, string]] : []),
    ["values", `${listed(value.subarray(0, shownNumbers))}, ..., ${listed(value.subarray(-shownNumbers))}`],
  ];
  const cells = (tag: string, at: 0 | 1) =>
    facts.map((fact) => `<${tag}>${escaped(fact[at])}</${tag}>`).join("");
  const html = `<table><thead><tr>${cells("th", 0)}</tr></thead><tbody><tr>${cells("td", 1)}</tr></tbody></table>`;
  return { "text/html": html, "text/plain": inspect(value) };
}

function listed(values: Numbers): string {
  return Array.from(values, short).join(", ");
}

function short(x: number): string {
  return Number.isInteger(x) ? String(x) : String(Number(x.toPrecision(5)));
}

function isPlain(value: unknown): value is Bundle {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** A getter may do anything, so it is not run only to see what a value is. */
function hasGetters(value: object): boolean {
  return Object.values(Object.getOwnPropertyDescriptors(value)).some(({ get }) => get !== undefined);
}

function escaped(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
