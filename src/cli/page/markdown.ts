import { readFile } from "node:fs/promises";
import { extname, resolve } from "node:path";
import createDOMPurify, { type DOMPurify } from "dompurify";
import { Marked, type Token, type Tokens } from "marked";
import markedKatex from "marked-katex-extension";
import type { MimeBundle } from "../notebook/format.js";
import { highlight } from "./code.js";

export interface MarkdownContext {
  /** Pictures named by a relative path are read from here and put into the page. */
  readonly folder: string;
  /** Links to these notebooks (paths relative to the page) lead to their pages. */
  readonly pages: ReadonlySet<string>;
  readonly attachments?: Readonly<Record<string, MimeBundle>>;
}

export interface Heading {
  readonly depth: number;
  readonly id: string;
  /** Without markup. */
  readonly text: string;
}

export interface RenderedMarkdown {
  readonly html: string;
  readonly headings: readonly Heading[];
  readonly hasMath: boolean;
}

/**
 * Markdown as JupyterLab renders it: GitHub's flavour with $math$. Scripts, event handlers and styles in it are dropped;
 * the pictures it shows become part of the page.
 */
export async function renderMarkdown(source: string, context: MarkdownContext): Promise<RenderedMarkdown> {
  const headings: Heading[] = [];
  const marked = new Marked({ gfm: true, async: true });
  marked.use(markedKatex({ throwOnError: false, nonStandard: true }));
  marked.use({
    walkTokens: async (token: Token) => {
      if (token.type === "image") token.href = await embedded((token as Tokens.Image).href, context);
      if (token.type === "link") token.href = pageLink((token as Tokens.Link).href, context.pages);
    },
    renderer: {
      heading({ tokens, depth, text }) {
        const inner = this.parser.parseInline(tokens);
        const plain = inner.replace(/<[^>]*>/g, "");
        // JupyterLab's anchors: the heading's text with hyphens for blanks.
        const heading = { depth, id: text.trim().replaceAll(/\s+/g, "-"), text: plain };
        headings.push(heading);
        return `<h${depth} id="${heading.id.replaceAll('"', "&quot;")}">${inner}</h${depth}>\n`;
      },
      code({ text, lang }) {
        return `<pre class="code"><code>${highlight(text, lang?.split(/\s/)[0])}</code></pre>\n`;
      },
      table(token) {
        const cell = (tag: string, { tokens, align }: Tokens.TableCell) =>
          `<${tag}${align ? ` style="text-align:${align}"` : ""}>${this.parser.parseInline(tokens)}</${tag}>`;
        const row = (tag: string, cells: Tokens.TableCell[]) =>
          `<tr>${cells.map((entry) => cell(tag, entry)).join("")}</tr>`;
        const body = token.rows.map((cells) => row("td", cells)).join("");
        return `<div class="table"><table><thead>${row("th", token.header)}</thead><tbody>${body}</tbody></table></div>\n`;
      },
    },
  });
  const html = await sanitize(await marked.parse(source));
  return { html, headings, hasMath: html.includes('class="katex') };
}

let purifier: DOMPurify | undefined;

async function sanitize(html: string): Promise<string> {
  const { JSDOM } = await import("jsdom");
  purifier ??= createDOMPurify(new JSDOM("").window);
  return purifier.sanitize(html, {
    ADD_TAGS: ["semantics", "annotation"],
    ADD_ATTR: ["encoding", "target"],
    FORBID_TAGS: ["style", "form"],
  });
}

const TYPES: Record<string, string> = {
  ".avif": "image/avif",
  ".gif": "image/gif",
  ".jpeg": "image/jpeg",
  ".jpg": "image/jpeg",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".webp": "image/webp",
};

/** A picture's address, as a data URL where the picture is the notebook's own. */
async function embedded(href: string, { folder, attachments }: MarkdownContext): Promise<string> {
  if (href.startsWith("attachment:")) {
    const bundle = attachments?.[decodeURIComponent(href.slice("attachment:".length))];
    const type = Object.keys(bundle ?? {}).find((name) => name.startsWith("image/"));
    return type === undefined ? href : dataUrl(type, bundle![type]);
  }
  const type = TYPES[extname(href).toLowerCase()];
  if (/^[a-z][a-z\d+.-]*:|^\/\//i.test(href) || type === undefined) return href;
  const file = await readFile(resolve(folder, decodeURIComponent(href))).catch(() => undefined);
  return file === undefined ? href : `data:${type};base64,${file.toString("base64")}`;
}

/** A picture from a MIME bundle as an address: base64, but for SVG, which is text. */
export function dataUrl(type: string, content: unknown): string {
  const base64 = type === "image/svg+xml" ? Buffer.from(String(content)).toString("base64") : String(content);
  return `data:${type};base64,${base64.replaceAll(/\s/g, "")}`;
}

function pageLink(href: string, pages: ReadonlySet<string>): string {
  const [, path = "", fragment = ""] = /^(?:\.\/)?([^#]*)(#.*)?$/.exec(href) ?? [];
  return pages.has(decodeURIComponent(path)) ? path.replace(/\.ipynb$/, ".html") + fragment : href;
}
