import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "../../../src/engine/index.js";

/** Lends a cache what `engine install` has fetched from npm's registry. */
export function linkPackages(cache: string): void {
  mkdirSync(join(cache, "firstframe"), { recursive: true });
  symlinkSync(join(cacheDirectory(), "packages"), join(cache, "firstframe", "packages"));
}
