/**
 * What a value looks like in a notebook: a MIME bundle.
 */
import { randomUUID } from "node:crypto";
import { publish } from "../ipc/channel.js";
import {
  base64Of,
  continueWith,
  isArray,
  keys,
  NativePromise,
  resolved,
  startsWith,
  textOf,
  toBuffer,
  weakAdd,
  weakHas,
  withoutPrototype,
} from "../ipc/primordials.js";
import { safeInspect } from "./errors.js";
import { known } from "./shows.js";

export type MimeBundle = Record<string, unknown>;

export interface DisplayOptions {
  /** Names the output, so that a later display can update it. */
  readonly displayId?: string;
  /** Replaces the output of that `displayId` instead of adding one. */
  readonly update?: boolean;
  /** The value is a MIME bundle itself. */
  readonly raw?: boolean;
  readonly metadata?: Record<string, unknown>;
}

/** A convention from Deno's kernel: a method of this name returns a value's MIME bundle. */
export const displaySymbol = Symbol.for("Jupyter.display");

/** How many displays are in progress: a cell is not over until they have been sent. */
let unfinished = 0;
let onFinished: (() => void) | undefined;
/** What `display` returned: not a result, although a cell may end with it. */
const returned = new WeakSet<object>();

/** The bundle that shows a value; a promise only if making it takes time. */
export function bundleOf(value: unknown): MimeBundle | Promise<MimeBundle> {
  const method = displayMethod(value);
  if (method !== undefined) {
    const made = method.call(value);
    return isPromise(made) ? completedLater(made, value) : completed(made, value);
  }
  const made = known(value);
  if (made === undefined) return withoutPrototype({ "text/plain": safeInspect(value) });
  return isPromise(made) ? completedLater(made, value) : completed(made, value);
}

async function completedLater(made: Promise<unknown>, value: unknown): Promise<MimeBundle> {
  return completed(await made, value);
}

function displayMethod(value: unknown): (() => unknown) | undefined {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return undefined;
  try {
    const method: unknown = (value as Record<symbol, unknown>)[displaySymbol];
    return typeof method === "function" ? (method as () => unknown) : undefined;
  } catch {
    return undefined; // a proxy that refuses everything
  }
}

export function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

function completed(made: unknown, value: unknown): MimeBundle {
  if (typeof made !== "object" || made === null || isArray(made)) {
    throw new TypeError(
      `a display method returns a MIME bundle, an object of MIME types, not ${safeInspect(made)}`,
    );
  }
  const bundle = encoded(made as MimeBundle);
  // So that front ends that know none of the types still show something.
  if (bundle["text/plain"] === undefined) bundle["text/plain"] = plain(value);
  return bundle;
}

/** What binary values show as text: their kind, never their bytes. */
function plain(value: unknown): string {
  const name = (value as { constructor?: { name?: string } } | null)?.constructor?.name;
  return name && name !== "Object" ? `[${name}]` : "[object]";
}

/** Bytes become base64, because messages are JSON. */
export function encoded(bundle: MimeBundle): MimeBundle {
  const out: MimeBundle = withoutPrototype({});
  const types = keys(bundle);
  for (let i = 0; i < types.length; i++) {
    const type = types[i]!;
    const data = bundle[type];
    if (data === undefined) continue;
    const bytes = toBuffer(data);
    if (bytes === undefined) out[type] = data;
    else out[type] = type === "image/svg+xml" || startsWith(type, "text/") ? textOf(bytes) : base64Of(bytes);
  }
  return out;
}

/** Shows a value below the cell. The promise resolves once it is sent; only values that take time to draw need it. */
export function display(value: unknown, options: DisplayOptions = {}): Promise<void> {
  const bundle = options.raw ? encoded(value as MimeBundle) : bundleOf(value);
  const shown = isPromise(bundle) ? showLater(bundle, options) : resolved(show(bundle, options));
  weakAdd(returned, shown);
  return shown;
}

function showLater(bundle: Promise<unknown>, options: DisplayOptions): Promise<void> {
  const work = async () => {
    try {
      show((await bundle) as MimeBundle, options);
    } finally {
      unfinished -= 1;
      if (unfinished === 0) onFinished?.();
    }
  };
  unfinished += 1;
  const shown = work();
  // Whoever awaits it learns of an error.
  continueWith(shown, nothing, nothing);
  return shown;
}

function nothing(): void {}

/** Whether a value is not shown as a cell's result. */
export function isNoResult(value: unknown): boolean {
  return value === undefined || (typeof value === "object" && value !== null && weakHas(returned, value));
}

function show(bundle: MimeBundle, options: DisplayOptions): void {
  const { displayId, update = false, metadata = {} } = options;
  if (update && displayId === undefined)
    throw new TypeError("display: update needs the displayId of what to replace");
  publish(update ? "update_display_data" : "display_data", {
    data: bundle,
    metadata,
    transient: displayId === undefined ? {} : { display_id: displayId },
  });
}

/** Resolves once every display that was begun has been sent. */
export function displaysDone(): Promise<void> {
  return new NativePromise((resolve) => {
    if (unfinished === 0) resolve();
    else onFinished = resolve;
  });
}

export function clearOutput({ wait = false }: { wait?: boolean } = {}): void {
  publish("clear_output", { wait });
}

export function newDisplayId(): string {
  return randomUUID();
}

const shorthand =
  (type: string) =>
  (data: unknown, options: Omit<DisplayOptions, "raw"> = {}): Promise<void> =>
    display(
      { [type]: data, ...(type === "text/plain" ? {} : { "text/plain": shortened(type, data) }) },
      { ...options, raw: true },
    );

function shortened(type: string, data: unknown): string {
  return typeof data === "string" && type !== "text/html" && type !== "image/svg+xml" ? data : `[${type}]`;
}

/** `display` with its shorthands for one MIME type each. */
export const displayFunction = Object.assign(display, {
  html: shorthand("text/html"),
  markdown: shorthand("text/markdown"),
  latex: shorthand("text/latex"),
  svg: shorthand("image/svg+xml"),
  png: shorthand("image/png"),
  jpeg: shorthand("image/jpeg"),
  json: shorthand("application/json"),
  javascript: shorthand("application/javascript"),
  text: shorthand("text/plain"),
});
