/** What the commands that run models share: loading, and errors a person can act on. */

import { currentEngine, EngineError, useEngine } from "../engine/index.js";
import { SentencePieceError } from "../models/text/sentencepiece-model.js";
import { ArgumentError } from "../train/arguments.js";
import { DatasetError } from "../train/dataset.js";
import { ClipError } from "../video/read.js";
import { CheckpointError } from "../weights/checkpoint.js";
import { ConfigError } from "../weights/config.js";
import { HubError } from "../weights/hub.js";
import { SafetensorsError } from "../weights/safetensors.js";
import { UsageError } from "./errors.js";

const INPUT_ERRORS = [
  ArgumentError,
  CheckpointError,
  ClipError,
  ConfigError,
  DatasetError,
  EngineError,
  HubError,
  RangeError,
  SafetensorsError,
  SentencePieceError,
];

/** Runs what reads a person's files and options: errors that name them end the command, without a stack. */
export async function checkingInput<T>(run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (INPUT_ERRORS.some((known) => error instanceof known)) throw new UsageError((error as Error).message);
    throw error;
  }
}

/** Starts the engine and says which it is. */
export async function startEngine(): Promise<void> {
  await useEngine();
  const engine = currentEngine()!;
  console.error(`engine: ${engine.name} on ${engine.device} (${engine.version})`);
}

/** The pipeline's folder, by whichever of its two flags. */
export function modelFolder(values: {
  readonly model?: string;
  readonly model_path?: string;
}): string | undefined {
  if (values.model !== undefined && values.model_path !== undefined) {
    throw new UsageError("--model and --model_path are the same flag; give one of them");
  }
  return values.model ?? values.model_path;
}
