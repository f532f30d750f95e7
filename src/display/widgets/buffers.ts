/**
 * Binary values within a widget's state travel beside its JSON: an object's loses the key, a list's becomes null, and a path says
 * where each belongs (https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/schema/messages.md, "Binary data").
 */

export type BufferPath = readonly (string | number)[];

/** The state without its binary values. */
export interface Separated {
  readonly state: Record<string, unknown>;
  readonly paths: readonly BufferPath[];
  readonly buffers: readonly Uint8Array[];
}

export function separateBuffers(state: Readonly<Record<string, unknown>>): Separated {
  const paths: BufferPath[] = [];
  const buffers: Uint8Array[] = [];
  const walk = (value: unknown, path: BufferPath): unknown => {
    const bytes = bytesOf(value);
    if (bytes) {
      paths.push(path);
      buffers.push(bytes);
      return undefined;
    }
    if (Array.isArray(value)) return value.map((item, i) => walk(item, [...path, i]) ?? null);
    if (!isPlain(value)) return value;
    const kept = Object.entries(value).map(([key, item]) => [key, walk(item, [...path, key])] as const);
    return Object.fromEntries(kept.filter(([, item]) => item !== undefined));
  };
  return { state: walk(state, []) as Record<string, unknown>, paths, buffers };
}

/** Puts binary values (DataViews, as in the browser) where they belong; a path that leads nowhere is left out. */
export function joinBuffers(
  state: Record<string, unknown>,
  paths: readonly BufferPath[],
  buffers: readonly Uint8Array[],
): Record<string, unknown> {
  paths.forEach((path, i) => {
    const buffer = buffers[i];
    const last = path.at(-1);
    if (buffer === undefined || last === undefined) return;
    let place: unknown = state;
    for (const key of path.slice(0, -1)) {
      place =
        typeof place === "object" && place !== null && Object.hasOwn(place, key)
          ? (place as Record<string | number, unknown>)[key]
          : undefined;
    }
    if (typeof place !== "object" || place === null || last === "__proto__") return;
    (place as Record<string | number, unknown>)[last] = new DataView(
      buffer.buffer,
      buffer.byteOffset,
      buffer.byteLength,
    );
  });
  return state;
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return new Uint8Array(value);
  return ArrayBuffer.isView(value)
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : undefined;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null; // of a cell's realm, too
}
