import { join } from "node:path";
import { quote } from "../engine/errors.js";
import * as tf from "../engine/tf.js";
import { T5EncoderModel } from "../models/text/t5-encoder.js";
import { T5Tokenizer } from "../models/text/tokenizer.js";
import type { ModelDtype } from "../weights/dtype.js";
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

/**
 * Encodes prompts with a pipeline folder's T5 as the recipe does: padded to one length, without a mask. The models are
 * identified by their files and loaded with the first prompt that needs them, since a full cache needs none.
 */
export class T5PromptEncoder implements PromptEncoder {
  readonly id: string;
  readonly #modelPath: string;
  readonly #maxLength: number;
  #loaded: Promise<{ tokenizer: T5Tokenizer; textEncoder: T5EncoderModel }> | undefined;

  readonly #dtype: ModelDtype;

  private constructor(id: string, modelPath: string, maxLength: number, dtype: ModelDtype) {
    this.id = id;
    this.#dtype = dtype;
    this.#modelPath = modelPath;
    this.#maxLength = maxLength;
  }

  /**
   * @param maxLength the transformer's max_text_seq_length.
   * @param memoDir where the files' hashes are kept.
   * @param dtype of T5's weights in memory.
   */
  static async open(
    modelPath: string,
    maxLength: number,
    memoDir: string,
    dtype: ModelDtype = "float32",
  ): Promise<T5PromptEncoder> {
    const files = ["tokenizer", "text_encoder"].map((name) =>
      fingerprintContent(join(modelPath, name), memoDir),
    );
    const facts = [await Promise.all(files), maxLength, ...(dtype === "float32" ? [] : [dtype])];
    return new T5PromptEncoder(fingerprint(facts), modelPath, maxLength, dtype);
  }

  async encode(prompt: string): Promise<tf.Tensor2D> {
    this.#loaded ??= this.#load();
    const { tokenizer, textEncoder } = await this.#loaded;
    const { inputIds } = tokenizer.encode(prompt, { maxLength: this.#maxLength });
    return tf.tidy(() => tf.squeeze(textEncoder.forward({ inputIds }).lastHiddenState, [0]));
  }

  async #load(): Promise<{ tokenizer: T5Tokenizer; textEncoder: T5EncoderModel }> {
    const tokenizer = await T5Tokenizer.fromPretrained(join(this.#modelPath, "tokenizer"));
    return {
      tokenizer,
      textEncoder: await T5EncoderModel.fromPretrained(join(this.#modelPath, "text_encoder"), {
        dtype: this.#dtype,
      }),
    };
  }

  /** Frees the text encoder's memory; the next prompt loads it again. */
  async dispose(): Promise<void> {
    const loaded = await this.#loaded?.catch(() => undefined);
    this.#loaded = undefined;
    loaded?.textEncoder.dispose();
  }
}
