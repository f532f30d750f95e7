/**
 * What cells find in their global scope besides Node's own. Its types are in globals.d.ts.
 */
import { createRequire, Module } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { interruptFlag, runtimeGlobal } from "../ipc/names.js";
import type { Comms } from "./comms.js";
import { bundleOf, clearOutput, displayFunction } from "./display.js";
import type { Evaluator } from "./evaluate.js";
import { inputFunctions } from "./input.js";
import type { Interrupts } from "./interrupt.js";
import { bash, install } from "./magics.js";
import { loadTslab } from "./tslab.js";

export type Importer = (
  specifier: string,
  options?: { with?: Record<string, string> },
  names?: string[],
) => Promise<unknown>;

export function installGlobals(
  interrupts: Interrupts,
  cwd: string,
  importer: Importer,
  comms: Comms,
  evaluator: Evaluator,
): void {
  // The notebook's own path, if the front end tells it.
  const file = notebookFile(process.env.JPY_SESSION_NAME, cwd) ?? join(cwd, "notebook.ipynb");
  const native = createRequire(file);
  // As in a CommonJS file in the notebook's folder that Node was started with.
  const module = new Module(file);
  const require = Object.assign(
    (id: string): unknown => (id === "tslab" ? loadTslab() : native(id)),
    native,
    { main: module },
  ) as NodeJS.Require;
  Object.assign(module, { filename: file, paths: native.resolve.paths("any") ?? [], require });
  const runtime = {
    import: importer,
    await: <T>(value: T) => {
      evaluator.onSuspend();
      return interrupts.guard(value);
    },
    iterate: interrupts.iterate,
    interrupt: interrupts.check,
    require,
    box: evaluator.box,
    bundle: bundleOf,
    bash,
    install,
    fetch: evaluator.fetch,
    abandon: evaluator.abandon,
    meta: {
      url: pathToFileURL(file).href,
      dirname: dirname(file),
      filename: file,
      resolve: (specifier: string) => pathToFileURL(native.resolve(specifier)).href,
    },
  };
  for (const [name, value] of Object.entries({
    [runtimeGlobal]: Object.freeze(runtime),
    [interruptFlag]: interrupts.state,
  })) {
    Object.defineProperty(globalThis, name, { value });
  }
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
}

function notebookFile(name: string | undefined, cwd: string): string | undefined {
  return name?.endsWith(".ipynb") && dirname(name) === cwd ? name : undefined;
}
