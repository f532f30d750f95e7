export { type Displayable, jupyterDisplay, type MimeBundle, showAs } from "../engine/shown.js";

/** Escapes text for HTML, SVG and attribute values. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
