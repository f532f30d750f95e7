import { join } from "node:path";
import { quote } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import { T5EncoderModel } from "../models/text/t5-encoder.js";
import { T5Tokenizer } from "../models/text/tokenizer.js";
import type { OffloadMode } from "../nn/module.js";
import type { ModelDtype, Quantization } from "../weights/dtype.js";
import { fingerprint, fingerprintContent } from "./fingerprint.js";
import type { PromptEncoder } from "./latent-cache.js";

/** Of a caption that a message quotes. */
const QUOTED = 60;

/**
 * Says how many captions are longer than what the model reads, once for all of them; undefined if none is.
 *
 * @param maxLength tokens that the model reads, the end-of-text token included: the transformer's max_text_seq_length.
 * @throws ConfigError or SentencePieceError naming the tokenizer's file.
 */
export async function describeTruncation(
  modelPath: string,
  captions: readonly string[],
  maxLength: number,
): Promise<string | undefined> {
  const tokenizer = await T5Tokenizer.fromPretrained(join(modelPath, "tokenizer"));
  const lengths = new Map([...new Set(captions)].map((text) => [text, tokenizer.tokenize(text).length]));
  const cut = captions.filter((text) => lengths.get(text)! > maxLength);
  if (cut.length === 0) return undefined;
  const longest = cut.reduce((a, b) => (lengths.get(b)! > lengths.get(a)! ? b : a));
  return `captions: ${cut.length} of ${captions.length} ${cut.length === 1 ? "is" : "are"} cut at ${maxLength} tokens (max_text_seq_length); the longest has ${lengths.get(longest)}: ${quote(longest, QUOTED)}`;
}

/** How a text encoder's weights are held in memory, and which files they come from. */
export interface HeldText {
  readonly dtype?: ModelDtype | undefined;
  readonly quantization?: Quantization | undefined;
  readonly offload?: OffloadMode | undefined;
  readonly variant?: string | undefined;
}

/** A pipeline folder's text encoder. The caller disposes it. */
export async function readTextEncoder(
  modelPath: string,
  { dtype, quantization, offload, variant }: HeldText,
): Promise<T5EncoderModel> {
  const encoder = await T5EncoderModel.fromPretrained(join(modelPath, "text_encoder"), {
    ...(variant === undefined ? {} : { variant }),
    dtype,
    quantization,
    lazy: offload !== undefined,
  });
  if (offload !== undefined) await encoder.enableOffload(offload);
  return encoder;
}

/**
 * Encodes prompts with a pipeline folder's T5 as the recipe does: padded to one length, without a mask. The models are
 * identified by their files and loaded with the first prompt that needs them, since a full cache needs none.
 */
export class T5PromptEncoder implements PromptEncoder {
  readonly id: string;
  readonly #modelPath: string;
  readonly #maxLength: number;
  #loaded: Promise<{ tokenizer: T5Tokenizer; textEncoder: T5EncoderModel }> | undefined;

  readonly #held: HeldText;

  private constructor(id: string, modelPath: string, maxLength: number, held: HeldText) {
    this.id = id;
    this.#held = held;
    this.#modelPath = modelPath;
    this.#maxLength = maxLength;
  }

  /**
   * @param maxLength the transformer's max_text_seq_length.
   * @param memoDir where the files' hashes are kept.
   * @param held how T5's weights are in memory.
   */
  static async open(
    modelPath: string,
    maxLength: number,
    memoDir: string,
    held: HeldText = {},
  ): Promise<T5PromptEncoder> {
    const { dtype = "float32", quantization, variant } = held;
    const files = ["tokenizer", "text_encoder"].map((name) =>
      fingerprintContent(join(modelPath, name), memoDir),
    );
    const formats = [dtype === "float32" ? undefined : dtype, quantization, variant && { variant }].filter(
      (format) => format !== undefined,
    );
    const facts = [await Promise.all(files), maxLength, ...formats];
    return new T5PromptEncoder(fingerprint(facts), modelPath, maxLength, held);
  }

  async encode(prompt: string): Promise<tf.Tensor2D> {
    this.#loaded ??= this.#load();
    const { tokenizer, textEncoder } = await this.#loaded;
    const { inputIds } = tokenizer.encode(prompt, { maxLength: this.#maxLength });
    return tf.tidy(() => tf.squeeze(textEncoder.forward({ inputIds }).lastHiddenState, [0]));
  }

  async #load(): Promise<{ tokenizer: T5Tokenizer; textEncoder: T5EncoderModel }> {
    const tokenizer = await T5Tokenizer.fromPretrained(join(this.#modelPath, "tokenizer"));
    return { tokenizer, textEncoder: await readTextEncoder(this.#modelPath, this.#held) };
  }

  /** Frees the text encoder's memory; the next prompt loads it again. */
  async dispose(): Promise<void> {
    const loaded = await this.#loaded?.catch(() => undefined);
    this.#loaded = undefined;
    loaded?.textEncoder.dispose();
  }
}
