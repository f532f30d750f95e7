/** Module namespaces: those of JSON, those of CommonJS as TypeScript types it, and `import.meta`. */
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { isPath } from "../language/resolve.js";

export interface ImportOptions {
  readonly with?: Readonly<Record<string, string>>;
}

export type Namespace = Readonly<Record<string, unknown>>;

/** The loader, for modules that import others. */
export interface Loader {
  /** The notebook's folder. */
  readonly cwd: string;
  /** Imports what a specifier means to a module in `folder`. */
  import(specifier: string, options: ImportOptions | undefined, folder: string): Promise<Namespace>;
  /** The user's own file that a specifier means, or null if it names a package. */
  localFile(specifier: string, folder: string): Promise<string | null>;
}

/** A module namespace with other names. */
export function namespaceOf(properties: PropertyDescriptorMap): Namespace {
  Object.defineProperty(properties, Symbol.toStringTag, { value: { value: "Module" }, enumerable: true });
  return Object.create(null, properties) as Namespace;
}

/** JSON as a module: all of it as the default export, and its keys. */
export function jsonNamespace(value: unknown): Namespace {
  const properties: PropertyDescriptorMap = {};
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const [key, each] of Object.entries(value)) properties[key] = { value: each, enumerable: true };
  }
  return namespaceOf({ ...properties, default: { value, enumerable: true } });
}

const interoperables = new WeakMap<Namespace, Namespace>();

/**
 * What TypeScript's types promise for CommonJS: every property of `module.exports` is an export, even if Node does not find
 * it in the source, and the default export is the one that the module marks as such. ES modules stay as they are.
 */
export function interoperable(namespace: Namespace): Namespace {
  const known = interoperables.get(namespace);
  if (known) return known;
  const exports = commonJsExports(namespace);
  let result = namespace;
  if (exports) {
    const marked = exports.__esModule === true && "default" in exports;
    const names = Object.keys(exports).filter((name) => name !== "default" && name !== "__esModule");
    if (marked || names.some((name) => !(name in namespace))) {
      const properties: PropertyDescriptorMap = {};
      for (const name of names) {
        const { get, value } = Object.getOwnPropertyDescriptor(exports, name) ?? {};
        properties[name] = { ...(get ? { get: () => exports[name] } : { value }), enumerable: true };
      }
      properties.default = { value: marked ? exports.default : exports, enumerable: true };
      result = namespaceOf(properties);
    }
  }
  interoperables.set(namespace, result);
  return result;
}

const cache = createRequire(import.meta.url).cache;

/**
 * `module.exports` of the CommonJS module behind a namespace, or null if it is an ES module, also one whose default export is a
 * CommonJS module's (as in packages that have a wrapper for `import`): that has names which the other lacks.
 */
export function commonJsExports(namespace: Namespace): Record<string, unknown> | null {
  const value = namespace.default;
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return null;
  if (!Object.values(cache).some((module) => module?.exports === value)) return null;
  // Names that Node expected from the source, and that the module then did not set, are undefined.
  const own = (name: string) => name in value || name === "default" || name === "module.exports";
  const others = Object.keys(namespace).filter((name) => !own(name) && namespace[name] !== undefined);
  return others.length === 0 ? (value as Record<string, unknown>) : null;
}

/** `import.meta` of a file; `alias` finds the files that a tsconfig.json means. */
export function metaOf(file: string, alias: (specifier: string) => string | null = () => null): object {
  const require = createRequire(file);
  return {
    url: pathToFileURL(file).href,
    filename: file,
    dirname: path.dirname(file),
    resolve: (specifier: string) =>
      isPath(specifier)
        ? new URL(specifier, pathToFileURL(file)).href
        : urlOf(alias(specifier) ?? require.resolve(specifier)),
  };
}

function urlOf(resolved: string): string {
  return path.isAbsolute(resolved) ? pathToFileURL(resolved).href : `node:${resolved.replace(/^node:/, "")}`;
}
