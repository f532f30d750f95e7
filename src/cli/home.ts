import { readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { packageRoot } from "../engine/package-root.js";

export { packageRoot };

/** Where the project keeps what it makes for itself: a clone of the repository, or, as a dependency, where it is used. */
export const projectRoot = packageRoot.split(sep).includes("node_modules") ? process.cwd() : packageRoot;

/** The prefix that holds the project's own kernelspec and JupyterLab extension (`share/jupyter` below it). */
export const ownPrefix = join(projectRoot, ".firstframe");

/** The project's own Python, for JupyterLab where there is none. */
export const ownPython = join(projectRoot, ".venv");

export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string }).version;
}
