import type { Notebook } from "../notebook/format.js";

/** What pages say themselves, in the languages of the tutorials, by the language's name in HTML. */
export const words = {
  en: {
    code: "Code",
    output: "Output",
    onThisPage: "On this page",
    site: "Site",
    tutorials: "Tutorials",
    previous: "Previous",
    next: "Next",
    reference: "API reference",
  },
  zh: {
    code: "代码",
    output: "输出",
    onThisPage: "本页内容",
    site: "站点",
    tutorials: "教程",
    previous: "上一篇",
    next: "下一篇",
    reference: "API 参考（英文）",
  },
} as const;

export type Language = keyof typeof words;

/** Chinese, if a good part of the texts' letters are characters and none are Japanese syllables; notebooks don't say it. */
export function languageOf({ cells }: Notebook): Language {
  const text = cells.map((cell) => (cell.cell_type === "code" ? "" : cell.source)).join("");
  const count = (letters: RegExp) => text.match(letters)?.length ?? 0;
  const chinese = 4 * count(/\p{Script=Han}/gu) > count(/\p{L}/gu) && count(/[\u3040-\u30ff]/g) === 0;
  return chinese ? "zh" : "en";
}
