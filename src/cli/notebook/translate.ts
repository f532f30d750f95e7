import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { formatNotebook, type Notebook, readNotebook, type TextCell } from "./format.js";

/**
 * The tutorials' Chinese edition, `zh/NAME.ipynb` beside `NAME.ipynb`: code, outputs and metadata are the English notebook's;
 * the text of each cell is from `zh/translations/NAME.md`, where it stands below a line
 *
 *     <!-- cell ID, of ENGLISH -->
 *
 * with the cell's id and the start of the SHA-256 of the English text that it translates. A line without `, of ENGLISH` says
 * that the translation is of the text as it is now; the rest is filled in.
 */
export interface Edition {
  /** What its files should hold, by their paths below the tutorials' folder. */
  readonly files: ReadonlyMap<string, string>;
  /** What is not translated, or no longer, and what to do about it. */
  readonly faults: readonly string[];
}

/** What the code of both editions looks for beside the notebooks: the Chinese folder has links to them. */
export const SHARED_FOLDERS = ["clips", "models"] as const;

/** The Chinese edition of a folder's notebooks. Nothing is written. */
export async function chineseEdition(folder: string): Promise<Edition> {
  const files = new Map<string, string>();
  const faults: string[] = [];
  for (const name of (await readdir(folder)).filter((name) => name.endsWith(".ipynb")).sort()) {
    const path = join("zh", "translations", name.replace(/\.ipynb$/, ".md"));
    const texts = await readFile(join(folder, path), "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw error;
    });
    const made = translated(await readNotebook(join(folder, name)), texts);
    for (const fault of made.faults) faults.push(`${name}, ${fault} (${path})`);
    if (texts !== "") files.set(path, made.texts);
    files.set(join("zh", name), formatNotebook(made.notebook));
  }
  return { files, faults };
}

/** A notebook with its texts in another language, and the translations' file with every mark complete. */
export function translated(
  english: Notebook,
  texts: string,
): { readonly notebook: Notebook; readonly texts: string; readonly faults: readonly string[] } {
  const left = translationsIn(texts);
  const faults: string[] = [];
  let marked = texts;
  const cells = english.cells.map((cell) => {
    if (cell.cell_type === "code") return cell;
    const { id, source } = cell;
    const translation = left.get(id);
    left.delete(id);
    const wanted = `${markOf(cell)}\nfor\n${source}\n`;
    if (translation === undefined || translation.text === "") {
      faults.push(`cell ${id} has no translation; it belongs below\n${wanted}`);
      return cell;
    }
    if (translation.of === undefined) marked = marked.replace(`<!-- cell ${id} -->`, markOf(cell));
    else if (translation.of !== hashOf(source))
      faults.push(
        `cell ${id} has changed since it was translated; renew the translation, and the line\n${wanted}`,
      );
    return { ...cell, source: translation.text };
  });
  for (const id of left.keys()) faults.push(`cell ${id} is translated, and is not there any more`);
  return { notebook: { ...english, cells }, texts: marked, faults };
}

const MARK = /^<!-- cell ([\w-]+)(?:, of ([\da-f]{8}))? -->$/m;
const hashOf = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 8);
const markOf = ({ id, source }: TextCell) => `<!-- cell ${id}, of ${hashOf(source)} -->`;

function translationsIn(
  texts: string,
): Map<string, { readonly of: string | undefined; readonly text: string }> {
  const [, ...parts] = texts.split(MARK);
  const found = new Map<string, { readonly of: string | undefined; readonly text: string }>();
  for (let i = 0; i < parts.length; i += 3)
    found.set(parts[i]!, { of: parts[i + 1], text: parts[i + 2]!.trim() });
  return found;
}
