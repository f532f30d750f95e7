/** Charts that several notebooks draw: what to show in one call, and plotly's own attributes where more is wanted. */
import { InputError } from "../engine/errors.js";
import { type Figure, figure, type Layout, type Trace } from "./figure.js";

/** What stands around a chart. */
export interface ChartOptions {
  readonly title?: string;
  /** What the axes count: `"frame"`, `"PSNR (dB)"`. */
  readonly x?: string;
  readonly y?: string;
  readonly width?: number;
  readonly height?: number;
  /** More of plotly's layout; its `xaxis` and `yaxis` are laid over the chart's own. */
  readonly layout?: Layout;
}

export interface BarsOptions extends ChartOptions {
  /** What the bars are called; their number, from 0, unless given. */
  readonly labels?: readonly string[];
  /** How far a bar's interval reaches to each side of it; of several series by their names. */
  readonly errors?: readonly number[] | Readonly<Record<string, readonly number[]>>;
  /** A colour for each bar (of a single series) or for each series. */
  readonly colors?: readonly string[];
  /** Writes each bar's value above it, with so many digits behind the point. */
  readonly digits?: number;
}

/**
 * Bars side by side: one series of numbers, or several by name.
 *
 * @example bars({ "starting noise": before, sampled: after }, { y: "RMS", labels: ["0 to 1", "1 to 2"] })
 * @throws InputError for series, labels, errors or colours of different lengths
 */
export function bars(
  values: readonly number[] | Readonly<Record<string, readonly number[]>>,
  options: BarsOptions = {},
): Figure {
  const single = isSeries(values);
  const series: [string | undefined, readonly number[]][] = single
    ? [[undefined, values]]
    : Object.entries(values);
  const count = series[0]?.[1].length ?? 0;
  const labels = options.labels ?? Array.from({ length: count }, (_, i) => `${i}`);
  for (const [name, numbers] of series) {
    sameLength("bars", name === undefined ? "values" : `"${name}"`, numbers.length, labels.length);
  }
  const { errors, colors, digits } = options;
  if (!single && isSeries(errors))
    throw new InputError("bars: expected errors by the series' names, found a list");
  const reaches = series.map(([name]) =>
    isSeries(errors) ? errors : name === undefined ? undefined : errors?.[name],
  );
  reaches.forEach((reach, i) => {
    if (reach) sameLength("bars", "errors", reach.length, count);
    else if (errors)
      throw new InputError(`bars: expected errors of "${series[i]![0] ?? "the bars"}", found none`);
  });
  if (colors) sameLength("bars", "colors", colors.length, single ? count : series.length);
  const traces = series.map(
    ([name, y], i): Trace => ({
      type: "bar",
      name,
      x: labels,
      y,
      error_y: reaches[i] && { type: "data", array: reaches[i] },
      text: digits === undefined ? undefined : y.map((value) => value.toFixed(digits)),
      marker: colors && { color: single ? colors : colors[i] },
    }),
  );
  return figure(traces, around(options, { height: 320, xaxis: { type: "category" } }));
}

/** A curve: heights alone, at 0, 1, 2 and so on, or with their places, and any of plotly's attributes of a trace. */
export type Curve =
  | readonly number[]
  | ({ readonly x?: readonly number[]; readonly y: readonly number[] } & Trace);

export interface LinesOptions extends ChartOptions {
  /** Draws a dot at each value, as where there are few of them. */
  readonly markers?: boolean;
  /** Axes whose steps are factors. */
  readonly log?: "x" | "y" | "xy";
}

/**
 * Curves by name, over one pair of axes. A curve called `""` has no name in the legend.
 *
 * @example lines({ pixels: { x: sigmas, y: ofPixels }, latents: { x: sigmas, y: ofLatents } }, { log: "xy", x: "sigma" })
 */
export function lines(curves: Readonly<Record<string, Curve>>, options: LinesOptions = {}): Figure {
  const mode = options.markers ? "lines+markers" : "lines";
  const traces = Object.entries(curves).map(
    ([name, curve]): Trace => ({
      type: "scatter",
      mode,
      name: name === "" ? undefined : name,
      ...(isSeries(curve) ? { y: curve } : curve),
    }),
  );
  const axis = (letter: string) => (options.log?.includes(letter) ? { type: "log" } : {});
  return figure(traces, around(options, { height: 340, xaxis: axis("x"), yaxis: axis("y") }));
}

export interface HeatmapOptions extends ChartOptions {
  /** What the colours count. */
  readonly scale?: string;
  /** Names of the columns and rows. */
  readonly columns?: readonly string[];
  readonly rows?: readonly string[];
  /** The first row at the top, as in a table; else at the bottom, as in a chart. */
  readonly down?: boolean;
  /** Lines across the map, between columns: at 2.5 one between columns 2 and 3. */
  readonly lines?: readonly number[];
  readonly lineColor?: string;
}

/** A table of numbers as colours, a row after another; null leaves its place empty. */
export function heatmap(
  values: readonly (readonly (number | null)[])[],
  options: HeatmapOptions = {},
): Figure {
  const plain = { showgrid: false, zeroline: false };
  const { lines: at = [], lineColor: color = "#d62728" } = options;
  return figure(
    [
      {
        type: "heatmap",
        z: values,
        x: options.columns,
        y: options.rows,
        colorscale: "Viridis",
        colorbar: options.scale === undefined ? undefined : { title: { text: options.scale } },
      },
    ],
    around(options, {
      height: 380,
      xaxis: plain,
      yaxis: options.down ? { ...plain, autorange: "reversed" } : plain,
      shapes: at.map((x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color } })),
    }),
  );
}

/** An estimate with the interval in which it lies. */
export interface IntervalRow {
  readonly name: string;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface IntervalsOptions extends ChartOptions {
  /** Panels side by side before a new row of them begins. Default 3. */
  readonly columns?: number;
}

/** Colours of intervals that leave out 0, and of those that do not. */
export const INTERVAL_COLORS = { shown: "#1f77b4", notShown: "#8a8a8a" } as const;

/**
 * Differences as dots with their intervals, a panel for each measure by its name, with a line at 0: where an interval reaches across
 * it, no difference is shown, and it is grey.
 *
 * @example intervals({ "PSNR, dB": [{ name: "no noise", mean: -0.4, low: -0.6, high: -0.1 }] })
 * @throws InputError without a panel, or for one without rows
 */
export function intervals(
  panels: Readonly<Record<string, readonly IntervalRow[]>>,
  options: IntervalsOptions = {},
): Figure {
  const all = Object.entries(panels);
  if (all.length === 0) throw new InputError("intervals: expected panels, found none");
  for (const [title, rows] of all)
    if (rows.length === 0) throw new InputError(`intervals: expected rows in "${title}", found none`);
  const columns = Math.min(options.columns ?? 3, all.length);
  const lines = Math.ceil(all.length / columns);
  const most = Math.max(...all.map(([, rows]) => rows.length));
  const height = options.height ?? lines * (26 * most + 84) + 60;
  const [gap, room] = [0.04, 66 / height];
  const axes: Record<string, unknown> = {};
  const annotations: object[] = [];
  const traces = all.map(([title, rows], panel): Trace => {
    const [column, line] = [panel % columns, Math.floor(panel / columns)];
    const [left, right] = [column / columns, (column + 1) / columns - gap];
    const [top, bottom] = [1 - line / lines, 1 - (line + 1) / lines + room];
    const number = panel === 0 ? "" : String(panel + 1);
    axes[`xaxis${number}`] = {
      domain: [left, right],
      anchor: `y${number}`,
      rangemode: "tozero",
      zeroline: true,
      zerolinecolor: "#d62728",
      zerolinewidth: 1.5,
      nticks: 5,
    };
    axes[`yaxis${number}`] = {
      domain: [bottom, top],
      anchor: `x${number}`,
      type: "category",
      autorange: "reversed",
      showticklabels: column === 0,
    };
    annotations.push({
      text: title,
      x: (left + right) / 2,
      y: top,
      xref: "paper",
      yref: "paper",
      xanchor: "center",
      yanchor: "bottom",
      showarrow: false,
      font: { size: 12 },
    });
    const color = rows.map(({ low, high }) =>
      low > 0 || high < 0 ? INTERVAL_COLORS.shown : INTERVAL_COLORS.notShown,
    );
    return {
      type: "scatter",
      mode: "markers",
      x: rows.map(({ mean }) => mean),
      y: rows.map(({ name }) => name),
      xaxis: `x${number}`,
      yaxis: `y${number}`,
      marker: { color, size: 9 },
      error_x: {
        type: "data",
        symmetric: false,
        array: rows.map(({ mean, high }) => high - mean),
        arrayminus: rows.map(({ mean, low }) => mean - low),
        color: "#5f5f5f",
        thickness: 1.5,
      },
      showlegend: false,
    };
  });
  const margin = { b: 12, r: 12, t: options.title === undefined ? 36 : 64 };
  const own = { height, width: Math.min(900, 300 * columns + 120), showlegend: false, annotations, margin };
  return figure(traces, { ...axes, ...around(options, { ...own, xaxis: axes.xaxis, yaxis: axes.yaxis }) });
}

/** A row of {@link sequencePicture}. */
export interface SequenceRow {
  /** Stands before the row. */
  readonly name: string;
  /** What stands in each box, from the left. */
  readonly boxes: readonly (string | number)[];
  /** A colour for each box; blue unless given. */
  readonly colors?: readonly string[];
  /** Boxes in this row's patches. */
  readonly patch?: number;
}

export interface SequencePictureOptions extends ChartOptions {
  /** Boxes in patches that go through all rows; a row's own `patch` is only its own. */
  readonly patch?: number;
}

/** The colours that tutorials give to copies of the first latent frame, to that frame, to the others, and to nothing. */
export const SEQUENCE_COLORS = {
  copy: "#d62728",
  first: "#ff7f0e",
  frame: "#1f77b4",
  empty: "#8a8a8a",
} as const;

/**
 * Sequences of latent frames as rows of boxes, place below place, with the outlines of the patches that the transformer cuts
 * them into.
 *
 * @example sequencePicture([{ name: "video latents", boxes: [0, 0, 1, 2] }], { patch: 2 })
 * @throws InputError if there is no box, or a row has not as many colours as boxes
 */
export function sequencePicture(rows: readonly SequenceRow[], options: SequencePictureOptions = {}): Figure {
  const widest = Math.max(0, ...rows.map(({ boxes }) => boxes.length));
  if (widest === 0) throw new InputError("sequencePicture: expected boxes, found none");
  for (const { name, boxes, colors } of rows) {
    if (colors) sameLength("sequencePicture", `colors of "${name}"`, colors.length, boxes.length);
  }
  const height = (row: number) => rows.length - 1 - row;
  const outlines = (patch: number, count: number, from: number, to: number) =>
    Array.from({ length: Math.floor(count / patch) }, (_, i) => ({
      type: "rect",
      x0: patch * i - 0.46,
      x1: patch * (i + 1) - 0.54,
      y0: from - 0.42,
      y1: to + 0.42,
      line: { color: "#7f7f7f", width: 1.5 },
    }));
  const shapes = [
    ...(options.patch === undefined ? [] : outlines(options.patch, widest, 0, rows.length - 1)),
    ...rows.flatMap(({ patch, boxes }, row) =>
      patch === undefined ? [] : outlines(patch, boxes.length, height(row), height(row)),
    ),
  ];
  return figure(
    rows.map(
      ({ boxes, colors }, row): Trace => ({
        type: "scatter",
        mode: "markers+text",
        x: boxes.map((_, i) => i),
        y: boxes.map(() => height(row)),
        text: boxes.map(String),
        marker: { symbol: "square", size: 23, color: colors ?? SEQUENCE_COLORS.frame },
        textfont: { size: 11, color: "white" },
        hoverinfo: "skip",
      }),
    ),
    around(options, {
      width: 860,
      height: 120 + 60 * rows.length,
      showlegend: false,
      shapes,
      xaxis: {
        dtick: 1,
        range: [-0.8, widest - 0.2],
        showgrid: false,
        zeroline: false,
        title: { text: "place in the sequence" },
      },
      yaxis: {
        tickvals: rows.map((_, row) => height(row)),
        ticktext: rows.map(({ name }) => name),
        range: [-0.6, rows.length - 0.4],
        showgrid: false,
        zeroline: false,
      },
    }),
  );
}

function around({ title, x, y, width, height, layout = {} }: ChartOptions, own: Layout): Layout {
  const axis = (name: "xaxis" | "yaxis", text: string | undefined) => ({
    ...(own[name] as object | undefined),
    ...(text === undefined ? {} : { title: { text } }),
    ...(layout[name] as object | undefined),
  });
  return {
    ...own,
    ...(title === undefined ? {} : { title: { text: title } }),
    ...(width === undefined ? {} : { width }),
    ...(height === undefined ? {} : { height }),
    ...layout,
    xaxis: axis("xaxis", x),
    yaxis: axis("yaxis", y),
  };
}

const isSeries = (value: unknown): value is readonly number[] => Array.isArray(value);

function sameLength(what: string, part: string, found: number, expected: number): void {
  if (found !== expected) throw new InputError(`${what}: expected ${expected} ${part}, found ${found}`);
}
