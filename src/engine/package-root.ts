import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of this package, from dist/src/engine. */
export const packageRoot = fileURLToPath(new URL("../../../", import.meta.url)).replace(/[/\\]$/, "");

/** The engine's files that are not TypeScript: the list of wheels, and C++. */
export const engineSources = join(packageRoot, "src", "engine");
