/**
 * `import { display } from "tslab"`: tslab's public API, writing to this kernel. If tslab is installed, this is its own code;
 * projects that install our package don't have it, and get the same from here.
 */
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { publish } from "../ipc/channel.js";
import { loadTypeScript } from "../language/typescript.js";
import { encoded, type MimeBundle } from "./display.js";
import { type Namespace, namespaceOf } from "./namespaces.js";
import type * as Api from "./tslab-api.js";

/** What tslab's functions pass to its kernel. */
export interface DisplayData {
  readonly data: MimeBundle;
  readonly metadata: Record<string, unknown>;
  readonly transient: { readonly display_id?: string };
}

export type WriteDisplay = (data: DisplayData, update: boolean | undefined) => void;

let loaded: typeof Api | undefined;

export function loadTslab(): typeof Api {
  const write: WriteDisplay = ({ data, metadata, transient }, update) =>
    publish(update ? "update_display_data" : "display_data", { data: encoded(data), metadata, transient });
  loaded ??= installedTslab(write) ?? ownTslab(write);
  return loaded;
}

/** What importing tslab returns. */
export function tslabNamespace(): Namespace {
  const api = loadTslab();
  const names = Object.keys(api).filter((name) => name !== "__esModule") as (keyof typeof Api)[];
  // Getters, because TypeScript's version is only known once it is loaded.
  const properties = names.map((name) => [name, { get: () => api[name], enumerable: true }]);
  return namespaceOf({ ...Object.fromEntries(properties), default: { value: api, enumerable: true } });
}

/** tslab's own API, or undefined if it is not installed. */
export function installedTslab(write: WriteDisplay): typeof Api | undefined {
  const require = createRequire(import.meta.url);
  try {
    // The hook that tslab's kernel sets in each cell; its displays go there.
    const jupyter = require("tslab/dist/jupyter.js") as { lastWriteDisplayData: WriteDisplay };
    jupyter.lastWriteDisplayData = write;
    return require("tslab") as typeof Api;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "MODULE_NOT_FOUND") throw error;
    return undefined;
  }
}

/** MIME types by the names of their functions. */
const types = {
  javascript: "text/javascript",
  html: "text/html",
  markdown: "text/markdown",
  latex: "text/latex",
  svg: "image/svg+xml",
  png: "image/png",
  jpeg: "image/jpeg",
  gif: "image/gif",
  pdf: "application/pdf",
  text: "text/plain",
} as const;

/** The same API for those without tslab. */
export function ownTslab(write: WriteDisplay): typeof Api {
  const create = (id: string | undefined): Api.Display => {
    let shown = false;
    const raw = (contentType: string, content: string | Uint8Array) => {
      const value = typeof content === "string" ? content : Buffer.from(content).toString("base64");
      write({ data: { [contentType]: value }, metadata: {}, transient: { display_id: id } }, shown);
      shown = id !== undefined; // a display with an id is replaced
    };
    const shows = Object.entries(types).map(([name, type]) => [
      name,
      (content: string | Uint8Array) => raw(type, content),
    ]);
    return { ...Object.fromEntries(shows), raw } as Api.Display;
  };
  return {
    display: create(undefined),
    newDisplay: () => create(randomBytes(8).toString("hex")),
    get versions() {
      return { tslab: "1.0.22", typescript: loadTypeScript().version, node: process.version };
    },
  };
}
