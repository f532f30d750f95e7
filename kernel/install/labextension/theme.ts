/// <reference lib="dom" />

export type Layout = Record<string, unknown>;

/** Whether the page's theme is dark, as JupyterLab's theme manager notes it on the body. */
export function isDark(): boolean {
  return document.body.dataset.jpThemeLight === "false";
}

/** Calls back whenever the theme changes, until the returned function is called. */
export function onThemeChange(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => observer.disconnect();
}

const DARK_AXIS = {
  gridcolor: "#3c3c3c",
  zerolinecolor: "#5a5a5a",
  linecolor: "#8a8a8a",
  tickcolor: "#8a8a8a",
};

/** Colours on a dark page; the background is the page's own. */
const DARK = {
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { color: "#e0e0e0" },
  xaxis: DARK_AXIS,
  yaxis: DARK_AXIS,
  legend: { bgcolor: "rgba(0,0,0,0)" },
  annotationdefaults: { arrowcolor: "#e0e0e0" },
  shapedefaults: { line: { color: "#e0e0e0" } },
  modebar: { bgcolor: "rgba(0,0,0,0)", color: "#aaa", activecolor: "#fff" },
  hoverlabel: { font: { color: "#fff" } },
  colorway: [
    "#4c9be8",
    "#ff9d45",
    "#5cc96b",
    "#ef6a6a",
    "#b48ee0",
    "#c08a7a",
    "#ee94d2",
    "#a5a5a5",
    "#d0d14a",
    "#43d0e0",
  ],
};

/** Error bars, which plotly draws in a dark grey whatever the font's colour is. */
const DARK_DATA = Object.fromEntries(
  ["bar", "histogram"].map((type) => [
    type,
    [{ error_x: { color: "#c0c0c0" }, error_y: { color: "#c0c0c0" } }],
  ]),
);

/** The layout in the page's theme. What the figure says itself, or its template, goes before. */
export function themed(layout: Layout, dark: boolean): Layout {
  if (!dark) return layout;
  const template = layout.template;
  if (typeof template === "string") return layout; // a theme that the figure names
  const own = (template ?? {}) as { layout?: Layout; data?: Layout };
  return {
    ...layout,
    template: { ...own, layout: merged(DARK, own.layout ?? {}), data: merged(DARK_DATA, own.data ?? {}) },
  };
}

/** `over` on top of `under`, objects key by key. */
function merged(under: Layout, over: Layout): Layout {
  const out: Layout = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const below = out[key];
    out[key] = isObject(below) && isObject(value) ? merged(below, value) : value;
  }
  return out;
}

function isObject(value: unknown): value is Layout {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
