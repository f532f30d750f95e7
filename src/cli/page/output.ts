import katex from "katex";
import { escapeXml } from "../../display/mime.js";
import type { MimeBundle, Output } from "../notebook/format.js";
import { highlight, terminal } from "./code.js";
import {
  katexOptions,
  type MarkdownContext,
  plainSource,
  type RenderedHtml,
  renderHtml,
  renderMarkdown,
} from "./markdown.js";
import { type Medium, mediaUrl, shownType } from "./media.js";
import { ownHtml } from "./output-html.js";
import type { Needs } from "./policy.js";

const PLOTLY = "application/vnd.plotly.v1+json";

export interface OutputContext extends MarkdownContext {
  /** Takes scripts out of the outputs' HTML as well. */
  readonly sanitizeHtml?: boolean;
}

/** An output as HTML, in the richest form of its MIME bundle that a page without a kernel can show. */
export async function renderOutput(output: Output, context: OutputContext, needs: Needs): Promise<string> {
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
  context: OutputContext,
  needs: Needs,
): Promise<string> {
  const text = (type: string) => String(data[type]);
  if (PLOTLY in data) {
    needs.plotly = true;
    return plotlyFigure(data, context);
  }
  if ("text/html" in data) return `<div class="html">${await html(text("text/html"), context, needs)}</div>`;
  if ("text/markdown" in data) {
    const markdown = await renderMarkdown(text("text/markdown"), context);
    return `<div class="markdown">${needed(markdown, needs)}</div>`;
  }
  if ("text/latex" in data) {
    needs.math = true;
    return latex(text("text/latex"));
  }
  for (const medium of ["image", "video", "audio"] as const) {
    const type = shownType(data, medium);
    if (type !== undefined) return media(medium, type, data, metadata[type], context);
  }
  if ("application/json" in data) {
    const json = JSON.stringify(data["application/json"], null, 2);
    return `<pre class="code"><code>${highlight(json, "json")}</code></pre>`;
  }
  if ("text/plain" in data) return `<pre class="result">${terminal(text("text/plain"))}</pre>`;
  const other = Object.keys(data).join(", ");
  return other === "" ? "" : note(`An output of type ${other} is not shown on this page.`);
}

async function html(source: string, context: OutputContext, needs: Needs): Promise<string> {
  if (!context.sanitizeHtml) return ownHtml(source, needs.nonce, needs.html);
  return needed(await renderHtml(source, context), needs);
}

/** The HTML; what it needs is added to what the page needs. */
export function needed({ html, hasMath, hasRemotePictures }: RenderedHtml, needs: Needs): string {
  needs.math ||= hasMath;
  needs.remotePictures ||= hasRemotePictures;
  return html;
}

const note = (text: string) => `<p class="note">${escapeXml(text)}</p>`;

/** Drawn by the page's script; without scripts the figure's picture is shown. */
function plotlyFigure(data: MimeBundle, context: OutputContext): string {
  const { layout } = (data[PLOTLY] ?? {}) as { layout?: { height?: unknown } | null };
  const height = Math.min(Math.max(Number(layout?.height) || 450, 0), 10_000);
  const spec = JSON.stringify(data[PLOTLY]).replaceAll("<", "\\u003c");
  const still =
    shownType(data, "image") === "image/png" ? media("image", "image/png", data, {}, context) : "";
  const other = still === "" ? "" : `<noscript>${still}</noscript>`;
  return `<div class="plotly" style="min-height:${height}px"><script type="${PLOTLY}">${spec}</script></div>${other}`;
}

function media(
  medium: Medium,
  type: string,
  data: MimeBundle,
  metadata: unknown,
  context: OutputContext,
): string {
  const url = mediaUrl(type, data[type]);
  if (url === undefined) {
    context.warn?.(`${type} is not shown: expected base64, found something else`);
    return note(`This output is not shown: its ${type} is damaged.`);
  }
  if (medium !== "image") return `<${medium} controls src="${url}"></${medium}>`;
  const { width, height, needs_background } = (metadata ?? {}) as Record<string, unknown>;
  const size = [
    typeof width === "number" ? ` width="${width}"` : "",
    typeof height === "number" ? ` height="${height}"` : "",
  ].join("");
  const background =
    needs_background === "light" || needs_background === "dark" ? ` class="on-${needs_background}"` : "";
  const alt = escapeXml(String(data["text/plain"] ?? "picture").slice(0, 200));
  return `<img src="${url}" alt="${alt}"${size}${background}>`;
}

function latex(source: string): string {
  const [, body = source] = /^(?:\$\$?|\\\[)(.*?)(?:\$\$?|\\\])$/s.exec(source.trim()) ?? [];
  return `<div class="latex">${katex.renderToString(body, { displayMode: true, ...katexOptions })}</div>`;
}

/** An output that can't be rendered, as text. */
export function plainOutput(output: Output): string {
  if ("text" in output) return plainSource(output.text);
  if ("traceback" in output) return plainSource(`${output.ename}: ${output.evalue}`);
  return plainSource(String(output.data["text/plain"] ?? Object.keys(output.data).join(", ")));
}
