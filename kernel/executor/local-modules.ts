/**
 * The user's own modules: TypeScript, JavaScript and JSON files that notebooks import by path or alias. ts-node turns
 * them into CommonJS bodies, which run here as async functions once everything they import is loaded. So they may import
 * what Node's `require` can't load, and use top-level await. A file that changed is run again when it is next imported,
 * and so is everything that imports it; all other modules keep their state.
 */
import { readFileSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import path from "node:path";
import { constants, Script } from "node:vm";
import { TraceMap } from "@jridgewell/trace-mapping";
import MagicString from "magic-string";
import { parseSync } from "oxc-parser";
import type { Service } from "ts-node";
import { readUserConfig } from "../language/config.js";
import { isNotebook, notebookModule } from "../language/notebook-module.js";
import { isPath, resolveFile, stampOf } from "../language/resolve.js";
import { prepareModule } from "../language/transform.js";
import { typescriptFile } from "../language/typescript.js";
import { Aliases } from "./aliases.js";
import { moduleMaps } from "./errors.js";
import { writtenIn } from "./module-texts.js";
import {
  commonJsExports,
  type ImportOptions,
  jsonNamespace,
  type Loader,
  metaOf,
  type Namespace,
} from "./namespaces.js";
import { addWritten } from "./written.js";

interface LocalModule {
  readonly file: string;
  readonly stamp: string;
  readonly exports: Record<string, unknown>;
  /** The user's files that it imports, as they were then. */
  readonly imports: Map<string, LocalModule | undefined>;
  /** Stamps of the CommonJS files that it required, which Node caches. */
  readonly required: Map<string, string>;
  /** What it assigned to `module.exports`, or has by `export =`. */
  commonJs?: { readonly value: unknown };
  /** Settles when it has run. */
  loaded: Promise<void>;
}

type Body = (
  exports: object,
  require: (id: string) => unknown,
  module: object,
  filename: string,
  dirname: string,
  dynamicImport: (specifier: string, options?: ImportOptions) => Promise<Namespace>,
  meta: object,
) => Promise<void> | void;

/** Kinds of files that Node's `require` gets from here. */
const typescriptFiles = [".ts", ".tsx", ".mts", ".cts"];

/** The names of dynamic imports and `import.meta` in a module's body. */
const importName = "__firstframeImport";
const metaName = "__firstframeMeta";

export class LocalModules {
  private readonly modules = new Map<string, LocalModule>();
  /** What notebooks were last given. */
  private readonly parameters = new Map<string, Readonly<Record<string, string>>>();
  private readonly require: NodeJS.Require;
  private readonly aliases: Aliases;
  private compiler: Service | undefined;

  constructor(private readonly loader: Loader) {
    this.require = createRequire(import.meta.url);
    this.aliases = new Aliases(loader.cwd);
    for (const extension of typescriptFiles) {
      this.require.extensions[extension] = (module, file) => {
        module.exports = this.requireFile(file);
        // It is kept here, where a change is noticed.
        delete this.require.cache[file];
      };
    }
  }

  /**
   * The namespace of a file's module, run again if it or what it imports has changed, or if a notebook is given other parameters.
   */
  async import(file: string, parameters: Readonly<Record<string, string>> = {}): Promise<Namespace> {
    if (/\.(?:node|wasm)$/.test(file)) return this.require(file) as Namespace;
    if (isNotebook(file)) {
      const before = this.parameters.get(file) ?? {};
      if (JSON.stringify(before) !== JSON.stringify(parameters)) this.modules.delete(file);
      this.parameters.set(file, parameters);
    }
    this.forgetChanged(file);
    const module = this.load(file);
    await module.loaded;
    return file.endsWith(".json") ? jsonNamespace(module.exports.default) : module.exports;
  }

  /** Drops every module below `root` that changed, or that imports, directly or not, one that did. */
  private forgetChanged(root: string): void {
    const reachable = new Set([root]);
    for (const file of reachable) {
      for (const next of this.modules.get(file)?.imports.keys() ?? []) reachable.add(next);
    }
    const stale = new Set([...reachable].filter((file) => this.isStale(this.modules.get(file))));
    for (let before = -1; before !== stale.size; ) {
      before = stale.size;
      for (const file of reachable) {
        if ([...(this.modules.get(file)?.imports.keys() ?? [])].some((next) => stale.has(next)))
          stale.add(file);
      }
    }
    for (const file of stale) {
      for (const required of this.modules.get(file)?.required.keys() ?? [])
        delete this.require.cache[required];
      this.modules.delete(file);
    }
  }

  /** Whether a module's file has changed, or one of those that it imports has been run again since. */
  private isStale(module: LocalModule | undefined): boolean {
    if (!module || module.stamp !== stampOf(module.file)) return true;
    return (
      [...module.required].some(([file, stamp]) => stampOf(file) !== stamp) ||
      [...module.imports].some(([file, imported]) => this.modules.get(file) !== imported)
    );
  }

  /** What a cell's `require` gives for one of the user's files; undefined if it names none. */
  requireFrom(id: string, folder: string): { readonly value: unknown } | undefined {
    const file = isPath(id) ? resolveFile(path.resolve(folder, id)) : null;
    return file === null ? undefined : { value: this.requireFile(file) };
  }

  /** What `require` gives for a file, run again if it or what it imports has changed. */
  private requireFile(file: string): unknown {
    this.forgetChanged(file);
    return this.loadNow(file);
  }

  /** A module, and those that it imports, without waiting for anything. */
  private loadNow(file: string): unknown {
    if (/\.(?:node|wasm)$/.test(file)) return this.require(file);
    const known = this.modules.get(file);
    if (known) return requiredOf(known);
    const module = this.create(file);
    try {
      const source = readFileSync(file, "utf8");
      if (file.endsWith(".json")) module.exports.default = parseJson(source, file);
      else if (isCommonJs(file, source)) this.evaluateCommonJs(module);
      else {
        const { code } = prepareModule(this.compile(source, file));
        const native = createRequire(file);
        const require = Object.assign((id: string) => this.requireNow(id, module, native), native);
        void this.run(module, bodyOf(file, code, ""), require);
        this.finish(module);
      }
    } catch (error) {
      this.modules.delete(file);
      throw error;
    }
    return requiredOf(module);
  }

  private requireNow(specifier: string, importer: LocalModule, native: NodeJS.Require): unknown {
    if (isBuiltin(specifier)) return native(specifier);
    const folder = path.dirname(importer.file);
    const file = isPath(specifier)
      ? resolveFile(path.resolve(folder, specifier))
      : this.aliases.file(specifier, folder);
    if (file === null) return native(specifier);
    const value = this.loadNow(file);
    importer.imports.set(file, this.modules.get(file));
    return value;
  }

  private create(file: string): LocalModule {
    const exports: Record<string, unknown> = {};
    Object.defineProperty(exports, Symbol.toStringTag, { value: "Module" });
    const module = {
      file,
      stamp: stampOf(file),
      exports,
      imports: new Map<string, LocalModule | undefined>(),
      required: new Map<string, string>(),
      loaded: Promise.resolve(),
    };
    this.modules.set(file, module);
    return module;
  }

  private load(file: string): LocalModule {
    const known = this.modules.get(file);
    if (known) return known;
    const module = this.create(file);
    module.loaded = this.evaluate(module);
    module.loaded.catch(() => {
      // The next import tries again.
      if (this.modules.get(file) === module) this.modules.delete(file);
    });
    return module;
  }

  private async evaluate(module: LocalModule): Promise<void> {
    const { file } = module;
    const source = readFileSync(file, "utf8");
    if (file.endsWith(".json")) {
      module.exports.default = parseJson(source, file);
      return;
    }
    if (isCommonJs(file, source)) {
      this.evaluateCommonJs(module);
      return;
    }
    const { code, requires } = prepareModule(this.compile(source, file));
    const required = new Map<string, unknown>();
    for (const specifier of requires) required.set(specifier, await this.requirable(specifier, module));
    const native = createRequire(file);
    const require = Object.assign(
      (id: string) => (required.has(id) ? required.get(id) : this.requireNow(id, module, native)),
      native,
    );
    await this.run(module, bodyOf(file, code, "async "), require);
    this.finish(module);
  }

  private run(module: LocalModule, body: Body, require: (id: string) => unknown): Promise<void> | void {
    const { file, exports } = module;
    const folder = path.dirname(file);
    const dynamicImport = (specifier: string, options?: ImportOptions) =>
      this.loader.import(String(specifier), options, folder);
    const holder = {
      id: file,
      filename: file,
      path: folder,
      require,
      get exports() {
        return module.commonJs === undefined ? exports : module.commonJs.value;
      },
      set exports(value: unknown) {
        module.commonJs = { value };
      },
    };
    const meta = metaOf(file, (specifier) => this.aliases.file(specifier, folder));
    return body.call(undefined, exports, require, holder, file, folder, dynamicImport, meta);
  }

  /** Gives a module that assigned to `module.exports` the exports that an import finds. */
  private finish(module: LocalModule): void {
    if (module.commonJs !== undefined && module.commonJs.value !== module.exports)
      addExports(module.exports, module.commonJs.value);
  }

  /** What `require` returns to a module's body for an import: exports, marked as an ES module's if they are. */
  private async requirable(specifier: string, importer: LocalModule): Promise<unknown> {
    if (isBuiltin(specifier)) return this.require(specifier);
    const folder = path.dirname(importer.file);
    const file = await this.loader.localFile(specifier, folder);
    if (file === null) {
      const namespace = await this.loader.import(specifier, undefined, folder);
      return commonJsExports(namespace) ?? asExports(namespace);
    }
    const module = this.load(file);
    importer.imports.set(file, module);
    // Modules that import each other see what exists when they run, like ES modules.
    if (!this.waitsFor(module, importer)) await module.loaded;
    return requiredOf(module);
  }

  private waitsFor(module: LocalModule, importer: LocalModule): boolean {
    const seen = new Set([module.file]);
    for (const file of seen) for (const next of this.modules.get(file)?.imports.keys() ?? []) seen.add(next);
    return seen.has(importer.file);
  }

  private evaluateCommonJs(module: LocalModule): void {
    const exports = this.require(module.file) as unknown;
    const queue = [module.file];
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      if (module.required.has(file) || file.includes(`${path.sep}node_modules${path.sep}`)) continue;
      module.required.set(file, stampOf(file));
      const local = this.modules.get(file);
      if (local !== undefined && local !== module) module.imports.set(file, local);
      queue.push(...(this.require.cache[file]?.children ?? []).map(({ filename }) => filename));
    }
    module.commonJs = { value: exports };
    addExports(module.exports, exports);
  }

  /** TypeScript or modern JavaScript to a CommonJS body. */
  private compile(written: string, file: string): string {
    const text = isNotebook(file) ? this.notebook(written, file) : written;
    const source = withoutImportSyntax(text, isNotebook(file) ? `${file}.ts` : file);
    // Every file becomes a CommonJS body, also one whose name asks for an ES module.
    const name = isNotebook(file) ? `${file}.ts` : file.replace(/\.[mc]([tj]s)$/, ".$1");
    const output = this.service().compile(source, name);
    // Its comment stays for debuggers.
    const comment = output.slice(Math.max(0, output.lastIndexOf("//# sourceMappingURL=data:")));
    const encoded = /^\/\/# sourceMappingURL=data:[^,]*;base64,(\S+)/.exec(comment)?.[1];
    if (encoded) {
      const map = new TraceMap(Buffer.from(encoded, "base64").toString("utf8"));
      moduleMaps.set(file, map);
      const functions = writtenIn({ file, source, compiled: output, map });
      addWritten(file, (compiled) => {
        const found = functions(compiled);
        return found === undefined ? undefined : withImportSyntax(found);
      });
    }
    return output;
  }

  private notebook(json: string, file: string): string {
    try {
      return notebookModule(json, this.parameters.get(file));
    } catch (error) {
      throw new SyntaxError(`${file}: ${(error as Error).message}`);
    }
  }

  private service(): Service {
    if (this.compiler) return this.compiler;
    const { options } = readUserConfig(this.loader.cwd);
    const traces = Object.getOwnPropertyDescriptor(Error, "prepareStackTrace");
    const { create } = this.require("ts-node") as typeof import("ts-node");
    this.compiler = create({
      cwd: this.loader.cwd,
      // The compiler in npm's typescript package no longer has a JavaScript API.
      compiler: typescriptFile,
      transpileOnly: true,
      skipProject: true,
      skipIgnore: true,
      compilerOptions: {
        jsx: options.jsx === "react" || options.jsx === "react-jsxdev" ? options.jsx : "react-jsx",
        ...(options.jsxImportSource ? { jsxImportSource: options.jsxImportSource } : {}),
        ...(options.jsxFactory ? { jsxFactory: options.jsxFactory } : {}),
        ...(options.jsxFragmentFactory ? { jsxFragmentFactory: options.jsxFragmentFactory } : {}),
        experimentalDecorators: options.experimentalDecorators ?? false,
        emitDecoratorMetadata: options.emitDecoratorMetadata ?? false,
        useDefineForClassFields: options.useDefineForClassFields ?? true,
        target: "es2022",
        module: "commonjs",
        moduleResolution: "node10",
        ignoreDeprecations: "5.0",
        moduleDetection: "force",
        esModuleInterop: true,
        allowJs: true,
        strict: true,
      },
    });
    // ts-node would map every stack trace itself; the kernel does so for cells and modules alike.
    const support = createRequire(this.require.resolve("ts-node"))("@cspotcode/source-map-support") as {
      uninstall(): void;
    };
    support.uninstall();
    if (traces) Object.defineProperty(Error, "prepareStackTrace", traces);
    return this.compiler;
  }
}

function bodyOf(file: string, code: string, kind: "" | "async "): Body {
  return new Script(
    `(${kind}function (exports, require, module, __filename, __dirname, ${importName}, ${metaName}) {${code}\n})`,
    { filename: file, importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER },
  ).runInThisContext() as Body;
}

/** What `require` gives of a module. */
function requiredOf({ file, exports, commonJs }: LocalModule): unknown {
  if (file.endsWith(".json")) return exports.default;
  return commonJs === undefined ? exports : commonJs.value;
}

/** What a CommonJS module exports, as an import finds it. */
function addExports(namespace: Record<string, unknown>, exports: unknown): void {
  const properties =
    typeof exports === "object" || typeof exports === "function" ? (exports as object | null) : null;
  for (const name of Object.keys(properties ?? {})) {
    const descriptor = Object.getOwnPropertyDescriptor(properties, name);
    Object.defineProperty(namespace, name, { ...descriptor, enumerable: true, configurable: true });
  }
  const marked = (properties as { __esModule?: boolean } | null)?.__esModule === true;
  if (!marked || !("default" in namespace)) {
    Object.defineProperty(namespace, "default", { value: exports, enumerable: true });
  }
  Object.defineProperty(namespace, "__esModule", { value: true });
}

/** A body is CommonJS, which has neither an ES module's `import()` nor `import.meta`. */
function withoutImportSyntax(source: string, file: string): string {
  if (!/\bimport\s*[(.]/.test(source)) return source;
  const { module, errors } = parseSync(file, source, { sourceType: "module" });
  if (errors.length > 0) return source;
  const text = new MagicString(source);
  for (const { start } of module.dynamicImports) text.update(start, start + "import".length, importName);
  for (const { start, end } of module.importMetas) text.update(start, end, metaName);
  return text.toString();
}

/** The opposite. */
function withImportSyntax(text: string): string {
  return text.replaceAll(importName, "import").replaceAll(metaName, "import.meta");
}

/** Whether a JavaScript file is CommonJS, by its name or its content. */
function isCommonJs(file: string, source: string): boolean {
  if (file.endsWith(".cjs")) return true;
  if (!file.endsWith(".js")) return false;
  const { module, program } = parseSync(file, source, { lang: "jsx", sourceType: "unambiguous" });
  return !module.hasModuleSyntax && program.body.length > 0 && /\b(?:require|module|exports)\b/.test(source);
}

/** An ES module's exports, live, as transpiled code expects them from `require`. */
function asExports(namespace: Namespace): object {
  const exports: object = {};
  for (const name of Object.keys(namespace)) {
    Object.defineProperty(exports, name, { get: () => namespace[name], enumerable: true });
  }
  return Object.defineProperty(exports, "__esModule", { value: true });
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new SyntaxError(`${file}: ${(error as Error).message}`);
  }
}
