/** Where weights come from, whatever kind of file holds them. */

import { InputError } from "../engine/errors.js";
import type { ReadAgain, StoredTensor, TensorInfo } from "./safetensors.js";

/** Weights to read by name: a safetensors file, or the shards of a checkpoint as one. */
export interface WeightSource {
  /** What messages name: the file, or the shards' index. */
  readonly path: string;
  keys(): string[];
  info(key: string): TensorInfo;
  /** @param buffer returns memory of at least that many bytes to read into. */
  getData(key: string, buffer?: (byteLength: number) => ArrayBuffer): Promise<StoredTensor>;
  /** Present where tensors can be read again at any time: safetensors files. */
  readonly again?: ReadAgain;
  close(): Promise<void>;
}

/** A checkpoint that is incomplete or contradicts itself; the message starts with the file's path. */
export class CheckpointError extends InputError {
  override get kind() {
    return "checkpoint" as const;
  }
}
