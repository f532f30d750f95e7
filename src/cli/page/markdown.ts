import { Marked, type Tokens } from "marked";
import markedKatex from "marked-katex-extension";
import { escapeXml } from "../../display/mime.js";
import type { MimeBundle } from "../notebook/format.js";
import { highlight } from "./code.js";
import { embedded, pageLink } from "./links.js";
import { PREFIX } from "./names.js";
import { sanitize } from "./sanitize.js";

export interface MarkdownContext {
  /** Pictures named by a relative path are read from here and put into the page. */
  readonly folder: string;
  /** Links to these notebooks (paths relative to the page) lead to their pages. */
  readonly pages: ReadonlySet<string>;
  readonly attachments?: Readonly<Record<string, MimeBundle>>;
  /** Called with what could not be shown. */
  readonly warn?: (message: string) => void;
}

export interface Heading {
  readonly depth: number;
  readonly id: string;
  /** Without markup: plain text, not HTML. */
  readonly text: string;
}

export interface RenderedHtml {
  readonly html: string;
  readonly headings: readonly Heading[];
  /** The first paragraph that has text, as plain text, without a heading that runs into it. */
  readonly paragraph: string;
  /** The first picture that is part of the page: its data as an address, and what it shows in words. */
  readonly picture: { readonly src: string; readonly alt: string } | undefined;
  readonly hasMath: boolean;
  /** Whether it shows pictures that the reader's browser has to fetch. */
  readonly hasRemotePictures: boolean;
}

/** KaTeX trusts nothing by default: no links, no HTML. Sizes are limited, so that no rule covers the page; no console warnings. */
export const katexOptions = { throwOnError: false, maxSize: 50, strict: "ignore" } as const;

/**
 * Markdown as JupyterLab renders it: GitHub's flavour with $math$. Scripts, event handlers and styles in it are dropped;
 * the pictures it shows become part of the page, except those on the web, which the reader's browser fetches.
 */
export async function renderMarkdown(source: string, context: MarkdownContext): Promise<RenderedHtml> {
  const marked = new Marked({ gfm: true });
  marked.use(markedKatex({ ...katexOptions, nonStandard: true }));
  marked.use({
    renderer: {
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
  return await renderHtml(await marked.parse(source), context);
}

/** A notebook's HTML made safe, with the notebook's pictures embedded and anchors at its headings. */
export async function renderHtml(source: string, context: MarkdownContext): Promise<RenderedHtml> {
  const problems = new Map<Element, string>();
  const remote = new Set<Element>();
  const body = await sanitize(source, {
    link: (address) => pageLink(address, context.pages),
    picture: (address, element) => {
      const picture = embedded(address, context);
      if ("address" in picture) {
        if (picture.remote) remote.add(element);
        return picture.address;
      }
      problems.set(element, `the picture ${shortened(address)} is not shown: ${picture.problem}`);
      return undefined;
    },
  });
  for (const image of body.querySelectorAll("img")) {
    const problem = problems.get(image);
    if (problem !== undefined) {
      context.warn?.(problem);
      const note = body.ownerDocument.createElement("span");
      note.className = "note";
      note.textContent = [image.alt, `(${problem})`].filter(Boolean).join(" ");
      image.replaceWith(note);
    } else if (remote.has(image)) image.setAttribute("referrerpolicy", "no-referrer");
  }
  const headings = [...body.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((heading) => {
    const text = plainText(heading);
    // JupyterLab's anchors: the heading's text with hyphens instead of blanks.
    heading.id ||= PREFIX + text.replaceAll(/\s+/g, "-");
    return { depth: Number(heading.nodeName.slice(1)), id: heading.id, text };
  });
  return {
    html: body.innerHTML,
    headings,
    paragraph: firstParagraph(body),
    picture: firstPicture(body),
    hasMath: body.querySelector(".katex") !== null,
    hasRemotePictures: remote.size > 0,
  };
}

/** An element's text. Math, which is there twice because of screen readers, becomes its TeX source. */
function plainText(element: Element): string {
  const copy = element.cloneNode(true) as Element;
  for (const drawn of copy.querySelectorAll(".katex-html, .katex-mathml mrow")) drawn.remove();
  return (copy.textContent ?? "").trim();
}

function firstParagraph(body: HTMLElement): string {
  const paragraphs = [...body.querySelectorAll("p")];
  const paragraph = paragraphs.find(({ textContent }) => textContent?.trim())?.cloneNode(true) as
    | Element
    | undefined;
  if (paragraph === undefined) return "";
  const [first] = paragraph.childNodes;
  if (first?.nodeName === "STRONG") first.remove();
  return plainText(paragraph);
}

function firstPicture(body: HTMLElement): RenderedHtml["picture"] {
  const image = [...body.querySelectorAll("img")].find(({ src }) => src.startsWith("data:"));
  return image && { src: image.src, alt: image.alt };
}

/** An address as notes and warnings show it, since it may contain a whole file. */
const shortened = (address: string) => (address.length > 100 ? `${address.slice(0, 100)}…` : address);

/** Text that can't be rendered, as it is. */
export function plainSource(source: string): string {
  return `<pre class="raw">${escapeXml(source)}</pre>`;
}
