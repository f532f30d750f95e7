import type { DOMWindow } from "jsdom";
import { svgPathProperties } from "svg-path-properties";
import { type Box, textBox, textLength } from "./svg-text.js";

/**
 * Gives a jsdom window the measurements that plotly.js asks for and browsers take from their layout engine: boxes of SVG
 * elements (text by the fonts' own metrics) and lengths along paths.
 */
export function installGeometry(window: DOMWindow): void {
  const svg = window.SVGElement.prototype;
  const define = (target: object, name: string, value: (this: Element, ...args: never[]) => unknown) =>
    Object.defineProperty(target, name, { value, configurable: true, writable: true });

  define(svg, "getBBox", function () {
    return rect(localBox(this));
  });
  define(svg, "getBoundingClientRect", function () {
    const box = localBox(this);
    return rect(box && transformBox(box, matrixToRoot(this)));
  });
  define(svg, "getComputedTextLength", function () {
    return textLength(this);
  });
  define(svg, "getTotalLength", function () {
    return pathOf(this)?.getTotalLength() ?? 0;
  });
  define(svg, "getPointAtLength", function (at: number) {
    return pathOf(this)?.getPointAtLength(at) ?? { x: 0, y: 0 };
  });
}

function rect(box: Box | null) {
  const { left, top, right, bottom } = box ?? { left: 0, top: 0, right: 0, bottom: 0 };
  return { x: left, y: top, left, top, right, bottom, width: right - left, height: bottom - top };
}

/** The box of an element in its own coordinates, before its `transform`. */
function localBox(element: Element): Box | null {
  switch (element.localName) {
    case "text":
    case "tspan":
      return textBox(element);
    case "rect":
    case "image":
    case "foreignObject": {
      const [x, y] = [number(element, "x"), number(element, "y")];
      const [width, height] = [number(element, "width"), number(element, "height")];
      return { left: x, top: y, right: x + width, bottom: y + height };
    }
    case "circle": {
      const [x, y, r] = [number(element, "cx"), number(element, "cy"), number(element, "r")];
      return { left: x - r, top: y - r, right: x + r, bottom: y + r };
    }
    case "line": {
      const [x1, x2] = [number(element, "x1"), number(element, "x2")];
      const [y1, y2] = [number(element, "y1"), number(element, "y2")];
      return {
        left: Math.min(x1, x2),
        top: Math.min(y1, y2),
        right: Math.max(x1, x2),
        bottom: Math.max(y1, y2),
      };
    }
    case "path":
      return pathBox(element);
    case "g":
    case "svg":
    case "a":
      return union(
        [...element.children].map((child) => {
          const box = localBox(child);
          return box && transformBox(box, transformOf(child));
        }),
      );
    default:
      return null; // defs, clipPath, title and the like take no room
  }
}

function pathOf(element: Element) {
  const d = element.getAttribute("d");
  return d ? new svgPathProperties(d) : null;
}

function pathBox(element: Element): Box | null {
  const path = pathOf(element);
  if (!path) return null;
  const points = path.getParts().flatMap((part) => {
    // Curves bulge between their ends; a few points on them are accurate enough to place a label.
    const inner = part.length > 0 ? [0.25, 0.5, 0.75].map((t) => part.getPointAtLength(part.length * t)) : [];
    return [part.start, ...inner, part.end];
  });
  return union(points.map(({ x, y }) => ({ left: x, top: y, right: x, bottom: y })));
}

function union(boxes: readonly (Box | null)[]): Box | null {
  return boxes.reduce((sum, box) => {
    if (!sum || !box) return sum ?? box;
    return {
      left: Math.min(sum.left, box.left),
      top: Math.min(sum.top, box.top),
      right: Math.max(sum.right, box.right),
      bottom: Math.max(sum.bottom, box.bottom),
    };
  }, null);
}

/** a, b, c, d, e, f as in SVG's `matrix()`. */
type Matrix = readonly [number, number, number, number, number, number];
const IDENTITY: Matrix = [1, 0, 0, 1, 0, 0];

function multiply(m: Matrix, n: Matrix): Matrix {
  return [
    m[0] * n[0] + m[2] * n[1],
    m[1] * n[0] + m[3] * n[1],
    m[0] * n[2] + m[2] * n[3],
    m[1] * n[2] + m[3] * n[3],
    m[0] * n[4] + m[2] * n[5] + m[4],
    m[1] * n[4] + m[3] * n[5] + m[5],
  ];
}

function transformBox(box: Box, m: Matrix): Box {
  const corners = [
    [box.left, box.top],
    [box.right, box.top],
    [box.left, box.bottom],
    [box.right, box.bottom],
  ] as const;
  const xs = corners.map(([x, y]) => m[0] * x + m[2] * y + m[4]);
  const ys = corners.map(([x, y]) => m[1] * x + m[3] * y + m[5]);
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
}

/** From an element's own coordinates to those of the drawing. */
function matrixToRoot(element: Element): Matrix {
  let matrix: Matrix = IDENTITY;
  for (let at: Element | null = element; at; at = at.parentElement)
    matrix = multiply(transformOf(at), matrix);
  return matrix;
}

function transformOf(element: Element): Matrix {
  let matrix: Matrix = IDENTITY;
  if (element.localName === "svg") {
    matrix = [1, 0, 0, 1, number(element, "x"), number(element, "y")];
  }
  for (const [, name, list] of (element.getAttribute("transform") ?? "").matchAll(/(\w+)\s*\(([^)]*)\)/g)) {
    const v = list!
      .split(/[\s,]+/)
      .filter((part) => part !== "")
      .map(Number);
    matrix = multiply(matrix, elementary(name!, v));
  }
  return matrix;
}

function elementary(name: string, v: readonly number[]): Matrix {
  switch (name) {
    case "translate":
      return [1, 0, 0, 1, v[0] ?? 0, v[1] ?? 0];
    case "scale":
      return [v[0] ?? 1, 0, 0, v[1] ?? v[0] ?? 1, 0, 0];
    case "rotate": {
      const angle = ((v[0] ?? 0) * Math.PI) / 180;
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const [x, y] = [v[1] ?? 0, v[2] ?? 0];
      return [cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y];
    }
    case "matrix":
      return v as unknown as Matrix;
    default:
      return IDENTITY;
  }
}

function number(element: Element, name: string): number {
  return Number.parseFloat(element.getAttribute(name) ?? "0") || 0;
}
