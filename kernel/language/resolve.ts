import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const extensions = [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json"];

/** Whether a specifier names a file rather than a package. */
export function isPath(specifier: string): boolean {
  return /^(?:\.{1,2}(?:\/|$)|\/)/.test(specifier);
}

/**
 * The files that a path in an import may mean, in TypeScript's order: the file itself, TypeScript in place of
 * JavaScript, with an extension, the index of a folder.
 */
export function candidates(file: string): string[] {
  const script = /^(.*)\.([cm]?)js(x?)$/.exec(file);
  return [
    file,
    ...(script ? [`${script[1]}.${script[2]}ts${script[3]}`, `${script[1]}.tsx`] : []),
    ...extensions.map((extension) => file + extension),
    ...extensions.map((extension) => path.join(file, `index${extension}`)),
  ];
}

/** A folder and all above it. */
export function* upwards(folder: string): Generator<string> {
  for (let at = folder; ; at = path.dirname(at)) {
    yield at;
    if (at === path.dirname(at)) return;
  }
}

/** Whether a folder or one above it holds something of this name. */
export function isAbove(folder: string, name: string): boolean {
  for (const at of upwards(folder)) if (existsSync(path.join(at, name))) return true;
  return false;
}

/** A text that changes when the file does; empty if it is not a file. */
export function stampOf(file: string): string {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat?.isFile() ? `${stat.mtimeMs}:${stat.ino}:${stat.size}` : "";
}

/** The file that a path in an import means, or null. */
export function resolveFile(file: string): string | null {
  return candidates(file).find((candidate) => stampOf(candidate) !== "") ?? null;
}

/** The file of a package in one of NODE_PATH's folders, or null. */
export function resolveInNodePath(specifier: string): string | null {
  if (!process.env.NODE_PATH) return null;
  try {
    // As from a file that has no folder of packages above it.
    return createRequire(path.join(path.parse(process.cwd()).root, "_")).resolve(specifier);
  } catch {
    return null;
  }
}
