import { GlyphSheet, type ShapedText, type TextStyle, Typeface } from "../text.js";

/** A piece of text in one style, at its place in the coordinates of its `<text>` element. */
interface Run {
  readonly element: Element;
  readonly text: string;
  readonly shaped: ShapedText;
  readonly size: number;
  /** Start of the baseline. */
  x: number;
  readonly y: number;
}

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/**
 * Lays out the part of SVG's `<text>` (SVG 1.1, chapter 10) that plotly uses: `x`, `y`, `dx`, `dy`, `text-anchor`,
 * font properties in style attributes, nested `tspan` and `a`.
 */
function layOut(text: Element): Run[] {
  const runs: Run[] = [];
  const pen = { x: 0, y: 0 };
  let chunk: Run[] = [];
  const anchor = property(text, "text-anchor") ?? "start";

  const endChunk = () => {
    const width = chunk.reduce((sum, run) => sum + widthOf(run), 0);
    const shift = anchor === "middle" ? -width / 2 : anchor === "end" ? -width : 0;
    for (const run of chunk) run.x += shift;
    chunk = [];
  };

  const visit = (element: Element) => {
    const size = fontSize(element);
    const x = element.getAttribute("x");
    const y = element.getAttribute("y");
    if (x !== null) {
      endChunk();
      pen.x = Number.parseFloat(x);
    }
    if (y !== null) pen.y = Number.parseFloat(y);
    pen.x += length(element.getAttribute("dx"), size);
    pen.y += length(element.getAttribute("dy"), size);
    for (const child of element.childNodes) {
      if (child.nodeType === 1) visit(child as Element);
      else if (child.nodeType === 3 && child.textContent) {
        const shaped = Typeface.of(textStyle(element)).shape(child.textContent);
        const run = { element, text: child.textContent, shaped, size, x: pen.x, y: pen.y };
        pen.x += widthOf(run);
        runs.push(run);
        chunk.push(run);
      }
    }
  };

  visit(text);
  endChunk();
  return runs;
}

function widthOf(run: Run): number {
  return (run.shaped.advance / run.shaped.typeface.unitsPerEm) * run.size;
}

/** The box that a browser reports for a `<text>` or `<tspan>`: whole lines, in the coordinates of the `<text>`. */
export function textBox(element: Element): Box | null {
  const text = element.closest("text");
  if (!text) return null;
  const runs = layOut(text).filter((run) => element === text || element.contains(run.element));
  if (runs.length === 0) return null;
  // Browsers round ascent and descent to whole pixels.
  const ascent = (run: Run) =>
    Math.round((run.shaped.typeface.ascent / run.shaped.typeface.unitsPerEm) * run.size);
  const descent = (run: Run) =>
    Math.round((run.shaped.typeface.descent / run.shaped.typeface.unitsPerEm) * run.size);
  return {
    left: Math.min(...runs.map((run) => run.x)),
    top: Math.min(...runs.map((run) => run.y - ascent(run))),
    right: Math.max(...runs.map((run) => run.x + widthOf(run))),
    bottom: Math.max(...runs.map((run) => run.y + descent(run))),
  };
}

export function textLength(text: Element): number {
  return layOut(text).reduce((sum, run) => sum + widthOf(run), 0);
}

/** Replaces the `<text>` elements of an SVG document with outlines; text that the fonts lack stays text. */
export function outlineText(svg: Element): void {
  const sheet = new GlyphSheet();
  const document = svg.ownerDocument;
  for (const text of [...svg.querySelectorAll("text")]) {
    const runs = layOut(text);
    if (runs.some((run) => !run.shaped.complete)) continue;
    const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
    const transform = text.getAttribute("transform");
    if (transform) group.setAttribute("transform", transform);
    group.setAttribute("style", paintOf(text));
    group.innerHTML = runs
      .map((run) => {
        const outline = sheet.draw(run.shaped, run);
        const style = run.element === text ? "" : paintOf(run.element);
        return style === "" ? outline : `<g style="${style}">${outline}</g>`;
      })
      .join("");
    text.replaceWith(group);
  }
  svg.insertAdjacentHTML("afterbegin", sheet.defs);
}

/** The declarations that outlines need, too; the others are about fonts. */
function paintOf(element: Element): string {
  return ["fill", "fill-opacity", "opacity", "stroke", "stroke-width", "display", "visibility"]
    .flatMap((name) => {
      const value = declaration(element, name);
      return value === undefined ? [] : [`${name}: ${value};`];
    })
    .join(" ");
}

function textStyle(element: Element): TextStyle {
  const weight = property(element, "font-weight") ?? "normal";
  const family = (property(element, "font-family") ?? "").toLowerCase();
  return {
    family: /mono|courier|consol/.test(family)
      ? "mono"
      : /(^|[^-])\bserif|times|georgia/.test(family)
        ? "serif"
        : "sans",
    bold: /bold/.test(weight) || Number.parseInt(weight, 10) >= 600,
    italic: /italic|oblique/.test(property(element, "font-style") ?? ""),
  };
}

function fontSize(element: Element): number {
  const own = declaration(element, "font-size");
  const parent = element.parentElement;
  const inherited = () => (parent ? fontSize(parent) : 16);
  if (own === undefined) return inherited();
  const value = Number.parseFloat(own);
  if (own.endsWith("%")) return (inherited() * value) / 100;
  return own.endsWith("em") ? inherited() * value : value;
}

function length(value: string | null, size: number): number {
  if (value === null) return 0;
  return Number.parseFloat(value) * (value.endsWith("em") ? size : 1);
}

/** An inherited property: from the element itself or the nearest ancestor that states it. */
function property(element: Element, name: string): string | undefined {
  for (let at: Element | null = element; at; at = at.parentElement) {
    const value = declaration(at, name);
    if (value !== undefined) return value;
  }
  return undefined;
}

function declaration(element: Element, name: string): string | undefined {
  const style = element.getAttribute("style");
  if (style !== null) {
    for (const part of style.split(";")) {
      const colon = part.indexOf(":");
      if (part.slice(0, colon).trim() === name) return part.slice(colon + 1).trim();
    }
  }
  return element.getAttribute(name) ?? undefined;
}
