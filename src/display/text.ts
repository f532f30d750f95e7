import { readFileSync } from "node:fs";
import { Blob, Face, Font, Buffer as ShapeBuffer, shape } from "harfbuzzjs";

/**
 * Text as outlines. Pictures carry the DejaVu fonts' glyphs instead of text, so that they look the same on every machine,
 * even without any font installed, and so that what was measured is what is drawn.
 */

/** How text looks; the families are CSS generic ones. */
export interface TextStyle {
  readonly family: "sans" | "serif" | "mono";
  readonly bold: boolean;
  readonly italic: boolean;
}

/** A glyph at its place, in font units from the start of the line. */
export interface PlacedGlyph {
  readonly id: number;
  readonly x: number;
  readonly y: number;
}

/** A line of shaped text; every length is in font units. */
export interface ShapedText {
  readonly typeface: Typeface;
  readonly glyphs: readonly PlacedGlyph[];
  readonly advance: number;
  /** Whether the font has all its characters. */
  readonly complete: boolean;
}

export class Typeface {
  readonly unitsPerEm: number;
  /** Above and below the baseline, both positive. */
  readonly ascent: number;
  readonly descent: number;
  readonly #font: Font;
  readonly #shaped = new Map<string, ShapedText>();

  private constructor(readonly name: string) {
    const file = new URL(`../../vendor/${name}.ttf`, import.meta.url);
    const face = new Face(new Blob(readFileSync(file)));
    this.#font = new Font(face);
    this.unitsPerEm = face.upem;
    const extents = this.#font.hExtents();
    this.ascent = extents.ascender;
    this.descent = -extents.descender;
  }

  static readonly #loaded = new Map<string, Typeface>();

  static of(style: TextStyle): Typeface {
    const slant = style.italic ? (style.family === "serif" ? "Italic" : "Oblique") : "";
    const variant = `${style.bold ? "Bold" : ""}${slant}`;
    const family = { sans: "DejaVuSans", serif: "DejaVuSerif", mono: "DejaVuSansMono" }[style.family];
    const name = variant ? `${family}-${variant}` : family;
    const known = Typeface.#loaded.get(name);
    if (known) return known;
    const typeface = new Typeface(name);
    Typeface.#loaded.set(name, typeface);
    return typeface;
  }

  shape(text: string): ShapedText {
    const known = this.#shaped.get(text);
    if (known) return known;
    const buffer = new ShapeBuffer();
    buffer.addText(text);
    buffer.guessSegmentProperties();
    shape(this.#font, buffer);
    const positions = buffer.getGlyphPositions();
    let advance = 0;
    let complete = true;
    const glyphs = buffer.getGlyphInfos().map((info, i) => {
      const at = positions[i]!;
      const glyph = { id: info.codepoint, x: advance + at.xOffset, y: at.yOffset };
      advance += at.xAdvance;
      complete &&= info.codepoint !== 0;
      return glyph;
    });
    const shaped = { typeface: this, glyphs, advance, complete };
    // Labels repeat (ticks, frame numbers); the limit keeps a long session from holding every text it ever drew.
    if (this.#shaped.size > 5000) this.#shaped.clear();
    this.#shaped.set(text, shaped);
    return shaped;
  }

  /** A glyph's outline as SVG path data, in font units with y upwards; empty for spaces. */
  outline(id: number): string {
    return this.#font.glyphToPath(id);
  }
}

/** Collects the glyphs that a picture uses, so that each outline is written only once. */
export class GlyphSheet {
  readonly #outlines = new Map<string, string>();
  readonly #typefaces = new Map<Typeface, number>();

  /** SVG markup that draws a line of text with its baseline's start at x, y (pixels, y downwards). */
  draw(text: ShapedText, at: { x: number; y: number; size: number }): string {
    const face = text.typeface;
    if (!this.#typefaces.has(face)) this.#typefaces.set(face, this.#typefaces.size);
    const prefix = "abcdefghijkl"[this.#typefaces.get(face)!]!;
    const scale = at.size / face.unitsPerEm;
    let uses = "";
    for (const glyph of text.glyphs) {
      const id = `${prefix}${glyph.id}`;
      if (!this.#outlines.has(id)) this.#outlines.set(id, face.outline(glyph.id));
      if (this.#outlines.get(id) === "") continue;
      const y = glyph.y === 0 ? "" : ` y="${glyph.y}"`;
      uses += `<use href="#${id}" x="${glyph.x}"${y}/>`;
    }
    const place = `translate(${short(at.x)},${short(at.y)}) scale(${short(scale, 6)},${short(-scale, 6)})`;
    return `<g transform="${place}">${uses}</g>`;
  }

  /** The outlines that {@link draw} refers to, as a `<defs>` element. */
  get defs(): string {
    const paths = [...this.#outlines].filter(([, d]) => d !== "");
    return `<defs>${paths.map(([id, d]) => `<path id="${id}" d="${d}"/>`).join("")}</defs>`;
  }
}

function short(value: number, digits = 2): string {
  return String(Number(value.toFixed(digits)));
}
