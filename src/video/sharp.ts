/** sharp, loaded with the first picture, because loading it takes longer than loading most of this package. */
import { createRequire } from "node:module";
import type { Sharp, SharpInput, SharpOptions } from "sharp";

const require = createRequire(import.meta.url);

export function sharp(input?: SharpInput | SharpOptions, options?: SharpOptions): Sharp {
  const create = require("sharp") as (...given: unknown[]) => Sharp;
  return options === undefined ? create(input) : create(input, options);
}
