import { statSync } from "node:fs";
import path from "node:path";
import {
  createPathsMatcher,
  findTsconfig,
  getTsconfig,
  type PathsMatcher,
  type TsConfigJson,
} from "get-tsconfig";

export type CompilerOptions = NonNullable<TsConfigJson["compilerOptions"]>;

/** The tsconfig.json that applies to a notebook's folder. */
export interface UserConfig {
  /** The file, or null if there is none. */
  readonly path: string | null;
  readonly options: CompilerOptions;
  /** Files that a `paths` alias may mean; null without `paths`. */
  readonly matchPaths: PathsMatcher | null;
}

/**
 * Reads the nearest tsconfig.json above a folder, including what it extends.
 *
 * @throws Error naming the file if it can't be parsed.
 */
export function readUserConfig(cwd: string): UserConfig {
  const found = getTsconfig(path.join(cwd, "cell.ts"));
  if (!found) return { path: null, options: { jsx: "react-jsx" }, matchPaths: null };
  return {
    path: found.path,
    options: found.config.compilerOptions ?? {},
    matchPaths: createPathsMatcher(found),
  };
}

/** Changes when another tsconfig.json applies to a folder, or that file changes. */
export function configStamp(cwd: string): string {
  const file = findTsconfig(path.join(cwd, "cell.ts"));
  const stat = file ? statSync(file, { throwIfNoEntry: false }) : undefined;
  return stat ? `${file}:${stat.mtimeMs}:${stat.ino}:${stat.size}` : "";
}
