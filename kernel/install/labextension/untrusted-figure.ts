import type { Layout } from "./theme.js";

/**
 * What plotly.js is given of a figure that is not trusted. plotly.js runs no script of a figure's, but it loads maps, pictures
 * and whatever a style names from anywhere, and its links and buttons may take the page over; none of that is left here.
 */

export interface Figure {
  readonly data: readonly object[];
  readonly layout: Layout;
  readonly config: object;
}

export interface UntrustedFigure extends Figure {
  /** What a reader misses, in words. */
  readonly leftOut: readonly string[];
}

/**
 * The figure in a notebook's or a file's JSON.
 *
 * @throws Error that says what was expected and what was found
 */
export function readFigure(value: unknown): Figure {
  expect(isObject(value), "an object with data and layout", value);
  const { data, layout, config } = value;
  expect(data == null || Array.isArray(data), "data to be an array of traces", data);
  expect(layout == null || isObject(layout), "layout to be an object", layout);
  expect(config == null || isObject(config), "config to be an object", config);
  const traces = (data ?? []) as unknown[];
  traces.forEach((trace, i) => {
    expect(isObject(trace), `data[${i}] to be an object`, trace);
  });
  return { data: traces as object[], layout: layout ?? {}, config: config ?? {} };
}

function expect(holds: boolean, expected: string, found: unknown): asserts holds {
  if (holds) return;
  const kind = Array.isArray(found) ? "array" : typeof found;
  const shown = found == null ? String(found) : `${/^[ao]/.test(kind) ? "an" : "a"} ${kind}`;
  throw new Error(`expected ${expected}, found ${shown}`);
}

/** Those of plotly.js that draw from the figure alone; the others draw on maps, which are loaded. */
const TRACES = new Set(
  `scatter bar box heatmap histogram histogram2d histogram2dcontour contour scatterternary violin funnel waterfall image pie
  sunburst treemap icicle funnelarea scatter3d surface isosurface volume mesh3d cone streamtube scattergl splom parcoords parcats
  sankey indicator table carpet scattercarpet contourcarpet ohlc candlestick scatterpolar scatterpolargl barpolar scattersmith
  quiver`.split(/\s+/),
);

/** Parts of a layout that load something or, pressed, change the figure into one that does. */
const LAYOUT_PARTS: readonly (readonly [RegExp, string])[] = [
  [/^(geo|map|mapbox)\d*$/, "maps"],
  [/^(updatemenus|sliders)$/, "buttons and sliders"],
  [/^modebar$/, "buttons and sliders"],
];

/** plotly.js's own state, a name that it puts into selectors, and names with which JSON reaches into a prototype. */
const INTERNAL = /^(_|uid$|constructor$|prototype$)/;

/** Numbers beyond which a page is busy for minutes, or as long as a street. */
const LARGEST: Readonly<Record<string, number>> = {
  nticks: 1_000,
  nbinsx: 10_000,
  nbinsy: 10_000,
  maxdisplayed: 10_000,
  "surface.count": 100,
  "layout.width": 10_000,
  "layout.height": 10_000,
};
const LONGEST_TEXT = 10_000;
/** What is no text may be as long as it likes: numbers in base64, pictures, paths of shapes. */
const LONG = new Set(["bdata", "source", "path"]);

/** Switches of plotly.js that a figure may set; the rest of its config loads, uploads or names files. */
const SWITCHES = ["displayModeBar", "scrollZoom", "staticPlot"];

/** The part of a figure that may be drawn for a stranger; the figure itself stays as it is. */
export function untrustedFigure({ data, layout, config }: Figure): UntrustedFigure {
  const leftOut = new Set<string>();

  const clean = (value: unknown, key: string): unknown => {
    if (typeof value === "string") return text(LONG.has(key) ? value : shortened(value));
    if (Array.isArray(value)) return value.map((item) => clean(item, key));
    return isObject(value) ? cleanObject(value, key) : value;
  };
  const cleanObject = (object: Readonly<Record<string, unknown>>, parent: string) =>
    Object.fromEntries(
      Object.entries(object)
        .filter(
          ([key, value]) => !INTERNAL.test(key) && !tooLarge(parent, key, value) && !isLoaded(key, value),
        )
        .map(([key, value]) => {
          // Texts can name it (`%{fullData.contours.operation}`), so it is none of the exceptions.
          if (key === "operation" && String(value).startsWith("<")) leftOut.add("constraints of contours");
          return [key, key === "source" ? picture(value) : clean(value, key)];
        }),
    );
  const picture = (value: unknown) =>
    typeof value === "string" ? value.replaceAll("<", "%3C") : clean(value, "source");
  const isLoaded = (key: string, value: unknown) => {
    if (key !== "source" || typeof value !== "string" || value.startsWith("data:image/")) return false;
    leftOut.add("pictures from elsewhere");
    return true;
  };
  const cleanLayout = (whole: Layout): Layout => {
    const kept = Object.entries(whole).filter(([key]) => {
      const part = LAYOUT_PARTS.find(([names]) => names.test(key));
      if (part) leftOut.add(part[1]);
      return !part;
    });
    const template = whole.template as { layout?: unknown; data?: unknown } | undefined;
    return {
      ...cleanObject(Object.fromEntries(kept), "layout"),
      ...(isObject(template) && {
        template: {
          ...cleanObject(template, "template"),
          ...(isObject(template.layout) && { layout: cleanLayout(template.layout) }),
        },
      }),
    };
  };

  const drawable = data.filter((trace) => {
    const type = (trace as { type?: unknown }).type ?? "scatter";
    const known = typeof type === "string" && TRACES.has(type);
    if (!known) leftOut.add(`traces of type ${String(type).slice(0, 40)}`);
    return known;
  });
  const switches = Object.entries(config).filter(
    ([key, value]) => SWITCHES.includes(key) && (typeof value === "boolean" || value === "hover"),
  );
  return {
    data: drawable.map((trace) => cleanObject(trace as Record<string, unknown>, "trace")),
    layout: cleanLayout(layout),
    // Formulas go to a MathJax that other parts of the page have set up.
    config: { ...Object.fromEntries(switches), typesetMath: false, plotlyServerURL: "" },
    leftOut: [...leftOut],
  };
}

function tooLarge(parent: string, key: string, value: unknown): boolean {
  const largest = LARGEST[key] ?? LARGEST[`${parent}.${key}`];
  return largest !== undefined && Number(value) > largest;
}

function shortened(whole: string): string {
  return whole.length > LONGEST_TEXT ? `${whole.slice(0, LONGEST_TEXT)}…` : whole;
}

/** The elements of plotly.js's texts. */
const ELEMENTS = new Set(["a", "b", "br", "em", "extra", "i", "s", "span", "sub", "sup", "u"]);

/**
 * A text of plotly.js's with its elements written anew. A `<` that begins none of them is escaped, so that none comes about when
 * plotly.js joins texts (`%{text}`).
 */
function text(whole: string): string {
  if (!whole.includes("<")) return harmlessName(whole);
  return whole.replace(
    /<(?:(\/?)([a-z]+)((?:\s[^<>]*)?)>)?/gi,
    (found, end?: string, name = "", rest = "") => {
      const element = name.toLowerCase();
      if (!ELEMENTS.has(element)) return `&lt;${found.slice(1)}`;
      if (end) return `</${element}>`;
      const style = safeStyle(attribute(rest, "style"));
      const href = element === "a" ? safeLink(attribute(rest, "href")) : "";
      return `<${element}${href && ` href="${href}"`}${style && ` style="${style}"`}>`;
    },
  );
}

/** plotly.js takes names of groups as keys of plain objects, and then writes into what every object inherits. */
function harmlessName(name: string): string {
  return name in Object.prototype ? `${name}\u200b` : name;
}

function attribute(rest: string, name: string): string {
  const found = new RegExp(`(?:^|[\\s"'])${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, "i").exec(rest);
  return found?.[1] ?? found?.[2] ?? "";
}

/** Plain values only: no addresses, no functions but those of colours, no escapes that hide them. */
function safeStyle(style: string): string {
  const functions = style.matchAll(/([\w-]*)\s*\(/g);
  const plain = /^[\w\s:;,.#%()-]*$/.test(style);
  return plain && [...functions].every(([, name]) => /^(rgb|hsl)a?$/i.test(name!)) ? style : "";
}

/** Links to the web, which open in a page of their own that does not know this one. */
function safeLink(address: string): string {
  if (!/^(https?:|mailto:)[^\s"'<>\\`{}]*$/i.test(address)) return "";
  try {
    decodeURI(address); // as plotly.js does, which gives the figure up where it fails
    return address;
  } catch {
    return "";
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
