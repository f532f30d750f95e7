/**
 * Modules that cells import. Packages and Node's own modules are imported by Node itself, as from a file in the notebook's
 * folder. The user's own files are loaded by {@link LocalModules}, which reloads them when they change.
 */
import { readFileSync } from "node:fs";
import * as nodeModule from "node:module";
import { createRequire, isBuiltin } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { compileFunction, constants } from "node:vm";
import { isAbove, isPath, resolveFile, resolveInNodePath } from "../language/resolve.js";
import type { Aliases } from "./aliases.js";
import type { LocalModules } from "./local-modules.js";
import {
  type ImportOptions,
  interoperable,
  jsonNamespace,
  type Loader,
  type Namespace,
} from "./namespaces.js";
import { tslabNamespace } from "./tslab.js";

/** Imports a module, which must export `names`. */
export type Importer = (
  specifier: string,
  options?: ImportOptions,
  names?: readonly string[],
) => Promise<Namespace>;

/** Makes the `import` of cells of a notebook in the folder `cwd`, and what lets `require` load TypeScript. */
export function createImporter({ cwd }: { cwd: string }): Importer & { typescript(): Promise<LocalModules> } {
  const modules = new ModuleLoader(cwd);
  const imported: Importer = async (specifier, options, names = []) => {
    const namespace = await modules.import(String(specifier), options, cwd);
    const missing = names.find((name) => !(name in namespace));
    if (missing !== undefined) {
      throw new SyntaxError(
        `The requested module '${specifier}' does not provide an export named '${missing}'`,
      );
    }
    return namespace;
  };
  return Object.assign(imported, { typescript: () => modules.locals() });
}

/** Node's own loader for code outside files is marked as experimental, which cells need not be told. */
const { emitWarning } = process;
process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
  if (!String(warning).includes("USE_MAIN_CONTEXT_DEFAULT_LOADER"))
    Reflect.apply(emitWarning, process, [warning, ...rest]);
}) as typeof process.emitWarning;

type NativeImport = (specifier: string, options: ImportOptions | undefined) => Promise<Namespace>;

export class ModuleLoader implements Loader {
  private readonly natives = new Map<string, NativeImport>();
  private local: Promise<LocalModules> | undefined;
  private paths: Aliases | undefined;

  constructor(readonly cwd: string) {
    refuseTypeScript((url) => url.endsWith("/notebook.js") && this.natives.has(folderOf(url)));
  }

  /** Imports what a specifier means to a module in `folder`. */
  async import(specifier: string, options: ImportOptions | undefined, folder: string): Promise<Namespace> {
    // Always the kernel's own, whose displays come here instead of going to tslab's kernel.
    if (specifier === "tslab") return tslabNamespace();
    const file = await this.localFile(specifier, folder);
    if (file !== null) return (await this.locals()).import(file, options?.with);
    try {
      return await this.importPackage(specifier, options, folder);
    } catch (error) {
      const source = typeScriptOf(error);
      if (source !== null) return (await this.locals()).import(source);
      const elsewhere = inNodePath(specifier) ?? asRequired(specifier, folder, error);
      if (elsewhere !== null) return this.importPackage(elsewhere, options, folder);
      if (isProvided(specifier) && !isInstalled(specifier.split("/")[0]!, folder))
        return this.importPackage(specifier, options, ownFolder);
      throw error;
    }
  }

  /** The user's own file that a specifier means, or null if it names a package. */
  async localFile(specifier: string, folder: string): Promise<string | null> {
    if (specifier.startsWith("file:")) return found(fileURLToPath(specifier), specifier, folder);
    if (isPath(specifier)) return found(path.resolve(folder, specifier), specifier, folder);
    if (isBuiltin(specifier) || /^[a-z]+:/.test(specifier)) return null;
    if (!hasConfigAbove(folder) && !hasConfigAbove(this.cwd)) return null;
    this.paths ??= new (await import("./aliases.js")).Aliases(this.cwd);
    return this.paths.file(specifier, folder);
  }

  /** Imports a package as Node does; what it requires of CommonJS is served as TypeScript types it. */
  private async importPackage(
    specifier: string,
    options: ImportOptions | undefined,
    folder: string,
  ): Promise<Namespace> {
    if (specifier.endsWith(".json") && !isBuiltin(specifier)) {
      return jsonNamespace(
        JSON.parse(readFileSync(createRequire(path.join(folder, "_")).resolve(specifier), "utf8")),
      );
    }
    return interoperable(await this.native(folder)(specifier, options));
  }

  /** Node's own import() as it works in a file of a folder. */
  private native(folder: string): NativeImport {
    let native = this.natives.get(folder);
    if (!native) {
      native = compileFunction("return import(specifier, options)", ["specifier", "options"], {
        filename: path.join(folder, "notebook.js"),
        importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
      }) as NativeImport;
      this.natives.set(folder, native);
    }
    return native;
  }

  /** From now on, `require` loads TypeScript. */
  locals(): Promise<LocalModules> {
    this.local ??= import("./local-modules.js").then(({ LocalModules }) => new LocalModules(this));
    return this.local;
  }
}

interface Resolution {
  readonly url: string;
}
type Resolve = (
  specifier: string,
  context: { readonly parentURL?: string },
  next: (specifier: string, context: object) => Resolution,
) => Resolution;

/**
 * Newer versions of Node run TypeScript, but only what is JavaScript with types, with all extensions written out, and
 * once. What is imported by `isOurs` they are to refuse as the older ones do.
 */
function refuseTypeScript(isOurs: (parent: string) => boolean): void {
  const { registerHooks } = nodeModule as { registerHooks?: (hooks: { resolve: Resolve }) => void };
  registerHooks?.({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      const extension = /^file:.*(\.[cm]?tsx?)$/.exec(resolved.url)?.[1];
      if (extension === undefined || !isOurs(context.parentURL ?? "")) return resolved;
      const file = fileURLToPath(resolved.url);
      const error: NodeJS.ErrnoException = new TypeError(`Unknown file extension "${extension}" for ${file}`);
      error.code = "ERR_UNKNOWN_FILE_EXTENSION";
      throw error;
    },
  });
}

function folderOf(url: string): string {
  return url.startsWith("file:") ? path.dirname(fileURLToPath(url)) : "";
}

/** Packages that the kernel brings along for notebooks in folders that have none. */
const ownFolder = path.dirname(fileURLToPath(import.meta.url));
const isProvided = (specifier: string) => /^firstframe(?:\/|$)/.test(specifier);

/** The URL of a package in a folder of NODE_PATH, which Node only asks for `require`. */
function inNodePath(specifier: string): string | null {
  const file = isPath(specifier) ? null : resolveInNodePath(specifier);
  return file === null ? null : pathToFileURL(file).href;
}

/**
 * The file in a package that is named without its extension, or by its folder: `lodash/fp`. Node asks for the whole name in an
 * `import`; compilers, bundlers and `require` don't, so that cells whose types are right would fail.
 */
function asRequired(specifier: string, folder: string, error: unknown): string | null {
  const { code, url } = (error ?? {}) as NodeJS.ErrnoException & { url?: string };
  if (code !== "ERR_MODULE_NOT_FOUND" && code !== "ERR_UNSUPPORTED_DIR_IMPORT") return null;
  if (isPath(specifier) || !url?.startsWith("file:")) return null;
  try {
    // What is missing may be another module, which the one that was asked for imports.
    if (!fileURLToPath(url).endsWith(path.join("node_modules", specifier))) return null;
    const file = createRequire(path.join(folder, "_")).resolve(specifier);
    return file.endsWith(".json") ? file : pathToFileURL(file).href;
  } catch {
    return null;
  }
}

/** Whether Node finds a package from a folder. */
function isInstalled(name: string, folder: string): boolean {
  return isAbove(folder, path.join("node_modules", name));
}

/**
 * The TypeScript file that a package (in a monorepo, say) consists of, if Node refuses to run it. The error says so in its
 * code, but names the file only in its message.
 */
function typeScriptOf(error: unknown): string | null {
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === "ERR_UNKNOWN_FILE_EXTENSION")
    return /^Unknown file extension "\.[cm]?tsx?" for (.+)$/s.exec(message)?.[1] ?? null;
  if (code !== "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING") return null;
  const url = /"(file:[^"]+)"/.exec(message)?.[1];
  return url ? fileURLToPath(url) : null;
}

const hasConfigAbove = (folder: string): boolean => isAbove(folder, "tsconfig.json");

function found(file: string, specifier: string, folder: string): string {
  const resolved = resolveFile(file);
  if (resolved !== null) return resolved;
  const error: NodeJS.ErrnoException = new Error(`Cannot find module '${specifier}' imported from ${folder}`);
  error.code = "ERR_MODULE_NOT_FOUND";
  throw error;
}
