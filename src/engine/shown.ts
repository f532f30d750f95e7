/**
 * How the package's objects are shown: as a cell's last expression, by `console.log` and in string templates.
 * A class says it once, with {@link showAs}, and all of these agree.
 */
import { type InspectOptionsStylized, inspect } from "node:util";

/**
 * The one convention between this package and a notebook kernel: a method of this name returns a value's MIME bundle, or
 * a promise of it. Deno's kernel and firstframe's both call it.
 */
export const jupyterDisplay: unique symbol = Symbol.for("Jupyter.display") as never;

/** MIME type to content: text as a string, binary as base64, JSON types as objects. */
export type MimeBundle = Record<string, unknown>;

/** Anything a notebook shows by itself. */
export interface Displayable {
  [jupyterDisplay](): MimeBundle | Promise<MimeBundle>;
}

/** How a class describes its objects. None of the functions needs to catch errors: a failure is shown, never thrown. */
export interface Shown<T> {
  /** In one line: within other objects, deeper than `console.log` looks. */
  readonly line: (value: T) => string;
  /** As Python's `repr` of the object would be; the line unless given. */
  readonly text?: (value: T) => string;
  /** What a notebook shows beside or instead of the text, which it is given. */
  readonly bundle?: (value: T, text: string) => MimeBundle | undefined | Promise<MimeBundle | undefined>;
}

/** The method that {@link lineOf} asks for. */
const lineName = Symbol("line");

/**
 * Gives a class the methods that notebooks (`Symbol.for("Jupyter.display")`), `console.log` (`util.inspect.custom`) and
 * string templates (`toString`) call. Those that the class already has are kept.
 */
export function showAs<T extends object>(type: { readonly prototype: T }, shown: Shown<T>): void {
  const { line, text = line, bundle } = shown;
  const methods = {
    [lineName](this: T): string {
      return attempt(line, this);
    },
    [inspect.custom](this: T, depth: number | null, { stylize }: InspectOptionsStylized): unknown {
      if (depth !== null && depth < 0) return stylize(`[${attempt(line, this)}]`, "special");
      const shownText = attempt(text, this);
      // An object, because Node indents the lines of an object to its depth, but not those of a string.
      return { [inspect.custom]: () => shownText };
    },
    toString(this: T): string {
      return attempt(text, this);
    },
    [jupyterDisplay](this: T): MimeBundle | Promise<MimeBundle> {
      // Now, because the object may be disposed before the rest is made.
      const plain = { "text/plain": attempt(text, this) };
      try {
        const made = bundle?.(this, plain["text/plain"]);
        if (!(made instanceof Promise)) return { ...plain, ...made };
        return made.then(
          (rich) => ({ ...plain, ...rich }),
          () => plain,
        );
      } catch {
        return plain;
      }
    },
  };
  for (const name of Reflect.ownKeys(methods)) {
    if (Object.hasOwn(type.prototype, name)) continue;
    const value: unknown = methods[name as keyof typeof methods];
    Object.defineProperty(type.prototype, name, { value, writable: true, configurable: true });
  }
}

/** An object of the package in one line. */
export function lineOf(value: object): string {
  const method = (value as { [lineName]?: () => string })[lineName];
  return method ? method.call(value) : inspect(value, { depth: -1 });
}

/** A text about a value. If that fails, as it does for a class's prototype: the class, and why. */
function attempt<T extends object>(text: (value: T) => string, value: T): string {
  try {
    return text(value);
  } catch (error) {
    const { name } = value.constructor;
    return Object.hasOwn(value, "constructor") ? name : `${name}(${(error as Error).message})`;
  }
}

/** An integer with thousands separators: 1,920. */
export function grouped(value: number): string {
  return value.toLocaleString("en-US");
}
