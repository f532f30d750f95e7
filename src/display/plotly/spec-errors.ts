import { suggestion } from "../../engine/suggestion.js";

/** One finding of `Plotly.validate`. */
export interface ValidationError {
  readonly code: string;
  readonly container: "data" | "layout";
  readonly trace: number | null;
  /** e.g. `marker.line.color` or `annotations[0].foo`. */
  readonly astr: string;
  readonly msg: string;
}

/** The part of `Plotly.PlotSchema.get()` that says what an attribute may be. */
export interface PlotlySchema {
  readonly traces: Record<string, { attributes: SchemaNode }>;
  readonly layout: { layoutAttributes: SchemaNode };
}

interface SchemaNode {
  readonly [name: string]: unknown;
}

/** plotly.js's own names; plotly.py has more. */
const COLOR_SCALES =
  "Blackbody, Bluered, Blues, Cividis, Earth, Electric, Greens, Greys, Hot, Jet, Picnic, Portland, Rainbow, RdBu, Reds, " +
  "Viridis, YlGnBu, YlOrRd";

interface Spec {
  readonly data: readonly object[];
  readonly layout: object;
}

/** What is wrong with a figure's spec, one line each, naming the path, what was found and what is expected. */
export function describeErrors(
  found: readonly ValidationError[],
  spec: Spec,
  schema: () => PlotlySchema,
): string[] {
  return found.flatMap((error) => {
    const base = error.container === "data" ? spec.data[error.trace ?? 0] : spec.layout;
    const where = `${error.container}${error.trace === null ? "" : `[${error.trace}]`}`;
    const path = error.astr === "" ? where : `${where}.${error.astr}`;
    const value = JSON.stringify(valueAt(base, error.astr))?.slice(0, 80);
    const expected = () => expectedAt(schema(), error, base as { type?: string });
    switch (error.code) {
      case "schema":
        return [
          `${path}: plotly has no such attribute${nearest(error, schema(), base as { type?: string })}`,
        ];
      case "value":
        return [`${path}: expected ${expected()}, found ${value}`];
      case "object":
        // Titles were strings before plotly.js 3.
        return [
          error.astr.endsWith("title")
            ? `${path}: expected an object such as { text: ${value} }, found ${value}`
            : `${path}: expected an object, found ${value}`,
        ];
      case "array":
        return [`${path}: expected an array, found ${value}`];
      case "invisible":
        // Empty arrays are fine: a chart that waits for its first point.
        if (Object.values(base ?? {}).some((entry) => Array.isArray(entry) && entry.length === 0)) return [];
        return [`${path}: nothing to draw, its coordinates are missing or not arrays`];
      default:
        return []; // "unused": valid, but without effect here
    }
  });
}

function valueAt(base: unknown, path: string): unknown {
  const keys = path.split(/[.[\]]+/).filter((key) => key !== "");
  return keys.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], base);
}

function attributes(schema: PlotlySchema, error: ValidationError, trace: { type?: string }): SchemaNode {
  if (error.container === "layout") return schema.layout.layoutAttributes;
  return schema.traces[trace.type ?? "scatter"]?.attributes ?? schema.traces.scatter!.attributes;
}

/** The schema node at a path; `xaxis2` is looked up as `xaxis`, an item of `annotations` as `annotation`. */
function nodeAt(root: SchemaNode, keys: readonly string[]): SchemaNode | undefined {
  let node: SchemaNode | undefined = root;
  for (const key of keys) {
    if (!node) return undefined;
    if (/^\d+$/.test(key)) {
      const items = node.items as SchemaNode | undefined;
      node = items && (Object.values(items)[0] as SchemaNode);
    } else node = (node[key] ?? node[key.replace(/\d+$/, "")]) as SchemaNode | undefined;
  }
  return node;
}

function expectedAt(schema: PlotlySchema, error: ValidationError, trace: { type?: string }): string {
  if (error.container === "data" && error.astr === "type") {
    return `one of ${Object.keys(schema.traces).join(", ")}`;
  }
  const keys = error.astr.split(/[.[\]]+/).filter((key) => key !== "");
  const node = nodeAt(attributes(schema, error, trace), keys);
  const list = (values: unknown) => (values as unknown[]).map((value) => JSON.stringify(value)).join(", ");
  if (!node) return "another value";
  switch (node.valType) {
    case "enumerated":
      return `one of ${list(node.values)}`;
    case "flaglist": {
      const alone = Array.isArray(node.extras) ? `, or ${list(node.extras)}` : "";
      return `any of ${list(node.flags)} joined by "+"${alone}`;
    }
    case "number":
    case "integer": {
      const least = node.min === undefined ? "" : ` of at least ${node.min}`;
      const most = node.max === undefined ? "" : ` of at most ${node.max}`;
      return `${node.valType === "integer" ? "an integer" : "a number"}${least}${most}`;
    }
    case "data_array":
      return "an array";
    case "color":
      return "a CSS colour";
    case "colorscale":
      return `a colour scale (${COLOR_SCALES}, or [[0, colour], ..., [1, colour]])`;
    default:
      return `a ${node.valType}`;
  }
}

/** " (did you mean mode?)" if an attribute at that place is spelled almost the same. */
function nearest(error: ValidationError, schema: PlotlySchema, trace: { type?: string }): string {
  const keys = error.astr.split(/[.[\]]+/).filter((key) => key !== "");
  const name = keys.pop() ?? "";
  const siblings = Object.keys(nodeAt(attributes(schema, error, trace), keys) ?? {});
  return suggestion(
    name,
    siblings.filter((sibling) => !sibling.startsWith("_")),
  );
}
