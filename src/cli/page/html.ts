import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { escapeXml } from "../../display/mime.js";
import { type Needs, noNeeds, policy, sha256 } from "./policy.js";
import { script } from "./script.js";
import { style } from "./style.js";

/**
 * A complete HTML file in the pages' style. Its script finds what it works with by position in the body: the button comes
 * first, the packed plotly.js and the script itself last.
 *
 * @param title plain text
 * @param language of the body, as HTML names it: fonts and screen readers go by it
 */
export function htmlPage(title: string, body: string, needs: Needs = noNeeds(), language = "en"): string {
  const scripts = [sha256(script), ...(needs.plotly ? [plotly().hash] : [])];
  return [
    "<!DOCTYPE html>",
    `<html lang="${language}">`,
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy(needs, scripts)}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<title>${escapeXml(title)}</title>`,
    needs.math ? `<style>${mathStyle()}</style>` : "",
    `<style>${style}</style>`,
    "</head>",
    "<body>",
    '<button id="theme" type="button" title="Light or dark" aria-label="Switch between light and dark">◐</button>',
    body,
    needs.plotly ? `<script type="text/plain">${plotly().packed}</script>` : "",
    `<script>${script}</script>`,
    "</body>",
    "</html>",
    "",
  ]
    .filter((line) => line !== "")
    .join("\n")
    .concat("\n");
}

const require = createRequire(import.meta.url);

/** KaTeX's style sheet, with its fonts embedded. */
function mathStyle(): string {
  const folder = dirname(require.resolve("katex/dist/katex.min.css"));
  const css = readFileSync(join(folder, "katex.min.css"), "utf8");
  return css.replaceAll(/src:url\((fonts\/[^)]+\.woff2)\)[^;}]*/g, (_, font: string) => {
    const data = readFileSync(join(folder, font)).toString("base64");
    return `src:url(data:font/woff2;base64,${data}) format("woff2")`;
  });
}

let plotlyParts: { readonly packed: string; readonly hash: string } | undefined;

/**
 * plotly.js compressed to a third of its size, which the page unpacks in a moment and runs as an inline script, allowed by
 * the hash of its source. It is the strict bundle, because the other one makes functions from strings.
 */
function plotly(): { readonly packed: string; readonly hash: string } {
  if (plotlyParts === undefined) {
    const code = readFileSync(require.resolve("plotly.js-strict-dist-min"), "utf8");
    plotlyParts = { packed: gzipSync(code, { level: 9 }).toString("base64"), hash: sha256(code) };
  }
  return plotlyParts;
}
