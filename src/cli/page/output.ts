import katex from "katex";
import { escapeXml } from "../../display/mime.js";
import type { MimeBundle, Output } from "../notebook/format.js";
import { highlight, terminal } from "./code.js";
import type { Needs } from "./html.js";
import { dataUrl, type MarkdownContext, renderMarkdown } from "./markdown.js";

const PLOTLY = "application/vnd.plotly.v1+json";

/** An output as HTML: of a MIME bundle the richest form that a page without a kernel can show. */
export async function renderOutput(output: Output, context: MarkdownContext, needs: Needs): Promise<string> {
  switch (output.output_type) {
    case "stream":
      return `<pre class="stream ${output.name === "stderr" ? "stderr" : "stdout"}">${terminal(output.text)}</pre>`;
    case "error":
      return `<pre class="error">${terminal(output.traceback.join("\n") || `${output.ename}: ${output.evalue}`)}</pre>`;
    default:
      return await renderBundle(output.data, output.metadata, context, needs);
  }
}

async function renderBundle(
  data: MimeBundle,
  metadata: Record<string, unknown>,
  context: MarkdownContext,
  needs: Needs,
): Promise<string> {
  const text = (type: string) => String(data[type]);
  if (PLOTLY in data) {
    needs.plotly = true;
    return plotlyFigure(data);
  }
  if ("text/html" in data) return `<div class="html">${text("text/html")}</div>`;
  if ("text/markdown" in data) {
    const markdown = await renderMarkdown(text("text/markdown"), context);
    needs.math ||= markdown.hasMath;
    return `<div class="markdown">${markdown.html}</div>`;
  }
  if ("text/latex" in data) {
    needs.math = true;
    return latex(text("text/latex"));
  }
  const picture = Object.keys(data).find((type) => type.startsWith("image/"));
  if (picture !== undefined) return image(picture, data, metadata[picture]);
  for (const media of ["video", "audio"]) {
    const type = Object.keys(data).find((name) => name.startsWith(`${media}/`));
    if (type !== undefined) return `<${media} controls src="${dataUrl(type, data[type])}"></${media}>`;
  }
  if ("application/json" in data) {
    const json = JSON.stringify(data["application/json"], null, 2);
    return `<pre class="code"><code>${highlight(json, "json")}</code></pre>`;
  }
  if ("text/plain" in data) return `<pre class="result">${terminal(text("text/plain"))}</pre>`;
  const other = Object.keys(data).join(", ");
  return other === ""
    ? ""
    : `<p class="note">An output of type ${escapeXml(other)} is not shown on this page.</p>`;
}

/** Drawn by the page's script; without scripts the figure's picture stands there. */
function plotlyFigure(data: MimeBundle): string {
  const figure = data[PLOTLY] as { layout?: { height?: unknown } };
  const height = Number(figure.layout?.height) || 450;
  const spec = JSON.stringify(figure).replaceAll("<", "\\u003c");
  const still = "image/png" in data ? `<noscript>${image("image/png", data, {})}</noscript>` : "";
  return `<div class="plotly" style="min-height:${height}px"><script type="application/json">${spec}</script></div>${still}`;
}

function image(type: string, data: MimeBundle, metadata: unknown): string {
  const { width, height, needs_background } = (metadata ?? {}) as Record<string, unknown>;
  const size = [
    typeof width === "number" ? ` width="${width}"` : "",
    typeof height === "number" ? ` height="${height}"` : "",
  ].join("");
  const background = typeof needs_background === "string" ? ` class="on-${escapeXml(needs_background)}"` : "";
  const alt = escapeXml(String(data["text/plain"] ?? "picture").slice(0, 200));
  return `<img src="${dataUrl(type, data[type])}" alt="${alt}"${size}${background}>`;
}

function latex(source: string): string {
  const [, body = source] = /^\s*(?:\$\$?|\\\[)(.*?)(?:\$\$?|\\\])\s*$/s.exec(source) ?? [];
  return `<div class="latex">${katex.renderToString(body, { displayMode: true, throwOnError: false })}</div>`;
}
