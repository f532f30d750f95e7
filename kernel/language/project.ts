import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { parseSync } from "oxc-parser";
import type { CompilerOptions, UserConfig } from "./config.js";

/** The kernel's own package. */
const packageRoot = path.dirname(createRequire(import.meta.url).resolve("firstframe/package.json"));

/** Declarations of the globals that the executor provides to cells. */
export const globalsFile = path.join(packageRoot, "kernel", "executor", "globals.d.ts");
/** What Node has of the web's names. */
const webFile = path.join(packageRoot, "kernel", "executor", "web.d.ts");
/** What the build made of the compiler's library and of Node's types (`.ci/types.mjs`). */
const builtTypes = path.join(packageRoot, "dist", "kernel", "language");
/** ECMAScript's library in one file, so that the compiler need not join what a hundred files declare for each cell. */
const joinedLibrary = path.join(builtTypes, "library", "index.d.ts");
/** Folders in which the compiler finds the types of a Node version as those of the package `node`. */
const nodeTypes = path.join(builtTypes, "node-types");

/**
 * The tsconfig.json with which cells are checked: the user's options, plus what lets a cell be a module with top-level
 * await that can import any file and leave names unused for later cells.
 *
 * @param separate the library as the compiler has it, in a hundred files, also where one could take their place
 */
export function projectConfig(
  user: UserConfig,
  cwd: string,
  files: readonly string[],
  nodeVersion: string,
  separate = false,
): string {
  const options: CompilerOptions = { ...user.options };
  for (const name of aboutOutput) delete options[name];
  const base = user.path ? path.dirname(user.path) : cwd;
  const absolute = (entries: readonly string[] | undefined) =>
    entries?.map((entry) => path.resolve(base, entry));
  // Whatever a project is compiled for, cells run on this Node.
  const others = (options.lib ?? []).filter((name) => !/^es/i.test(name));
  const ownTypes = hasOwnNodeTypes(cwd) ? undefined : ownNodeTypes(nodeVersion);
  const ownRoots = absolute(options.typeRoots) ?? [];
  // What is in one file must come from no other.
  const joined = !separate && others.length === 0 && ownTypes !== undefined;
  const lib = joined ? [] : ["ESNext", ...others];
  const named = (options.types ?? ownPackages(ownRoots)).filter((type) => type !== "node");
  const roots = [...(ownTypes ? [ownTypes] : []), ...ownRoots];
  // Where folders of types are named, the compiler looks for the packages in `types` nowhere else.
  const all = named.includes("*");
  const elsewhere =
    roots.length > 0 && (named.length > 0 || !ownTypes)
      ? packageFolders(cwd).filter((folder) => !all || folder.endsWith("@types"))
      : [];
  const typeRoots = [...roots, ...elsewhere];
  const compilerOptions: CompilerOptions = {
    ...(user.path && isStrictByDefault(base, user.options) ? {} : { strict: user.path === null }),
    ...options,
    target: "ESNext",
    lib: lib as CompilerOptions["lib"],
    ...(options.rootDirs ? { rootDirs: absolute(options.rootDirs) } : {}),
    ...(typeRoots.length > 0 ? { typeRoots } : {}),
    paths: paths(user, cwd, ownTypes),
    types: [...named, "node"],
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
    erasableSyntaxOnly: false,
    skipLibCheck: true,
    noUnusedLocals: false,
    noUnusedParameters: false,
  };
  const web = lib.some((name) => /^(?:dom|webworker)/i.test(name)) ? [] : [webFile];
  return JSON.stringify({
    compilerOptions,
    files: [...(joined ? [joinedLibrary] : []), ...files, globalsFile, ...web],
    include: user.declarations,
    exclude: user.excluded,
    references: [],
  });
}

/** What is wrong with a project's configuration, of which the rest applies. */
export function problemsOf({ problems, sources }: UserConfig): string[] {
  const broken = sources.flatMap((file) => {
    const text = readFileSync(file, "utf8").replace(/^\ufeff/, "");
    // With comments and commas where JSON has none, it is still an expression.
    const [error] = text.trim() === "" ? [] : parseSync("config.js", `(${text}\n)`).errors;
    return error ? [`${file}: ${error.message}`] : [];
  });
  return [...broken, ...problems].map((problem) => `${problem}. What else it says applies.`);
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
  "noLib",
  "noResolve",
] as const;

/**
 * Whether the compiler of a project, which need not be the kernel's, is strict unless told otherwise. It is since version
 * 6, which no longer takes some options.
 */
function isStrictByDefault(folder: string, options: CompilerOptions): boolean {
  const installed = findPackage("typescript", folder);
  if (installed === null)
    return !goneOptions.some(
      ([name, values]) => name in options && values.test(String(options[name as keyof CompilerOptions])),
    );
  try {
    const manifest = JSON.parse(readFileSync(path.join(installed, "package.json"), "utf8")) as {
      version?: string;
    };
    return Number.parseInt(manifest.version ?? "", 10) >= 6;
  } catch {
    return true;
  }
}

const goneOptions: readonly (readonly [string, RegExp])[] = [
  ["target", /^es[35]$/i],
  ["module", /^(?:amd|umd|system|none)$/i],
  ["moduleResolution", /^(?:classic|node|node10)$/i],
  ["baseUrl", /./],
  ["outFile", /./],
  ["out", /./],
  ["downlevelIteration", /./],
  ["charset", /./],
  ["importsNotUsedAsValues", /./],
  ["preserveValueImports", /./],
  ["suppressExcessPropertyErrors", /./],
  ["suppressImplicitAnyIndexErrors", /./],
  ["keyofStringsOnly", /./],
  ["noImplicitUseStrict", /./],
  ["noStrictGenericChecks", /./],
];

/** The folders in which packages are looked for from a folder, those of types first. */
function packageFolders(cwd: string): string[] {
  const folders: string[] = [];
  for (let folder = cwd; ; folder = path.dirname(folder)) {
    const modules = path.join(folder, "node_modules");
    if (existsSync(modules)) folders.push(path.join(modules, "@types"), modules);
    if (folder === path.dirname(folder)) return folders;
  }
}

/** The packages in a project's own folders of types, all of which count unless it says which. */
function ownPackages(typeRoots: readonly string[] = []): string[] {
  return typeRoots
    .filter((root) => !/[\\/]node_modules[\\/]/.test(root) && existsSync(root))
    .flatMap((root) => readdirSync(root).filter((name) => existsSync(path.join(root, name, "index.d.ts"))));
}

/** The user's aliases, and the packages that come with the kernel if the user's folder does not have them. */
function paths(user: UserConfig, cwd: string, ownTypes: string | undefined): Record<string, string[]> {
  const result: Record<string, string[]> = {};
  const star = "__any__";
  const { baseUrl } = user.options;
  const patterns = Object.keys(user.options.paths ?? {});
  if (baseUrl !== undefined && !patterns.includes("*")) patterns.push("*");
  for (const pattern of patterns) {
    const targets = user.matchPaths?.(pattern.replace("*", star)) ?? [];
    result[pattern] = targets.map((target) => target.replace(star, "*"));
  }
  // Node's own types import it.
  const undici = ownTypes && { "undici-types": path.join(ownTypes, "undici", "index.d.ts") };
  for (const [name, types] of Object.entries({ ...provided, ...undici })) {
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

/** The folder with the types of the newest known Node that is not newer than the one that runs. */
function ownNodeTypes(version: string): string {
  const running = Number(version.split(".")[0]);
  const known = readdirSync(nodeTypes)
    .map(Number)
    .sort((a, b) => a - b);
  return path.join(nodeTypes, String(known.findLast((major) => major <= running) ?? known[0]));
}

/** Whether a project chose its types of Node itself. Those that are there because some package needs them may be of another Node. */
function hasOwnNodeTypes(cwd: string): boolean {
  const installed = findPackage("@types/node", cwd);
  if (installed === null) return false;
  const manifest = path.resolve(installed, "..", "..", "..", "package.json");
  if (!existsSync(manifest)) return true;
  try {
    const project = JSON.parse(readFileSync(manifest, "utf8")) as Record<string, unknown>;
    return ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"].some(
      (kind) => "@types/node" in ((project[kind] as object | undefined) ?? {}),
    );
  } catch {
    return true;
  }
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
