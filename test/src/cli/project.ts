import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pythonEnvironment } from "../../../kernel/install/python.js";

/** The repository's root. */
export const projectRoot = fileURLToPath(new URL("../../../..", import.meta.url)).replace(/\/$/, "");

/** The project's own Python, which `test/run.ts` sets up before any test runs. */
export function projectPython(): string {
  const python = pythonEnvironment(join(projectRoot, ".venv")).bin("python");
  if (!existsSync(python)) throw new Error(`${python} is missing: run the tests through \`npm test\``);
  return python;
}
