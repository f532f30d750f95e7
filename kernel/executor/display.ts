/**
 * What a value looks like in a notebook: a MIME bundle.
 */
import { randomUUID } from "node:crypto";
import { publish } from "../ipc/channel.js";
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

/** The convention that Deno's kernel started: a method of this name returns a value's MIME bundle. */
export const displaySymbol = Symbol.for("Jupyter.display");

/** Displays that are being made: a cell is not over before they are out. */
const unfinished = new Set<Promise<void>>();
/** What `display` returned: no result, although a cell may end with it. */
const returned = new WeakSet<object>();

/** The bundle that shows a value; a promise only where making it takes one. */
export function bundleOf(value: unknown): MimeBundle | Promise<MimeBundle> {
  const method = displayMethod(value);
  if (method !== undefined) {
    const made = method.call(value);
    if (isPromise(made)) return made.then((bundle) => completed(bundle, value));
    return completed(made, value);
  }
  const made = known(value);
  if (made === undefined) return { "text/plain": safeInspect(value) };
  if (isPromise(made)) return made.then((bundle) => completed(bundle, value));
  return completed(made, value);
}

function displayMethod(value: unknown): (() => unknown) | undefined {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return undefined;
  try {
    const method: unknown = (value as Record<symbol, unknown>)[displaySymbol];
    return typeof method === "function" ? (method as () => unknown) : undefined;
  } catch {
    return undefined; // a proxy that answers to nothing
  }
}

function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

function completed(made: unknown, value: unknown): MimeBundle {
  if (typeof made !== "object" || made === null || Array.isArray(made)) {
    throw new TypeError(
      `a display method returns a MIME bundle, an object of MIME types, not ${safeInspect(made)}`,
    );
  }
  const bundle = encoded(made as MimeBundle);
  // Front ends that know none of the types still show something.
  if (bundle["text/plain"] === undefined) bundle["text/plain"] = plain(value);
  return bundle;
}

/** What binary values show as text: their kind, never their bytes. */
function plain(value: unknown): string {
  const name = (value as { constructor?: { name?: string } } | null)?.constructor?.name;
  return name && name !== "Object" ? `[${name}]` : "[object]";
}

/** Bytes become base64, as messages are JSON. */
export function encoded(bundle: MimeBundle): MimeBundle {
  const out: MimeBundle = {};
  for (const [type, data] of Object.entries(bundle)) {
    if (data === undefined) continue;
    if (data instanceof Uint8Array) {
      out[type] = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString(
        type === "image/svg+xml" || type.startsWith("text/") ? "utf8" : "base64",
      );
    } else {
      out[type] = data;
    }
  }
  return out;
}

/** Shows a value below the cell. The promise resolves when it is out; only values that need time to draw need it. */
export function display(value: unknown, options: DisplayOptions = {}): Promise<void> {
  const bundle = options.raw ? encoded(value as MimeBundle) : bundleOf(value);
  const shown = isPromise(bundle)
    ? bundle.then((made) => show(made as MimeBundle, options))
    : Promise.resolve(show(bundle, options));
  returned.add(shown);
  if (isPromise(bundle)) {
    unfinished.add(shown);
    const done = () => unfinished.delete(shown);
    shown.then(done, done);
  }
  return shown;
}

/** Whether a value is nothing to be shown as a cell's result. */
export function isNoResult(value: unknown): boolean {
  return value === undefined || (typeof value === "object" && value !== null && returned.has(value));
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

/** Resolves when every display that was begun is out. */
export async function displaysDone(): Promise<void> {
  while (unfinished.size > 0) await Promise.allSettled(unfinished);
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
