import { type SharedScope, sharedModule } from "./shared.js";

/** Pieces of TypeScript that Tab offers by a short name, in cells of TypeScript. */
const SNIPPETS: Readonly<Record<string, string>> = {
  forof: "for (const item of items) {\n  \n}",
  forawait: "for await (const item of progress(items)) {\n  \n}",
  fori: "for (let i = 0; i < count; i++) {\n  \n}",
  fun: "function name(value: number): number {\n  return value;\n}",
  afun: "async function name(value: number): Promise<number> {\n  return value;\n}",
  inter: "interface Name {\n  readonly key: string;\n}",
  trycatch: "try {\n  \n} catch (error) {\n  console.error(error);\n}",
  imp: 'import { tf, useEngine } from "firstframe";',
  eng: 'import { tf, useEngine } from "firstframe";\n\nconst engine = await useEngine();',
  tidy: "const result = tf.tidy(() => {\n  \n});",
  fig: 'figure([{ x, y, name: "loss" }], {\n  title: { text: "Loss" },\n  xaxis: { title: { text: "step" } },\n});',
  inta: "interact({ frame: [0, 80] }, ({ frame }) => frames(clip, { indices: [frame] }));",
};

/** The part of JupyterLab's completer that is used here. */
interface CompletionContext {
  readonly editor?: { readonly model: { readonly mimeType: string } } | null;
}

interface CompletionProviderManager {
  registerProvider(provider: object): void;
}

/** The token of JupyterLab's completer; null where an application has none. */
export async function completerToken(scope: SharedScope): Promise<unknown> {
  const completer = await sharedModule<{ ICompletionProviderManager: unknown }>(
    scope,
    "@jupyterlab/completer",
  ).catch(() => undefined);
  return completer?.ICompletionProviderManager ?? null;
}

export function offerSnippets(manager: CompletionProviderManager): void {
  manager.registerProvider({
    identifier: "CompletionProvider:firstframe-snippets",
    rank: 100, // below what the kernel knows
    renderer: null,
    isApplicable: async ({ editor }: CompletionContext) => /\btypescript$/.test(editor?.model.mimeType ?? ""),
    fetch: async ({ text, offset }: { text: string; offset: number }) => completions(text, offset),
  });
}

/** The snippets whose name begins with the word before the cursor, indented as its line is. */
function completions(text: string, offset: number) {
  const line = text.slice(text.lastIndexOf("\n", offset - 1) + 1, offset);
  const [indent = ""] = /^\s*/.exec(line)!;
  const word = /^\s*(\w+)$/.exec(line)?.[1] ?? "";
  const names = Object.keys(SNIPPETS).filter((name) => word !== "" && name.startsWith(word));
  return {
    start: offset - word.length,
    end: offset,
    items: names.map((name) => ({
      label: name,
      type: "snippet",
      insertText: SNIPPETS[name]!.replaceAll("\n", `\n${indent}`),
      documentation: SNIPPETS[name],
    })),
  };
}
