/**
 * `import { display } from "tslab"`: tslab's own public API, writing to this kernel instead of to tslab's.
 */
import { createRequire } from "node:module";
import { publish } from "../ipc/channel.js";
import { encoded, type MimeBundle } from "./display.js";

type Tslab = typeof import("tslab");

interface DisplayData {
  readonly data: MimeBundle;
  readonly metadata: Record<string, unknown>;
  readonly transient: { readonly display_id?: string };
}

let loaded: Tslab | undefined;

export function loadTslab(): Tslab {
  if (loaded === undefined) {
    const require = createRequire(import.meta.url);
    // The hook that tslab's kernel sets in each cell; its displays go there.
    const jupyter = require("tslab/dist/jupyter.js") as {
      lastWriteDisplayData: (data: DisplayData, update: boolean | undefined) => void;
    };
    jupyter.lastWriteDisplayData = ({ data, metadata, transient }, update) =>
      publish(update ? "update_display_data" : "display_data", { data: encoded(data), metadata, transient });
    loaded = require("tslab") as Tslab;
  }
  return loaded;
}
