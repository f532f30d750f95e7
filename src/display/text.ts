import { readFileSync } from "node:fs";
import { Blob, Face, Font, Buffer as ShapeBuffer, shape } from "harfbuzzjs";

/**
 * Text as outlines. Pictures carry the DejaVu fonts' glyphs instead of text, so that they look the same on every machine,
 * even without any font installed, and so that what was measured is what is drawn. DejaVu has no Chinese: that is Noto Sans SC's,
 * in one weight.
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
  /** The font that it is from, whose units may be others than the line's. */
  readonly typeface: Typeface;
  readonly x: number;
  readonly y: number;
}

/** A line of shaped text; every length is in font units. */
export interface ShapedText {
  readonly typeface: Typeface;
  readonly glyphs: readonly PlacedGlyph[];
  readonly advance: number;
  /** Whether the fonts have all its characters. */
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

  /** What draws the characters that no style has. */
  static get #chinese(): Typeface {
    return Typeface.#named("NotoSansSC");
  }

  static of(style: TextStyle): Typeface {
    const slant = style.italic ? (style.family === "serif" ? "Italic" : "Oblique") : "";
    const variant = `${style.bold ? "Bold" : ""}${slant}`;
    const family = { sans: "DejaVuSans", serif: "DejaVuSerif", mono: "DejaVuSansMono" }[style.family];
    return Typeface.#named(variant ? `${family}-${variant}` : family);
  }

  static #named(name: string): Typeface {
    const known = Typeface.#loaded.get(name);
    if (known) return known;
    const typeface = new Typeface(name);
    Typeface.#loaded.set(name, typeface);
    return typeface;
  }

  shape(text: string): ShapedText {
    const known = this.#shaped.get(text);
    if (known) return known;
    const glyphs: PlacedGlyph[] = [];
    let advance = 0;
    for (const { typeface, text: run } of this.#runs(text)) {
      const scale = this.unitsPerEm / typeface.unitsPerEm;
      const buffer = new ShapeBuffer();
      buffer.addText(run);
      buffer.guessSegmentProperties();
      shape(typeface.#font, buffer);
      const positions = buffer.getGlyphPositions();
      for (const [i, { codepoint: id }] of buffer.getGlyphInfos().entries()) {
        const at = positions[i]!;
        glyphs.push({ id, typeface, x: advance + at.xOffset * scale, y: at.yOffset * scale });
        advance += at.xAdvance * scale;
      }
    }
    const shaped = { typeface: this, glyphs, advance, complete: glyphs.every(({ id }) => id !== 0) };
    // Labels repeat (ticks, frame numbers); the limit keeps a long session from holding every text it ever drew.
    if (this.#shaped.size > 5000) this.#shaped.clear();
    this.#shaped.set(text, shaped);
    return shaped;
  }

  /** A text's parts by the font that draws them: this one wherever it can. */
  #runs(text: string): { readonly typeface: Typeface; text: string }[] {
    const runs: { readonly typeface: Typeface; text: string }[] = [];
    for (const character of text) {
      const own = this.#has(character) || !Typeface.#chinese.#has(character);
      const typeface = own ? this : Typeface.#chinese;
      const last = runs.at(-1);
      if (last?.typeface === typeface) last.text += character;
      else runs.push({ typeface, text: character });
    }
    return runs;
  }

  #has(character: string): boolean {
    return this.#font.nominalGlyph(character.codePointAt(0)!) !== undefined;
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
    const scale = at.size / text.typeface.unitsPerEm;
    let uses = "";
    for (const { id: glyph, typeface, x, y } of text.glyphs) {
      if (!this.#typefaces.has(typeface)) this.#typefaces.set(typeface, this.#typefaces.size);
      const id = `${"abcdefghijklm"[this.#typefaces.get(typeface)!]!}${glyph}`;
      if (!this.#outlines.has(id)) this.#outlines.set(id, typeface.outline(glyph));
      if (this.#outlines.get(id) === "") continue;
      // Every outline is in units of its own font.
      const ratio = text.typeface.unitsPerEm / typeface.unitsPerEm;
      const own = ratio === 1 ? "" : ` transform="scale(${ratio})"`;
      uses += `<use href="#${id}" x="${x / ratio}"${y === 0 ? "" : ` y="${y / ratio}"`}${own}/>`;
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
