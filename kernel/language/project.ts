import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { CompilerOptions, UserConfig } from "./config.js";

/** The kernel's own package. */
const packageRoot = path.dirname(createRequire(import.meta.url).resolve("firstframe/package.json"));

/** Declarations of the globals that the executor provides to cells. */
export const globalsFile = path.join(packageRoot, "kernel", "executor", "globals.d.ts");

/**
 * The tsconfig.json with which cells are checked: the user's options, plus what lets a cell be a module with top-level
 * await that can import any file and leave names unused for later cells.
 */
export function projectConfig(user: UserConfig, cwd: string, files: readonly string[]): string {
  const options: CompilerOptions = { ...user.options };
  for (const name of aboutOutput) delete options[name];
  const base = user.path ? path.dirname(user.path) : cwd;
  const absolute = (entries: readonly string[] | undefined) =>
    entries?.map((entry) => path.resolve(base, entry));
  const compilerOptions: CompilerOptions = {
    target: "ESNext",
    lib: ["ESNext"],
    ...options,
    ...(options.rootDirs ? { rootDirs: absolute(options.rootDirs) } : {}),
    ...(options.typeRoots ? { typeRoots: absolute(options.typeRoots) } : {}),
    paths: paths(user, cwd),
    types: [...(options.types ?? []).filter((type) => type !== "node"), nodeTypes(cwd)],
    module: "ESNext",
    moduleResolution: "Bundler",
    customConditions: [...(options.customConditions ?? []), "node"],
    moduleDetection: "force",
    resolveJsonModule: true,
    allowImportingTsExtensions: true,
    allowJs: true,
    checkJs: false,
    esModuleInterop: true,
    allowSyntheticDefaultImports: true,
    noEmit: true,
    composite: false,
    incremental: false,
    declaration: false,
    isolatedDeclarations: false,
    skipLibCheck: true,
    noUnusedLocals: false,
    noUnusedParameters: false,
  };
  return JSON.stringify({ compilerOptions, files: [...files, globalsFile], include: [], references: [] });
}

/** Options that only say where files come from or go to. */
const aboutOutput = [
  "baseUrl",
  "rootDir",
  "outDir",
  "outFile",
  "plugins",
  "declarationDir",
  "declarationMap",
  "emitDeclarationOnly",
  "tsBuildInfoFile",
] as const;

/** The user's aliases, and the packages that come with the kernel if the user's folder does not have them. */
function paths(user: UserConfig, cwd: string): Record<string, string[]> {
  const result: Record<string, string[]> = {};
  const star = "__any__";
  const { baseUrl } = user.options;
  const patterns = Object.keys(user.options.paths ?? {});
  if (baseUrl !== undefined && !patterns.includes("*")) patterns.push("*");
  for (const pattern of patterns) {
    const targets = user.matchPaths?.(pattern.replace("*", star)) ?? [];
    result[pattern] = targets.map((target) => target.replace(star, "*"));
  }
  for (const [name, types] of Object.entries(provided)) {
    if (!(name in result) && !findPackage(name.split("/")[0]!, cwd)) result[name] = [types];
  }
  return result;
}

const provided: Record<string, string> = {
  tslab: path.join(packageRoot, "kernel", "executor", "tslab-api.d.ts"),
  ...ownTypes(),
};

/** The package's entries by import specifier, such as "firstframe/video". */
function ownTypes(): Record<string, string> {
  const { exports } = JSON.parse(readFileSync(path.join(packageRoot, "package.json"), "utf8")) as {
    exports: Record<string, string | { types: string }>;
  };
  return Object.fromEntries(
    Object.entries(exports).flatMap(([entry, target]) =>
      typeof target === "string"
        ? []
        : [[`firstframe${entry.slice(1)}`, path.join(packageRoot, target.types)]],
    ),
  );
}

function nodeTypes(cwd: string): string {
  if (findPackage("@types/node", cwd)) return "node";
  return path.dirname(createRequire(import.meta.url).resolve("@types/node/package.json"));
}

/** The folder of a package as seen from a folder: installed above it, or the package that the folder belongs to. */
export function findPackage(name: string, cwd: string): string | null {
  for (let folder = cwd; ; folder = path.dirname(folder)) {
    const installed = path.join(folder, "node_modules", name);
    if (existsSync(path.join(installed, "package.json"))) return installed;
    if (name === "firstframe" && folder === packageRoot) return folder;
    if (folder === path.dirname(folder)) return null;
  }
}
