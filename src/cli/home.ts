import { existsSync, readFileSync } from "node:fs";
import { cp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join, sep } from "node:path";
import { packageRoot } from "../engine/package-root.js";
import { temporaryBeside } from "../files/atomic.js";

export { packageRoot };

/** Where the project keeps its own files: in a clone, the clone; as a dependency, the current folder. */
export const projectRoot = packageRoot.split(sep).includes("node_modules") ? process.cwd() : packageRoot;

/** The prefix that holds the project's own kernelspec and JupyterLab extension (`share/jupyter` below it). */
export const ownPrefix = join(projectRoot, ".firstframe");

/** The project's own Python, for when there is no JupyterLab. */
export const ownPython = join(projectRoot, ".venv");

export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string }).version;
}

/**
 * The folder of the tutorials: a clone's own, or, if the package was installed, a copy in the current folder, made the first
 * time, with the Chinese edition, of which a package has only the texts. Changes there are kept.
 */
export async function tutorialsFolder(): Promise<string> {
  const own = join(packageRoot, "notebooks");
  if (projectRoot === packageRoot) return own;
  const folder = join(projectRoot, "firstframe-tutorials");
  if (existsSync(folder)) return folder;
  const staging = temporaryBeside(folder);
  try {
    await cp(own, staging, { recursive: true });
    if (existsSync(join(staging, "zh"))) await addChineseEdition(staging);
    await rename(staging, folder);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  console.error(`The tutorials are in ${folder} now.`);
  return folder;
}

async function addChineseEdition(folder: string): Promise<void> {
  const { chineseEdition, SHARED_FOLDERS } = await import("./notebook/translate.js");
  const { files } = await chineseEdition(folder);
  for (const [path, text] of files) await writeFile(join(folder, path), text);
  for (const name of SHARED_FOLDERS) await symlink(join("..", name), join(folder, "zh", name));
}
