import type { Completions } from "./language.js";
import { ownPrefix } from "./narrowing.js";
import type { Position, Range } from "./positions.js";
import { nameStart } from "./words.js";

export interface CompletionItem {
  readonly label: string;
  readonly kind?: number;
  readonly sortText?: string;
  readonly insertText?: string;
  readonly filterText?: string;
  readonly detail?: string;
  readonly textEdit?: { readonly range?: Range; readonly replace?: Range; readonly newText: string };
}

export type CompletionList = { readonly items: readonly CompletionItem[] } | readonly CompletionItem[];

/** The protocol's kinds, from 1. */
const kinds = [
  "text",
  "method",
  "function",
  "constructor",
  "field",
  "variable",
  "class",
  "interface",
  "module",
  "property",
  "unit",
  "value",
  "enum",
  "keyword",
  "snippet",
  "color",
  "path",
  "reference",
  "path",
  "enum member",
  "constant",
  "struct",
  "event",
  "operator",
  "type",
] as const;

/** The protocol's number of keywords. */
export const keywordKind = kinds.indexOf("keyword") + 1;

/** The protocol's number of a kind as a word. */
export const kindName = (kind = 1): string => kinds[kind - 1] ?? "text";

/** Each signature costs a request, so a list gets them only once typing has made it short. */
const signaturesUpTo = 24;

/** Answers Jupyter with what matches the text before the cursor, in the compiler's own order. */
export async function toCompletions(
  list: CompletionList | null,
  code: string,
  cursor: number,
  offsetOf: (position: Position) => number,
  names: readonly string[],
  resolve: (item: CompletionItem) => Promise<CompletionItem>,
  kindOf: (name: string) => string | undefined,
): Promise<Completions> {
  const known = list === null ? [] : "items" in list ? list.items : list;
  const items = known.filter(({ label }) => !label.startsWith(ownPrefix));
  // Where any name is possible, so are those of earlier cells that were not shown to the compiler.
  const labels = new Set(known.map(({ label }) => label));
  if (labels.has("globalThis"))
    for (const label of names) if (!labels.has(label)) items.push({ label, kind: 6 });
  const word = wordStart(code, cursor);
  // An entry may replace more than the word, e.g. the dot before `["a-b"]`; Jupyter has one range for all.
  const ranges = new Map<number, { end: number; items: CompletionItem[] }>();
  for (const item of items) {
    const range = item.textEdit?.range ?? item.textEdit?.replace;
    const start = range ? offsetOf(range.start) : word;
    const group = ranges.get(start) ?? { end: cursor, items: [] };
    if (range) group.end = Math.max(group.end, offsetOf(range.end));
    group.items.push(item);
    ranges.set(start, group);
  }
  const [start, group] = [...ranges].sort((a, b) => b[1].items.length - a[1].items.length)[0] ?? [word, null];
  const end = group?.end ?? cursor;
  const matching = matchesOf(group?.items ?? [], code.slice(start, cursor)).sort(byRank);
  const detailed =
    matching.length <= signaturesUpTo
      ? await Promise.all(matching.map((item) => resolve(item).catch(() => item)))
      : matching;
  return {
    start,
    end,
    items: detailed.map((item) => {
      const signature = signatureOf(item);
      return {
        text: insertedBy(item),
        type: kindOf(item.label) ?? kindName(item.kind),
        ...(signature ? { signature } : {}),
      };
    }),
  };
}

function matchesOf(items: readonly CompletionItem[], typed: string): CompletionItem[] {
  const exact = items.filter((item) => insertedBy(item).startsWith(typed));
  if (exact.length > 0) return exact;
  const lower = typed.toLowerCase();
  return items.filter((item) => insertedBy(item).toLowerCase().startsWith(lower));
}

function insertedBy({ label, insertText, textEdit }: CompletionItem): string {
  return textEdit?.newText ?? insertText ?? label;
}

function byRank(a: CompletionItem, b: CompletionItem): number {
  const ranks = [a, b].map(({ sortText, label }) => sortText ?? label) as [string, string];
  return compare(ranks[0], ranks[1]) || compare(a.label, b.label);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** `function readFile(path: string): void` gives `(path: string): void`. */
function signatureOf({ detail, label }: CompletionItem): string | undefined {
  const first = detail?.split("\n(")[0]?.split(/\n(?=function |\(method\) )/)[0];
  const at = first?.indexOf(`${label}(`) ?? first?.indexOf(`${label}<`) ?? -1;
  return first !== undefined && at >= 0 ? first.slice(at + label.length).replace(/\s+/g, " ") : undefined;
}

function wordStart(code: string, cursor: number): number {
  const start = nameStart(code, cursor);
  return code[start - 1] === "#" ? start - 1 : start;
}
