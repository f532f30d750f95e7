/** What the commands that run models share: the engine and the model. */

import { currentEngine, useEngine } from "../engine/index.js";
import { UsageError } from "./errors.js";

/** Starts the engine and says which one it is. */
export async function startEngine(): Promise<void> {
  await useEngine();
  const engine = currentEngine()!;
  console.error(`engine: ${engine.name} on ${engine.device} (${engine.version})`);
}

/** The pipeline's folder, from either of its two flags. */
export function modelFolder(values: {
  readonly model?: string;
  readonly model_path?: string;
}): string | undefined {
  if (values.model !== undefined && values.model_path !== undefined) {
    throw new UsageError("--model and --model_path are the same flag", { hint: "give one of them" });
  }
  return values.model ?? values.model_path;
}
