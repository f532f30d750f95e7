import { InputError } from "../../engine/errors.js";

/** Chromium's own limit, beyond which it puts elements side by side. */
const deepest = 512;

/** These end by themselves, at the latest where their parent ends. */
const ENDS_BY_ITSELF = new Set(
  "area base br col dd dt embed hr img input li link meta option p param source td th tr track wbr".split(
    " ",
  ),
);

/**
 * Throws if HTML is nested more deeply than browsers nest it, because the time to parse it is quadratic in its depth. It looks
 * only at the tags, so it may be wrong about HTML with unclosed elements.
 */
export function assertShallow(html: string): void {
  let depth = 0;
  for (let start = html.indexOf("<"); start >= 0; ) {
    const close = html.indexOf(">", start);
    if (close < 0) return;
    const [, end, name] = /^<(\/?)([a-z][a-z\d-]*)/i.exec(html.slice(start, start + 40)) ?? [];
    if (name !== undefined && html[close - 1] !== "/" && !ENDS_BY_ITSELF.has(name.toLowerCase())) {
      depth = Math.max(0, depth + (end ? -1 : 1));
      if (depth > deepest) throw new InputError(`its HTML is nested more deeply than ${deepest} elements`);
    }
    start = html.indexOf("<", start + 1);
  }
}
