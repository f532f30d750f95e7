/**
 * The one convention between this package and a notebook kernel: a value with a method of this name returns its MIME
 * bundle (or a promise of it). Deno's kernel and firstframe's ask for it.
 */
export const jupyterDisplay: unique symbol = Symbol.for("Jupyter.display") as never;

/** MIME type to content: text as a string, binary as base64, JSON types as objects. */
export type MimeBundle = Record<string, unknown>;

/** Anything a notebook shows by itself. */
export interface Displayable {
  [jupyterDisplay](): MimeBundle | Promise<MimeBundle>;
}

/** Escapes text for HTML, SVG and attribute values. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
