import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { script } from "./script.js";
import { style } from "./style.js";

/** What the page has to bring along for what is on it. */
export interface Needs {
  math: boolean;
  plotly: boolean;
}

/** A whole HTML file in the pages' style. */
export function htmlPage(title: string, body: string, needs: Needs = { math: false, plotly: false }): string {
  return [
    "<!DOCTYPE html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<title>${title.replace(/<[^>]*>/g, "")}</title>`,
    needs.math ? `<style>${mathStyle()}</style>` : "",
    `<style>${style}</style>`,
    "</head>",
    "<body>",
    '<button id="theme" type="button" title="Light or dark" aria-label="Switch between light and dark">◐</button>',
    body,
    needs.plotly ? `<script type="text/plain" id="plotly.js.gz">${plotly()}</script>` : "",
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

/** KaTeX's style sheet with its fonts in it. */
function mathStyle(): string {
  const folder = dirname(require.resolve("katex/dist/katex.min.css"));
  const css = readFileSync(join(folder, "katex.min.css"), "utf8");
  return css.replaceAll(/src:url\((fonts\/[^)]+\.woff2)\)[^;}]*/g, (_, font: string) => {
    const data = readFileSync(join(folder, font)).toString("base64");
    return `src:url(data:font/woff2;base64,${data}) format("woff2")`;
  });
}

let packedPlotly: string | undefined;

/** plotly.js packed: a fifth of its size, and the page unpacks it in a moment. */
function plotly(): string {
  packedPlotly ??= gzipSync(readFileSync(require.resolve("plotly.js-dist")), { level: 9 }).toString("base64");
  return packedPlotly;
}
