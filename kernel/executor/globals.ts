/**
 * What cells find in their global scope besides Node's own. Its types are in globals.d.ts.
 */
import { createRequire, Module } from "node:module";
import { dirname, join } from "node:path";
import { runtimeGlobal } from "../ipc/names.js";
import { defineProperty } from "../ipc/primordials.js";
import type { Cells } from "./cells.js";
import type { Comms } from "./comms.js";
import { bundleOf, clearOutput, displayFunction } from "./display.js";
import { inputFunctions } from "./input.js";
import type { Interrupts } from "./interrupt.js";
import { bash, cd, env, install, show, writefile } from "./magics.js";
import { metaOf } from "./namespaces.js";
import { loadTslab } from "./tslab.js";

export interface Importer {
  import(specifier: string, options?: { with?: Record<string, string> }, names?: string[]): Promise<unknown>;
  /** Lets `require` load TypeScript; what it resolves to requires the user's files, again once they change. */
  typescript(): Promise<FileLoader>;
}

export interface FileLoader {
  /** Undefined if it is none of the user's files. */
  requireFrom(id: string, folder: string): { readonly value: unknown } | undefined;
}

export function installGlobals(
  interrupts: Interrupts,
  cwd: string,
  importer: Importer,
  comms: Comms,
  cells: Cells,
): void {
  const { evaluator } = cells;
  // The notebook's own path, if the front end tells it.
  const file = notebookFile(process.env.JPY_SESSION_NAME, cwd) ?? join(cwd, "notebook.ipynb");
  const native = createRequire(file);
  let files: FileLoader | undefined;
  // As in a CommonJS file in the notebook's folder that Node was started with.
  const module = new Module(file);
  const require = Object.assign(
    (id: string): unknown => {
      if (id === "tslab") return loadTslab();
      const found = files?.requireFrom(id, dirname(file));
      return found === undefined ? native(id) : found.value;
    },
    native,
    { main: module },
  ) as NodeJS.Require;
  Object.assign(module, { filename: file, paths: native.resolve.paths("any") ?? [], require });
  const runtime = {
    import: importer.import,
    typescript: async () => {
      files = await importer.typescript();
    },
    await: <T>(value: T) => {
      evaluator.onSuspend();
      return interrupts.guard(value);
    },
    iterate: interrupts.iterate,
    interrupt: interrupts.check,
    raise: interrupts.raise,
    require,
    box: evaluator.box,
    bundle: bundleOf,
    bash,
    install: (packages: readonly string[]) => install(packages, cwd),
    env,
    cd,
    show,
    writefile,
    fetch: evaluator.fetch,
    abandon: evaluator.abandon,
    meta: metaOf(file),
  };
  Object.defineProperty(globalThis, runtimeGlobal, { value: Object.freeze(runtime) });
  const { prompt, confirm } = inputFunctions(interrupts);
  for (const [name, value] of Object.entries({
    display: displayFunction,
    clearOutput,
    prompt,
    confirm,
    comms: comms.api,
    require,
    module,
    exports: module.exports,
    __filename: file,
    __dirname: dirname(file),
  })) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  // The last result, as in IPython and Node's REPL, until a cell gives the name to something else.
  Object.defineProperty(globalThis, "_", {
    configurable: true,
    get: () => cells.lastResult,
    set: (value: unknown) =>
      defineProperty(globalThis, "_", { value, configurable: true, enumerable: true, writable: true }),
  });
}

function notebookFile(name: string | undefined, cwd: string): string | undefined {
  return name?.endsWith(".ipynb") && dirname(name) === cwd ? name : undefined;
}
