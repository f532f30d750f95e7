import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Inspection } from "./language.js";
import { Lines, type Range } from "./positions.js";
import { readableTypes } from "./session.js";

type Markup = string | { readonly kind?: string; readonly value: string };

export interface Hover {
  readonly contents: Markup | readonly Markup[];
}

export interface SignatureHelp {
  readonly activeSignature?: number;
  readonly signatures: readonly { readonly label: string; readonly documentation?: Markup }[];
}

export interface Definition {
  readonly uri?: string;
  readonly range?: Range;
  readonly targetUri?: string;
  readonly targetRange?: Range;
  /** The name alone. */
  readonly targetSelectionRange?: Range;
}

/** What Jupyter shows for a name: its signature and documentation, and its source on request. */
export function toInspection(
  hover: Hover | null,
  help: SignatureHelp | null,
  source?: string,
): Inspection | null {
  const parts: string[] = [];
  if (hover) {
    parts.push(hoverText(hover));
  } else if (help) {
    for (const { label, documentation } of help.signatures) {
      parts.push(`\`\`\`typescript\n${label}\n\`\`\``);
      if (documentation) parts.push(textOf(documentation));
    }
  }
  if (source) parts.push(`\`\`\`typescript\n${source}\n\`\`\``);
  const markdown = parts
    .map((part) => readable(part.trim()))
    .filter((part) => part !== "")
    .join("\n\n");
  // The compiler does not know the name.
  if (/^```\w*\nany\n```$/.test(markdown)) return null;
  return markdown === "" ? null : { markdown, plain: plainOf(markdown) };
}

export function hoverText({ contents }: Hover): string {
  const parts = Array.isArray(contents) ? (contents as readonly Markup[]) : [contents as Markup];
  return parts.map(textOf).join("\n\n");
}

/** The text of the first definition whose source can be read. `virtual` returns the text of files that are not on disk. */
export function sourceOf(
  definitions: readonly Definition[],
  virtual: (file: string) => string | null,
): string | undefined {
  for (const { targetUri, uri, targetRange, range } of definitions) {
    const where = targetUri ?? uri;
    const span = targetRange ?? range;
    if (!where?.startsWith("file:") || !span) continue;
    const file = fileURLToPath(where);
    let text = virtual(file);
    if (text === null) {
      try {
        text = readFileSync(file, "utf8");
      } catch {
        continue;
      }
    }
    const lines = new Lines(text);
    return text.slice(lines.offsetAt(span.start), lines.offsetAt(span.end)).trim();
  }
  return undefined;
}

/** Removes what only the compiler's own front ends can use. */
function readable(part: string): string {
  return readableTypes(part)
    .replace(/^(```\w*\n)\(alias\) /, "$1")
    .replace(/\[([^[\]\n]*)\]\(file:[^()\s]*\)/g, "$1");
}

function textOf(markup: Markup): string {
  return typeof markup === "string" ? markup : markup.value;
}

/** Markdown without its markup, for front ends that show plain text. */
function plainOf(markdown: string): string {
  let fenced = false;
  const plain: string[] = [];
  for (const line of markdown.split("\n")) {
    if (line.startsWith("```")) fenced = !fenced;
    else plain.push(fenced ? line : plainLine(line));
  }
  return plain.join("\n").trim();
}

function plainLine(line: string): string {
  return line
    .replace(/\[([^[\]]*)\]\(([^()]*)\)/g, "$1 ($2)")
    .replace(/\*\*([^*]+)\*\*|__([^_]+)__/g, "$1$2")
    .replace(/^\*(@\w+)\*/, "$1")
    .replace(/`([^`]*)`/g, "$1")
    .replace(/^#+ /, "")
    .replace(/\\([\\`*_{}[\]()#+\-.!<>])/g, "$1");
}
