import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parentPort } from "node:worker_threads";
import { type DOMWindow, JSDOM, VirtualConsole } from "jsdom";
import sharp from "sharp";
import { installCanvas } from "./canvas.js";
import { installGeometry } from "./geometry.js";
import { describeErrors, type PlotlySchema, type ValidationError } from "./spec-errors.js";
import { outlineText } from "./svg-text.js";

/**
 * Draws plotly figures without a browser: plotly.js runs in a jsdom window that measures text by font metrics. It runs in
 * its own thread, so that the seconds it takes to load block nothing.
 */

export interface RenderRequest {
  readonly id: number;
  /** `{ data, layout }` as JSON. */
  readonly spec: string;
  readonly width: number;
  readonly height: number;
  /** Pixels of the PNG per pixel of the figure. */
  readonly scale: number;
}

export interface StaticPicture {
  readonly svg: string;
  readonly png: Uint8Array;
}

/** `undrawable`: valid, but only a browser can draw it. */
export type RenderReply =
  | ({ readonly id: number; readonly kind: "picture" } & StaticPicture)
  | { readonly id: number; readonly kind: "undrawable"; readonly reason: string }
  | { readonly id: number; readonly kind: "error"; readonly message: string };

interface Plotly {
  newPlot(element: Element, data: unknown, layout: unknown, config: object): Promise<void>;
  purge(element: Element): void;
  validate(data: unknown, layout: unknown): ValidationError[] | undefined;
  Snapshot: { toSVG(element: Element, format: "svg", scale: number): string };
  PlotSchema: { get(): PlotlySchema };
}

interface Trace {
  type?: string;
}

/** Drawn with WebGL in browsers; the first ones have an SVG equivalent that looks the same. */
const SVG_TWIN: Record<string, string> = { scattergl: "scatter", scatterpolargl: "scatterpolar" };
const BROWSER_ONLY =
  /^(scatter3d|surface|mesh3d|cone|streamtube|isosurface|volume|parcoords|splom|scattergeo|(scatter|density|choropleth)map(box)?|choropleth)$/;

let browser: { window: DOMWindow; plotly: Plotly; painted: ReturnType<typeof installCanvas> } | undefined;

function load() {
  const dom = new JSDOM("<!doctype html><body></body>", {
    runScripts: "outside-only",
    pretendToBeVisual: true,
    virtualConsole: new VirtualConsole(),
  });
  const { window } = dom;
  installGeometry(window);
  const painted = installCanvas(window);
  Object.assign(window, { CSS: { supports: () => true } });
  Object.assign(window.URL, { createObjectURL: () => "blob:none", revokeObjectURL: () => {} });
  const file = createRequire(import.meta.url).resolve("plotly.js-dist");
  window.eval(readFileSync(file, "utf8"));
  return { window, plotly: (window as unknown as { Plotly: Plotly }).Plotly, painted };
}

async function render(request: RenderRequest): Promise<RenderReply> {
  const { id, width, height, scale } = request;
  browser ??= load();
  const { window, plotly, painted } = browser;
  // Element ids come from here, and the same figure has to produce the same bytes.
  window.Math.random = lehmer(hash(request.spec));
  painted.clear();
  // Parsed inside the window, because plotly's checks for arrays and objects only know its own realm.
  const parse = window.JSON.parse as (text: string) => { data: Trace[]; layout: object };

  const checked = parse(request.spec);
  const found = plotly.validate(checked.data, checked.layout) ?? [];
  const errors = describeErrors(found, checked, () => plotly.PlotSchema.get());
  if (errors.length > 0) return { id, kind: "error", message: errors.join("; ") };

  const { data, layout } = parse(request.spec);
  for (const trace of data) trace.type = SVG_TWIN[trace.type ?? ""] ?? trace.type;
  const undrawable = data.find((trace) => BROWSER_ONLY.test(trace.type ?? ""));
  if (undrawable) return { id, kind: "undrawable", reason: `${undrawable.type} traces need WebGL` };

  const element = window.document.createElement("div");
  window.document.body.append(element);
  try {
    await plotly.newPlot(element, data, { ...layout, width, height }, { staticPlot: true });
    const drawn = plotly.Snapshot.toSVG(element, "svg", 1);
    const svg = await withPixels(withOutlines(window, drawn, width, height), painted);
    const png = await sharp(Buffer.from(svg), { density: 72 * scale, unlimited: true })
      .flatten({ background: "white" })
      .png({ palette: true, quality: 100, effort: 7, dither: 0 })
      .toBuffer();
    return { id, kind: "picture", svg, png };
  } finally {
    plotly.purge(element);
    element.remove();
  }
}

function withOutlines(window: DOMWindow, svg: string, width: number, height: number): string {
  const document = new window.DOMParser().parseFromString(svg, "image/svg+xml");
  const root = document.documentElement;
  outlineText(root);
  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return new window.XMLSerializer().serializeToString(root);
}

async function withPixels(svg: string, painted: ReturnType<typeof installCanvas>): Promise<string> {
  let out = svg;
  for (const [placeholder, { data, width, height }] of painted) {
    const raw = { width, height, channels: 4 } as const;
    const png = await sharp(data, { raw }).png({ compressionLevel: 9 }).toBuffer();
    out = out.replace(`"${placeholder}"`, `"data:image/png;base64,${png.toString("base64")}"`);
  }
  return out;
}

/** Park and Miller's minimal generator: plotly only needs names that do not collide within a figure. */
function lehmer(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return (state - 1) / 2147483646;
  };
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return value;
}

// One figure at a time: they share the window and its random numbers.
let queue: Promise<void> = Promise.resolve();
parentPort?.on("message", (request: RenderRequest) => {
  queue = queue.then(async () => {
    const reply = await render(request).catch(
      (error: unknown): RenderReply => ({
        id: request.id,
        kind: "error",
        message: error instanceof Error ? error.message : String(error),
      }),
    );
    parentPort!.postMessage(reply);
  });
});
