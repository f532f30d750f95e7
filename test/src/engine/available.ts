/** Which engines tests can run on here. A CI has them all: there, what is missing fails. */
import { spawnSync } from "node:child_process";
import type { EngineName } from "../../../src/engine/index.js";

const engineIndex = new URL("../../../src/engine/index.js", import.meta.url);

const known = new Map<EngineName, string | false>();

/** False where the engine runs, else why not: what node's test runner takes as `skip`. */
export function whyWithout(name: EngineName): string | false {
  // A CI has all of them but a GPU.
  if (process.env.CI && name !== "tensorflow-gpu") return false;
  const found = known.get(name) ?? tryEngine(name);
  known.set(name, found);
  return found;
}

function tryEngine(name: EngineName): string | false {
  const code = `await (await import(${JSON.stringify(engineIndex.href)})).useEngine(${JSON.stringify(name)}); process.exit(0)`;
  const argv = ["--input-type=module", "-e", code];
  const { status, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
  if (status === 0) return false;
  return /EngineError: (.*)/.exec(stderr)?.[1] ?? `${name} does not run here`;
}
