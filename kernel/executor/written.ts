/**
 * Functions' text as their authors wrote it, also where it is sent elsewhere: to a worker, a browser, another realm, or a
 * library that reads it. Of TypeScript it is the text without its types.
 */
import { withoutMarks } from "../ipc/marks.js";
import { defineProperty } from "../ipc/primordials.js";

/** Gives, for the text that V8 has of a function of some module, the one in the module's source. */
export type Written = (compiled: string) => string | undefined;

const modules = new Map<string, Written>();

/** Has `toString` ask for the text of a module's functions. */
export function addWritten(file: string, written: Written): void {
  modules.set(file, written);
}

const { apply } = Reflect;
const native = Function.prototype.toString;

/** Replaces `Function.prototype.toString`; the new one looks like Node's own. */
export function showFunctionsAsWritten(): void {
  const methods = {
    toString(this: unknown): string {
      if (this === methods.toString) return apply(native, native, []);
      const text = withoutMarks(apply(native, this, []));
      if (modules.size === 0 || text.endsWith("{ [native code] }")) return text;
      try {
        for (const written of modules.values()) {
          const found = written(text);
          if (found !== undefined) return found;
        }
      } catch {
        // a cell has replaced what this needs
      }
      return text;
    },
  };
  defineProperty(Function.prototype, "toString", {
    value: methods.toString,
    configurable: true,
    writable: true,
    enumerable: false,
  });
}
