import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** TypeScript 5's compiler, which has a JavaScript API; the build makes this file from the package (`.ci/bundle.mjs`). */
export const typescriptFile = fileURLToPath(new URL("./typescript.cjs", import.meta.url));

export type TypeScript = typeof import("typescript-js");

let loaded: TypeScript | undefined;

export function loadTypeScript(): TypeScript {
  loaded ??= createRequire(import.meta.url)(typescriptFile) as TypeScript;
  return loaded;
}
