import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** The compiler with a JavaScript API, TypeScript 5's; the build makes this file of the package (`.ci/bundle.mjs`). */
export const typescriptFile = fileURLToPath(new URL("./typescript.cjs", import.meta.url));

export type TypeScript = typeof import("typescript-js");

let loaded: TypeScript | undefined;

export function loadTypeScript(): TypeScript {
  loaded ??= createRequire(import.meta.url)(typescriptFile) as TypeScript;
  return loaded;
}
