/** sharp, loaded with the first picture: loading it takes longer than most of this package does. */
import { createRequire } from "node:module";
import type { Sharp, SharpInput, SharpOptions } from "sharp";

const require = createRequire(import.meta.url);

export function sharp(input?: SharpInput | SharpOptions, options?: SharpOptions): Sharp {
  const create = require("sharp") as (...given: unknown[]) => Sharp;
  return options === undefined ? create(input) : create(input, options);
}
