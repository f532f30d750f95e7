/**
 * How to show values that don't say so themselves: charts, pictures, tables, arrays of numbers.
 */
import { inspect, types } from "node:util";

type Bundle = Record<string, unknown>;

/** The bundle for a value of a known kind; undefined for all others. Never throws. */
export function known(value: unknown): Bundle | Promise<Bundle> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  try {
    return (
      plotlyFigure(value) ??
      vegaChart(value) ??
      sharpImage(value) ??
      canvas(value) ??
      imageFile(value) ??
      element(value) ??
      selection(value) ??
      frame(value) ??
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

const vegaSchema = /^https:\/\/vega\.github\.io\/schema\/(vega|vega-lite)\/v(\d+)(?:\.[\d.]+)?\.json$/;
/** The newest that JupyterLab 4 draws. Later ones say the same in the same words, but for little. */
const newestDrawnVega = 5;

/** A Vega or Vega-Lite specification, which names its `$schema`, or what makes one with `toSpec()`, as vega-lite-api does. */
function vegaChart(value: object): Bundle | undefined {
  if (isPlain(value) && !hasGetters(value)) {
    if (typeof value.$schema === "string") return vegaBundle(value, value.$schema);
  }
  const { toSpec } = dataOf(value, ["toSpec"]);
  if (typeof toSpec !== "function") return undefined;
  const spec: unknown = toSpec.call(value);
  if (!isPlain(spec)) return undefined;
  // Without one it is vega-lite-api's, as in Deno.
  return vegaBundle(spec, String(spec.$schema ?? "https://vega.github.io/schema/vega-lite/v5.json"));
}

function vegaBundle(spec: Bundle, schema: string): Bundle | undefined {
  const [, language, version] = vegaSchema.exec(schema) ?? [];
  if (language === undefined) return undefined;
  const type = (major: number | string) =>
    `application/vnd.${language === "vega" ? "vega" : "vegalite"}.v${major}+json`;
  const chart = plainNumbers(spec);
  const name = language === "vega" ? "Vega" : "Vega-Lite";
  return {
    [type(version!)]: chart,
    ...(Number(version) > newestDrawnVega ? { [type(newestDrawnVega)]: chart } : {}),
    "text/plain": `[${name} chart${typeof spec.title === "string" ? `: ${spec.title}` : ""}]`,
  };
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

const imageSignatures: readonly (readonly [type: string, offset: number, bytes: readonly number[]])[] = [
  ["image/png", 0, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["image/jpeg", 0, [0xff, 0xd8, 0xff]],
  ["image/gif", 0, [0x47, 0x49, 0x46, 0x38]],
  ["image/webp", 8, [0x57, 0x45, 0x42, 0x50]],
];

/** The bytes of a picture's file, as in Deno. */
function imageFile(value: object): Bundle | undefined {
  if (!(value instanceof Uint8Array)) return undefined;
  const found = imageSignatures.find(([, offset, bytes]) =>
    bytes.every((byte, i) => value[offset + i] === byte),
  );
  if (found === undefined) return undefined;
  const [type] = found;
  return { [type]: value, "text/plain": `[${type}: ${value.length.toLocaleString("en-US")} bytes]` };
}

const svgNamespace = "http://www.w3.org/2000/svg";

/** DOM elements and fragments, from jsdom or from d3 and Observable Plot on top of it. */
function element(value: object): Bundle | undefined {
  if (!("nodeType" in value && "childNodes" in value)) return undefined;
  const { nodeType, outerHTML, tagName, childNodes } = value as {
    nodeType?: unknown;
    outerHTML?: unknown;
    tagName?: unknown;
    childNodes?: Iterable<{ outerHTML?: string; textContent?: string }>;
  };
  if (nodeType === 11 && childNodes !== undefined) {
    const html = Array.from(childNodes, (node) => node.outerHTML ?? escaped(node.textContent ?? "")).join("");
    return { "text/html": html, "text/plain": html };
  }
  if (nodeType !== 1 || typeof outerHTML !== "string") return undefined;
  if (String(tagName).toLowerCase() !== "svg") return { "text/html": outerHTML, "text/plain": outerHTML };
  return { "image/svg+xml": svgFile(asXml(value) ?? outerHTML), "text/plain": outerHTML };
}

/** What a browser needs to draw an element as a file of its own, as front ends do. */
function svgFile(svg: string): string {
  const [start] = /^<svg[^>]*/.exec(svg) ?? [""];
  // Without its namespace it is text. HTML, which knows the element by its name, needs none.
  const namespace = /\sxmlns=/.test(start) ? "" : ` xmlns="${svgNamespace}"`;
  // The text's colour is black in a file, whatever the page's is, and would not be seen on a dark one.
  const ground = svg.includes("currentColor") && !/\sstyle=/.test(start) ? ' style="background: white"' : "";
  return svg.replace(/^<svg/, `<svg${namespace}${ground}`);
}

/** HTML's text of an element is not always XML, which SVG files are: `<br>`, `&nbsp;`. */
function asXml(node: object): string | undefined {
  const { ownerDocument } = node as {
    ownerDocument?: {
      defaultView?: { XMLSerializer?: new () => { serializeToString(node: object): string } };
    };
  };
  const Serializer = ownerDocument?.defaultView?.XMLSerializer;
  return Serializer === undefined ? undefined : new Serializer().serializeToString(node);
}

/** What d3 has selected, if that is one element. */
function selection(value: object): Bundle | undefined {
  const { node, selectAll, nodes } = dataOf(value, ["node", "nodes", "selectAll"]);
  if (![node, nodes, selectAll].every((each) => typeof each === "function")) return undefined;
  const [only, ...others] = (nodes as () => unknown[]).call(value);
  return others.length > 0 || typeof only !== "object" || only === null ? undefined : element(only);
}

const maxRows = 60;
const maxColumns = 30;

/** What a table shows: named columns, and as many rows as fit. */
interface TableContent {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
  /** Of the whole. */
  readonly numRows: number;
  /** Names of the rows. Default: their numbers. */
  readonly index?: readonly unknown[];
}

/** Data frames of arquero, Apache Arrow and danfo. (Those of polars show themselves.) */
function frame(value: object): Bundle | undefined {
  const content = arqueroTable(value) ?? arrowTable(value) ?? danfoFrame(value);
  if (content === undefined) return undefined;
  const { columns, numRows } = content;
  const name = value.constructor?.name.replace(/^_/, "");
  const size = `${numRows.toLocaleString("en-US")} row${numRows === 1 ? "" : "s"} x ${columns.length} column${columns.length === 1 ? "" : "s"}`;
  return {
    "text/html": htmlTable({ ...content, columns: columns.slice(0, maxColumns) }, columns.length),
    "text/plain": `[${name}: ${size}]\n${textTable(content)}`,
  };
}

function arqueroTable(value: object): TableContent | undefined {
  const { columnNames, numRows, objects } = dataOf(value, ["columnNames", "numRows", "objects"]);
  if (![columnNames, numRows, objects].every((each) => typeof each === "function")) return undefined;
  const columns = (columnNames as () => string[]).call(value);
  const rows = (objects as (options: object) => Bundle[]).call(value, { limit: maxRows });
  return {
    columns,
    rows: rows.map((row) => columns.map((column) => row[column])),
    numRows: (numRows as () => number).call(value),
  };
}

interface ArrowLike {
  readonly schema: { readonly fields: readonly { readonly name: string }[] };
  readonly numRows: number;
  getChildAt(index: number): { get(row: number): unknown } | null;
}

function arrowTable(value: object): TableContent | undefined {
  const { getChildAt } = dataOf(value, ["getChildAt"]);
  if (typeof getChildAt !== "function") return undefined;
  const { schema, numRows } = value as Partial<ArrowLike>;
  if (!Array.isArray(schema?.fields) || typeof numRows !== "number") return undefined;
  const columns = schema.fields.map(({ name }) => String(name));
  const vectors = columns.map((_, i) => (value as ArrowLike).getChildAt(i));
  return {
    columns,
    rows: Array.from({ length: Math.min(numRows, maxRows) }, (_, row) =>
      vectors.map((vector) => vector?.get(row)),
    ),
    numRows,
  };
}

interface DanfoLike {
  readonly columns: readonly unknown[];
  readonly index: readonly unknown[];
  readonly shape: readonly number[];
  readonly values: readonly unknown[];
}

function danfoFrame(value: object): TableContent | undefined {
  const kind = value.constructor?.name;
  if (kind !== "DataFrame" && kind !== "Series") return undefined;
  const { columns, index, shape, values } = value as Partial<DanfoLike>;
  if (![columns, index, shape, values].every(Array.isArray)) return undefined;
  const rows = values!.slice(0, maxRows).map((row) => (Array.isArray(row) ? (row as unknown[]) : [row]));
  return { columns: columns!.map(String), rows, numRows: shape![0] ?? 0, index: index! };
}

/** Arrays of at least two objects of one kind whose values fit into cells. */
function table(value: object): Bundle | undefined {
  if (!Array.isArray(value) || value.length < 2) return undefined;
  const shown = value.slice(0, maxRows) as unknown[];
  if (!shown.every(isPlain) && !areRecords(shown)) return undefined;
  const objects = shown as Bundle[];
  if (objects.some((row) => hasGetters(row) || Object.keys(row).length === 0)) return undefined;
  const columns = [...new Set(objects.flatMap((row) => Object.keys(row)))];
  if (columns.length > maxColumns) return undefined;
  // Objects with little in common are not a table.
  const filled = objects.reduce((sum, row) => sum + Object.keys(row).length, 0);
  if (filled < (columns.length * objects.length) / 2) return undefined;
  const rows = objects.map((row) => columns.map((column) => row[column]));
  return {
    "text/html": htmlTable({ columns, rows, numRows: value.length }),
    "text/plain": inspect(value),
  };
}

/**
 * Whether all are instances of one class that do nothing but hold data, such as rows of a database: their fields are plain values,
 * and they do not say themselves how to be shown.
 */
function areRecords(rows: readonly unknown[]): boolean {
  const first = rows[0];
  if (typeof first !== "object" || first === null || inspect.custom in first) return false;
  const prototype: unknown = Object.getPrototypeOf(first);
  return rows.every(
    (row) =>
      typeof row === "object" &&
      row !== null &&
      !types.isProxy(row) &&
      !Array.isArray(row) &&
      Object.getPrototypeOf(row) === prototype &&
      !hasGetters(row) &&
      Object.values(row).every(isCellValue),
  );
}

const isCellValue = (value: unknown): boolean =>
  value === null || (typeof value !== "object" && typeof value !== "function") || value instanceof Date;

function htmlTable({ columns, rows, numRows, index }: TableContent, numColumns = columns.length): string {
  const isNumeric = (at: number) => rows.every((row) => row[at] === undefined || isNumber(row[at]));
  // The style is for JupyterLab, whose own style overrides the attribute, which GitHub keeps.
  const styles = columns.map((_, at) => {
    const align = isNumeric(at) ? "right" : "left";
    return ` align="${align}" style="text-align: ${align}"`;
  });
  const head = columns.map((column, at) => `<th${styles[at]}>${escaped(column)}</th>`).join("");
  const body = rows.map((row, i) => {
    const cells = columns.map(
      (_, at) => `<td${styles[at]}>${row[at] === undefined ? "" : cellText(row[at])}</td>`,
    );
    return `<tr><th>${index === undefined ? i : cellText(index[i])}</th>${cells.join("")}</tr>`;
  });
  const parts = [
    ...(numRows > rows.length ? [`${rows.length} of ${numRows} rows`] : []),
    ...(numColumns > columns.length ? [`${columns.length} of ${numColumns} columns`] : []),
  ];
  const rest = parts.length > 0 ? `<p>${parts.join(", ")}</p>` : "";
  return `<table><thead><tr><th></th>${head}</tr></thead><tbody>${body.join("")}</tbody></table>${rest}`;
}

const isNumber = (value: unknown): boolean => typeof value === "number" || typeof value === "bigint";

/** How many rows a frame's text has; its HTML has more. */
const maxTextRows = 10;

function textTable({ columns, rows, numRows, index }: TableContent): string {
  const shown = rows.slice(0, maxTextRows);
  const cells = shown.map((row, i) => [
    index === undefined ? String(i) : plainText(index[i]),
    ...row.slice(0, columns.length).map((value) => (value === undefined ? "" : plainText(value))),
  ]);
  const all = [["", ...columns], ...cells];
  const widths = all[0]!.map((_, at) => Math.max(...all.map((row) => row[at]!.length)));
  const lines = all.map((row) => row.map((cell, at) => cell.padStart(widths[at]!)).join("  "));
  return [...lines, ...(numRows > shown.length ? ["..."] : [])].join("\n");
}

const cellText = (value: unknown): string => escaped(plainText(value));

function plainText(value: unknown): string {
  if (typeof value === "string") return value.length > 200 ? `${value.slice(0, 200)}...` : value;
  return inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY, maxArrayLength: 5 });
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

/** Members of an object or its class, where they are data: no getter is run, and no proxy asked. */
function dataOf(value: object, names: readonly string[]): Record<string, unknown> {
  if (types.isProxy(value)) return {};
  const found: Record<string, unknown> = {};
  for (const name of names) {
    for (let at: object | null = value; at !== null; at = Object.getPrototypeOf(at) as object | null) {
      const descriptor = Object.getOwnPropertyDescriptor(at, name);
      if (descriptor === undefined) continue;
      found[name] = descriptor.value;
      break;
    }
  }
  return found;
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
