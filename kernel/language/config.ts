import { existsSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import {
  createFilesMatcher,
  createPathsMatcher,
  findTsconfig,
  type PathsMatcher,
  parseTsconfig,
  type TsConfigJson,
} from "get-tsconfig";
import { loadTypeScript } from "./typescript.js";

export type CompilerOptions = NonNullable<TsConfigJson["compilerOptions"]>;

/** The tsconfig.json that applies to a notebook's folder. */
export interface UserConfig {
  /** The file, or null if there is none. */
  readonly path: string | null;
  readonly options: CompilerOptions;
  /** Files that a `paths` alias may mean; null without `paths`. */
  readonly matchPaths: PathsMatcher | null;
  /** Patterns of the project's own declaration files, such as `types/env.d.ts`; absolute, as those of what is excluded. */
  readonly declarations: readonly string[];
  readonly excluded: readonly string[];
  /** What is wrong with it. The rest of it applies. */
  readonly problems: readonly string[];
  /** The files that it was read from. */
  readonly sources: readonly string[];
}

interface Found {
  readonly path: string;
  readonly config: TsConfigJson;
}

/** Reads the nearest tsconfig.json above a folder, including what it extends, as far as that is possible. */
export function readUserConfig(cwd: string): UserConfig {
  const cell = path.join(cwd, "cell.ts");
  const file = findTsconfig(cell);
  const nothing = { matchPaths: null, declarations: [], excluded: [], problems: [], sources: [] };
  if (!file) return { ...nothing, path: null, options: { jsx: "react-jsx" } };
  const problems: string[] = [];
  const root = { path: file, config: read(file, problems) };
  const projects = referencedBy(root, problems);
  const project = projects.find((found) => covers(found, cell)) ?? projects[0] ?? root;
  const folder = path.dirname(project.path);
  const { compilerOptions = {}, exclude = [] } = project.config;
  const absolute = (pattern: string) => path.resolve(folder, pattern);
  return {
    path: project.path,
    options: withFieldsOf(compilerOptions),
    matchPaths: createPathsMatcher(project),
    declarations: declarationsIn(project.config).map(absolute),
    excluded: ["**/node_modules", compilerOptions.outDir, compilerOptions.declarationDir, ...exclude].flatMap(
      (pattern) => (pattern === undefined ? [] : [absolute(pattern)]),
    ),
    problems,
    sources: [file, ...projects.map(({ path }) => path)],
  };
}

/** Changes when another tsconfig.json applies to a folder, or a file that it was read from changes. */
export function configStamp(cwd: string, sources: readonly string[] = []): string {
  const file = findTsconfig(path.join(cwd, "cell.ts"));
  return [...new Set([...(file ? [file] : []), ...sources])]
    .map((source) => {
      const stat = statSync(source, { throwIfNoEntry: false });
      return stat ? `${source}:${stat.mtimeMs}:${stat.ino}:${stat.size}` : "";
    })
    .join("|");
}

function read(file: string, problems: string[]): TsConfigJson {
  try {
    return parseTsconfig(file);
  } catch (error) {
    const known = problems.length;
    const config = withoutBadBases(file, problems);
    if (problems.length === known) problems.push(`${file}: ${messageOf(error).replace(/\.$/, "")}`);
    return config;
  }
}

/** A configuration that extends what can't be read: itself, and those of its bases that can. */
function withoutBadBases(file: string, problems: string[]): TsConfigJson {
  const text = readFileSync(file, "utf8");
  const { config = {} } = loadTypeScript().parseConfigFileTextToJson(file, text) as { config?: TsConfigJson };
  const compilerOptions: CompilerOptions = {};
  for (const base of [config.extends ?? []].flat()) {
    try {
      Object.assign(compilerOptions, parseTsconfig(baseOf(file, base)).compilerOptions);
    } catch (error) {
      problems.push(`${file} extends "${base}", which can't be read: ${messageOf(error).replace(/\.$/, "")}`);
    }
  }
  return { ...config, compilerOptions: { ...compilerOptions, ...config.compilerOptions } };
}

function baseOf(file: string, base: string): string {
  const names = [base, `${base}.json`, `${base}/tsconfig.json`];
  if (/^(?:\.{1,2}\/|\/)/.test(base)) {
    const files = names.map((name) => path.resolve(path.dirname(file), name));
    return files.find((name) => statSync(name, { throwIfNoEntry: false })?.isFile()) ?? files[0]!;
  }
  const { resolve } = createRequire(file);
  for (const name of names) {
    try {
      return resolve(name);
    } catch {
      // the next one
    }
  }
  throw new Error("it is not installed");
}

/** The projects of which a tsconfig.json consists that has no files of its own, as Vite's. */
function referencedBy({ path: file, config }: Found, problems: string[]): Found[] {
  if (config.files?.length !== 0 || (config.include?.length ?? 0) > 0) return [];
  return (config.references ?? []).flatMap(({ path: reference }) => {
    const target = path.resolve(path.dirname(file), reference);
    const referenced = target.endsWith(".json") ? target : path.join(target, "tsconfig.json");
    if (!existsSync(referenced)) return [];
    return [{ path: referenced, config: read(referenced, problems) }];
  });
}

function covers(found: Found, file: string): boolean {
  try {
    return createFilesMatcher(found)(file) !== undefined;
  } catch {
    return false;
  }
}

/** Where declarations are looked for in a project that does not say which files it consists of; all of it may be too much. */
const usual = ["*", "src/**/*", "types/**/*", "typings/**/*", "@types/**/*"].map((place) => `${place}.d.ts`);

function declarationsIn({ files, include }: TsConfigJson): string[] {
  if (!files && !include) return usual;
  const patterns = (include ?? []).flatMap((pattern) => {
    const last = path.posix.basename(pattern);
    if (/\.d\.[cm]?ts$/.test(last)) return [pattern];
    if (last === "**") return [`${pattern}/*.d.ts`];
    if (/^\*(?:\.[cm]?tsx?)?$/.test(last)) return [path.posix.join(path.posix.dirname(pattern), "*.d.ts")];
    return /[*?]|\.\w+$/.test(last) ? [] : [`${pattern}/**/*.d.ts`];
  });
  return [...patterns, ...(files ?? []).filter((file) => /\.d\.[cm]?ts$/.test(file))];
}

/** Fields of classes are assigned where the project's target has none; cells are compiled for the Node that runs. */
function withFieldsOf(options: CompilerOptions): CompilerOptions {
  const old = /^es(?:3|5|6|20(?:1\d|2[01]))$/i.test(options.target ?? "");
  return old ? { useDefineForClassFields: false, ...options } : options;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
