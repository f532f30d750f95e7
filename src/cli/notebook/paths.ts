import { readdir } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { UsageError } from "../errors.js";
import { tutorialsFolder } from "../home.js";

/** The project's notebooks in order of their names, relative to the current folder. @throws UsageError if there are none */
export async function projectNotebooks(): Promise<string[]> {
  const folder = await tutorialsFolder();
  const notebooks = await notebooksIn(folder);
  if (notebooks.length === 0) throw new UsageError("no notebooks there", { file: folder });
  return notebooks;
}

/** Their Chinese edition; a copy of the tutorials may have none. */
export async function chineseNotebooks(): Promise<string[]> {
  return notebooksIn(join(await tutorialsFolder(), "zh"));
}

async function notebooksIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  const notebooks = names.filter((name) => name.endsWith(".ipynb")).sort();
  return notebooks.map((name) => relative(process.cwd(), join(folder, name)));
}

/** The names of the notebooks' pages, without an extension. @throws UsageError if two would be written to the same file */
export function pageNames(paths: readonly string[]): string[] {
  const taken = new Map<string, string>();
  return paths.map((path) => {
    const name = basename(path).replace(/\.ipynb$/, "");
    const other = taken.get(name);
    if (other !== undefined) throw new UsageError(`${other} and ${path} would both be written as ${name}`);
    taken.set(name, path);
    return name;
  });
}
