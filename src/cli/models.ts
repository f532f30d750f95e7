/** What the commands that run models share: the engine and the model. */

import { currentEngine, useEngine } from "../engine/index.js";
import { describeBfloat16 } from "../engine/running.js";
import type { ModelDtype } from "../weights/dtype.js";
import { UsageError } from "./errors.js";

/** Starts the engine and says which one it is, and what it makes of weights in bfloat16. */
export async function startEngine(dtype: ModelDtype = "float32"): Promise<void> {
  await useEngine();
  const engine = currentEngine()!;
  console.error(`engine: ${engine.name} on ${engine.device} (${engine.version})`);
  if (dtype === "bfloat16") console.error(`bfloat16: ${describeBfloat16(engine)}`);
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
