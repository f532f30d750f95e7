/**
 * Which modules a name that nobody has declared may be imported from: those that cells already import from, the packages that the
 * notebook's folder depends on, this package, and Node's own.
 */
import { readFileSync } from "node:fs";
import { builtinModules, createRequire } from "node:module";
import path from "node:path";
import { stampOf } from "./resolve.js";

/** Shorter beginnings of names would have a module asked for too much. */
export const shortestImportable = 3;
/** The most imports that are offered. */
export const mostImports = 20;

/** Of Node's modules those that people write notebooks with; the others are seldom meant. */
const seldom =
  /^(?:_|node:)|^(?:cluster|constants|domain|inspector|module|punycode|repl|sys|trace_events|v8|wasi|diagnostics_channel|dgram|async_hooks)\b/;

/** How long modules are asked what they export; those that are left come next time. */
export const importableWithinMs = 1500;

export interface ImportableModule {
  readonly name: string;
  /** Changes when what it exports may have. */
  readonly stamp: string;
}

/** Modules in the order in which what they export is looked at: those that take the longest last. */
export function importableModules(cwd: string, imported: readonly string[]): ImportableModule[] {
  const builtins = builtinModules.filter((name) => !seldom.test(name)).map((name) => `node:${name}`);
  const own = isResolvable("firstframe", cwd) ? ["firstframe"] : [];
  const { folder, names } = dependenciesOf(cwd);
  return [...new Set([...imported, ...own, ...builtins, ...names])].map((name) => ({
    name,
    stamp: name.startsWith("node:") ? "" : stampOf(path.join(folder, "node_modules", name, "package.json")),
  }));
}

/** The folder of the nearest package.json, and what that depends on. */
function dependenciesOf(cwd: string): { folder: string; names: string[] } {
  for (let folder = path.resolve(cwd); ; folder = path.dirname(folder)) {
    const file = path.join(folder, "package.json");
    if (stampOf(file) !== "") return { folder, names: namedIn(file) };
    if (folder === path.dirname(folder)) return { folder: cwd, names: [] };
  }
}

function namedIn(file: string): string[] {
  try {
    const { dependencies = {}, devDependencies = {} } = JSON.parse(readFileSync(file, "utf8")) as Record<
      string,
      Record<string, string>
    >;
    return Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !name.startsWith("@types/"));
  } catch {
    return []; // npm says what is wrong with it
  }
}

function isResolvable(name: string, cwd: string): boolean {
  try {
    createRequire(path.join(cwd, "_.js")).resolve(`${name}/package.json`);
    return true;
  } catch {
    return false;
  }
}
