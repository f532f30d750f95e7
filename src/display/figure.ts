import { InputError } from "../engine/errors.js";
import { escapeXml, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";
import { renderFigure } from "./plotly/render.js";
import type { StaticPicture } from "./plotly/worker.js";

/** One plotly trace, e.g. `{ type: "bar", x: [...], y: [...] }`; see plotly.js's reference for what each type takes. */
export type Trace = Record<string, unknown>;

/** A plotly layout, e.g. `{ title: { text: "Loss" }, xaxis: { title: { text: "step" } } }`. */
export type Layout = Record<string, unknown>;

/** Defaults for plotly's attributes: room for labels, and no more. */
const TEMPLATE = {
  layout: {
    xaxis: { automargin: true },
    yaxis: { automargin: true },
    margin: { l: 56, r: 24, t: 32, b: 60 },
  },
};
const TITLE_MARGIN = 56;
const DEFAULT_WIDTH = 700;
const DEFAULT_HEIGHT = 400;

/** For the interactive figure: no button for plotly's own sharing service. */
const CONFIG = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "" };

/** An SVG larger than this (thousands of points) goes into the HTML as PNG. */
const LARGEST_SVG = 150_000;

export interface Spec {
  readonly data: readonly Trace[];
  readonly layout: Layout;
}

/** A tensor-like value as data of a trace; read when the figure is made. */
interface TensorLike {
  array(): Promise<unknown>;
  readonly dtype: string;
}

/** A plotly figure: interactive in JupyterLab and VS Code, a picture on GitHub, in HTML pages and in PDFs. */
export class Figure {
  readonly #spec: Promise<Spec>;
  readonly #summary: string;
  #picture: ReturnType<typeof renderFigure> | undefined;

  /**
   * @param data the traces; arrays may be typed arrays or tensors (which may be disposed afterwards)
   * @throws InputError if `data` is not an array of objects, `layout` not an object, or either holds a function
   */
  constructor(data: readonly Trace[], layout: Layout = {}) {
    if (!Array.isArray(data))
      throw new InputError(`figure: expected an array of traces, found ${kind(data)}`);
    data.forEach((trace, i) => {
      if (!isObject(trace)) {
        throw new InputError(`figure: expected data[${i}] to be an object, found ${kind(trace)}`);
      }
    });
    if (!isObject(layout))
      throw new InputError(`figure: expected layout to be an object, found ${kind(layout)}`);
    this.#summary = summarize({ data, layout });
    this.#spec = readSpec(data, layout);
    this.#spec.catch(() => {}); // reported where the figure is shown
  }

  /** `{ data, layout }` in plain JSON types, as plotly.js takes it. */
  async toJSON(): Promise<Spec> {
    return this.#spec;
  }

  /**
   * The figure as an SVG document, text as outlines.
   *
   * @throws Error if an attribute is wrong, or only a browser can draw a trace (those that need WebGL)
   */
  async toSvg(): Promise<string> {
    return (await this.#drawn()).svg;
  }

  /** The figure as a PNG file's bytes, at twice its size in pixels. @throws as {@link toSvg} */
  async toPng(): Promise<Uint8Array> {
    return (await this.#drawn()).png;
  }

  async [jupyterDisplay](): Promise<MimeBundle> {
    const spec = await this.#spec;
    const summary = this.#summary;
    const bundle: MimeBundle = {
      "application/vnd.plotly.v1+json": { ...spec, config: CONFIG },
    };
    const picture = await this.#render();
    if ("undrawable" in picture) {
      const note = `${summary}: ${picture.undrawable}; open the notebook in JupyterLab or VS Code to see it`;
      return { ...bundle, "text/html": `<p>${escapeXml(note)}</p>`, "text/plain": note };
    }
    return {
      ...bundle,
      "text/html": html(picture, size(spec.layout), summary),
      "image/png": Buffer.from(picture.png).toString("base64"),
      "text/plain": summary,
    };
  }

  static {
    showAs<Figure>(Figure, { line: (figure) => figure.#summary });
  }

  async #drawn(): Promise<StaticPicture> {
    const picture = await this.#render();
    if ("undrawable" in picture)
      throw new InputError(`figure: no picture without a browser: ${picture.undrawable}`);
    return picture;
  }

  #render() {
    this.#picture ??= this.#spec.then((spec) =>
      renderFigure({ spec: JSON.stringify(spec), scale: 2, ...size(spec.layout) }),
    );
    return this.#picture;
  }
}

/**
 * A chart for a notebook, drawn by plotly.js.
 *
 * @example figure([{ y: losses }], { title: { text: "Loss" }, yaxis: { type: "log" } })
 * @param data the traces
 * @param layout titles, axes, size (700 x 400 where a page does not set the width)
 */
export function figure(data: readonly Trace[], layout: Layout = {}): Figure {
  return new Figure(data, layout);
}

/**
 * An `<img>`, because the sanitizers of GitHub, JupyterLab and mail programs keep pictures but drop inline SVG, and so that
 * the ids of two figures on one page can't clash.
 */
function html(
  picture: StaticPicture,
  { width, height }: { width: number; height: number },
  alt: string,
): string {
  const small = picture.svg.length <= LARGEST_SVG;
  const type = small ? "image/svg+xml" : "image/png";
  const data = Buffer.from(small ? picture.svg : picture.png).toString("base64");
  return `<img src="data:${type};base64,${data}" width="${width}" height="${height}" alt="${escapeXml(alt)}">`;
}

function size(layout: Layout): { width: number; height: number } {
  const pixels = (value: unknown, other: number) =>
    typeof value === "number" && value >= 10 ? value : other;
  return { width: pixels(layout.width, DEFAULT_WIDTH), height: pixels(layout.height, DEFAULT_HEIGHT) };
}

function summarize({ data, layout }: Spec): string {
  const title = titleText(layout.title);
  const traces = data.map((trace) => {
    const name = typeof trace.name === "string" ? ` "${trace.name}"` : "";
    return `${typeof trace.type === "string" ? trace.type : "scatter"}${name}`;
  });
  const shown = traces.length > 6 ? [...traces.slice(0, 6), `${traces.length - 6} more`] : traces;
  return `Figure${title ? ` "${title}"` : ""}: ${shown.join(", ")}`;
}

function titleText(title: unknown): string {
  const text = isObject(title) ? (title as { text?: unknown }).text : title;
  return typeof text === "string" ? text.replace(/<[^>]*>/g, "") : "";
}

function readSpec(data: readonly Trace[], layout: Layout): Promise<Spec> {
  const waiting: Promise<void>[] = [];
  const plain = toPlain({ data, layout }, "", waiting) as { data: Trace[]; layout: Layout };
  const { margin, template, ...rest } = plain.layout;
  const spec: Spec = {
    data: plain.data,
    layout: {
      ...rest,
      template: template ?? TEMPLATE,
      margin: { ...(titleText(rest.title) ? { t: TITLE_MARGIN } : {}), ...(margin as object | undefined) },
      height: rest.height ?? DEFAULT_HEIGHT,
    },
  };
  return Promise.all(waiting).then(() => spec);
}

/** Converts to plain JSON types: typed arrays become arrays, tensors are read, and what JSON lacks is refused. */
function toPlain(value: unknown, path: string, waiting: Promise<void>[]): unknown {
  if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint") {
    throw new InputError(`figure: ${path.slice(1)}: expected data, found a ${typeof value}`);
  }
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return numbers(value as unknown as ArrayLike<number>, isFloat32(value));
  if (Array.isArray(value)) {
    return fill(
      value.map(() => null),
      value.map((item, i) => [i, item]),
    );
  }
  if (isObject(value)) return fill({}, Object.entries(value));
  return value;

  function fill<T extends object>(out: T, entries: [string | number, unknown][]): T {
    for (const [key, item] of entries) {
      const write = (result: unknown) => Object.assign(out, { [key]: result });
      const here = typeof key === "number" ? `${path}[${key}]` : `${path}.${key}`;
      if (isTensor(item)) {
        waiting.push(item.array().then((read) => void write(numbers(read, item.dtype === "float32"))));
        write(null); // keeps the keys in order
      } else if (item !== undefined) write(toPlain(item, here, waiting));
    }
    return out;
  }
}

/** Float32 values come out of tfjs with 17 digits, of which only 7 to 9 are significant. */
function numbers(value: unknown, single: boolean): unknown {
  if (typeof value === "number") return single ? Number(value.toPrecision(7)) : value;
  return Array.from(value as ArrayLike<unknown>, (item) => numbers(item, single));
}

function isFloat32(view: ArrayBufferView): boolean {
  return view instanceof Float32Array;
}

function isTensor(value: unknown): value is TensorLike {
  return isObject(value) && typeof (value as Partial<TensorLike>).array === "function" && "dtype" in value;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kind(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : `a value of type ${typeof value}`;
}
