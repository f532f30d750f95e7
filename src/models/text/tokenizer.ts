/** T5's tokenizer: unigram pieces (Kudo 2018, arXiv 1804.10959), by transformers' class of the same name. */

import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { firstLine, InputError } from "../../engine/errors.js";
import { grouped, showAs } from "../../engine/shown.js";
import { makeFolder } from "../../weights/checkpoint.js";
import { ConfigError, type ConfigOrigin, readJsonObject, writeJson } from "../../weights/config.js";
import { type HubOptions, type Needs, resolveModel } from "../../weights/hub.js";
import { PrecompiledCharsmap, sentencePieceNormalization } from "./charsmap.js";
import {
  PIECE_TYPES,
  type Piece,
  readSentencePieceModel,
  type SentencePieceModel,
} from "./sentencepiece-model.js";

const TOKENIZER_JSON = "tokenizer.json";
const TOKENIZER_CONFIG = "tokenizer_config.json";
const SENTENCEPIECE_MODEL = "spiece.model";

/** What is read of a tokenizer's folder, and what transformers reads besides. */
export const tokenizerFiles: Needs = (repository, folder) => {
  repository.oneOf(folder, [TOKENIZER_JSON, SENTENCEPIECE_MODEL]);
  const besides = ["special_tokens_map.json", "added_tokens.json"];
  return repository.present(folder, [TOKENIZER_JSON, SENTENCEPIECE_MODEL, TOKENIZER_CONFIG, ...besides]);
};

/** Sentinel tokens that T5 adds to the pieces of a model file. */
const EXTRA_IDS = 100;

export interface EncodeOptions {
  /** Tokens of each text at most, the end-of-text token included. */
  readonly maxLength: number;
  /** Fill each text up to `maxLength`, or to the longest of them. Default "max_length". */
  readonly padding?: "max_length" | "longest";
}

export interface EncodedTexts {
  readonly inputIds: number[][];
  /** 1 for tokens of the text, 0 for padding. */
  readonly attentionMask: number[][];
  /** The part of each text that did not fit; "" if all of it did. */
  readonly truncated: string[];
}

type Json = Record<string, unknown>;

/** The part of the library used here; TypeScript's Node resolution does not find its own types. */
interface LibraryTokenizer {
  normalizer: ((text: string) => string) | null;
  pre_tokenizer: unknown;
  encode(text: string): { ids: number[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string, number>;
}

/**
 * The tokenizer of T5 models.
 *
 * ```ts
 * const tokenizer = await T5Tokenizer.fromPretrained("zai-org/CogVideoX1.5-5B-I2V", { subfolder: "tokenizer" });
 * const { inputIds } = tokenizer.encode(["a kitten yawns"], { maxLength: 226 });
 * ```
 */
export class T5Tokenizer {
  readonly padTokenId: number;
  readonly eosTokenId: number;
  readonly #tokenizer: LibraryTokenizer;
  readonly #json: Json;
  readonly #config: Json;
  /** The model file this was read from; saved along. */
  readonly #model: string | null;
  /** The model file's rules for text. */
  readonly #charsmap: Uint8Array | null;

  private constructor(
    json: Json,
    config: Json,
    where: ConfigOrigin,
    model?: SentencePieceModel & { path: string },
  ) {
    this.#json = json;
    this.#config = config;
    this.#model = model?.path ?? null;
    this.#charsmap = model?.charsmap ?? null;
    const { json: plain, charsmap } = withoutCharsmap(json);
    this.#tokenizer = libraryTokenizer(plain, config, where);
    try {
      if (model) {
        this.#tokenizer.normalizer = sentencePieceNormalization(model);
        this.#tokenizer.pre_tokenizer = null;
      } else if (charsmap) {
        const rules = new PrecompiledCharsmap(charsmap);
        const rest = this.#tokenizer.normalizer;
        this.#tokenizer.normalizer = (text) => {
          const normal = rules.normalize(text);
          return rest ? rest(normal) : normal;
        };
      }
    } catch (error) {
      throw error instanceof InputError ? new ConfigError(error.message, { ...where, cause: error }) : error;
    }
    const idOf = (key: string, fallback: string): number => {
      const token = tokenText(config[key]) ?? fallback;
      const id = this.#tokenizer.token_to_id(token);
      if (id === undefined)
        throw new ConfigError(`the vocabulary has no ${key} ${JSON.stringify(token)}`, where);
      return id;
    };
    this.padTokenId = idOf("pad_token", "<pad>");
    this.eosTokenId = idOf("eos_token", "</s>");
  }

  /**
   * Reads a tokenizer's folder, or one of the Hugging Face Hub: `tokenizer.json`, or SentencePiece's `spiece.model`;
   * settings from `tokenizer_config.json` where there is one.
   * @throws ConfigError or SentencePieceError naming the file and what is wrong with it, or HubError.
   */
  static async fromPretrained(idOrFolder: string, options: HubOptions = {}): Promise<T5Tokenizer> {
    const folder = await resolveModel(idOrFolder, options, tokenizerFiles);
    const [jsonPath, modelPath] = [join(folder, TOKENIZER_JSON), join(folder, SENTENCEPIECE_MODEL)];
    const configPath = join(folder, TOKENIZER_CONFIG);
    const config = existsSync(configPath) ? await readJsonObject(configPath) : {};
    if (existsSync(jsonPath)) {
      return new T5Tokenizer(await readJsonObject(jsonPath), config, { file: jsonPath });
    }
    if (!existsSync(modelPath)) {
      throw new ConfigError(`found neither ${TOKENIZER_JSON} nor ${SENTENCEPIECE_MODEL}`, { file: folder });
    }
    const model = await readSentencePieceModel(modelPath);
    const json = unigramTokenizer(model.pieces, model.unkId, Number(config.extra_ids ?? EXTRA_IDS));
    return new T5Tokenizer(json, config, { file: modelPath }, { ...model, path: modelPath });
  }

  /**
   * A tokenizer with given pieces, most often words after "▁", which stands for a space.
   * @param pieces with their log probabilities. `<pad>`, `</s>` and `<unk>` go before them, as in T5.
   */
  static fromVocabulary(pieces: readonly (readonly [piece: string, score: number])[]): T5Tokenizer {
    const { control, unknown, normal: type } = PIECE_TYPES;
    const all: Piece[] = [
      { piece: "<pad>", score: 0, type: control },
      { piece: "</s>", score: 0, type: control },
      { piece: "<unk>", score: 0, type: unknown },
      ...pieces.map(([piece, score]) => ({ piece, score, type })),
    ];
    return new T5Tokenizer(unigramTokenizer(all, 2, 0), {}, { subject: "T5Tokenizer" });
  }

  /** Writes `spiece.model` or `tokenizer.json`, and `tokenizer_config.json`, into a folder. */
  async savePretrained(folder: string): Promise<void> {
    await makeFolder(folder);
    if (this.#model !== null) await copyFile(this.#model, join(folder, SENTENCEPIECE_MODEL));
    else await writeJson(join(folder, TOKENIZER_JSON), this.#json);
    await writeJson(join(folder, TOKENIZER_CONFIG), { ...this.#config, tokenizer_class: "T5Tokenizer" });
  }

  /** Everything that tokens depend on, to tell one tokenizer from another. */
  toJSON(): unknown {
    const rules = this.#charsmap ? { charsmap: Buffer.from(this.#charsmap).toString("base64") } : {};
    const entries = Object.entries({ ...this.#json, ...rules });
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** How many tokens there are. */
  get vocabSize(): number {
    return this.#tokenizer.get_vocab().size;
  }

  /** The tokens of one text, with the end-of-text token. */
  tokenize(text: string): number[] {
    return this.#tokenizer.encode(text).ids;
  }

  /** Tokens of texts, cut off at `maxLength` and padded. */
  encode(
    texts: string | readonly string[],
    { maxLength, padding = "max_length" }: EncodeOptions,
  ): EncodedTexts {
    if (!Number.isInteger(maxLength) || maxLength < 1) {
      throw new InputError(`maxLength: expected a positive integer, found ${maxLength}`);
    }
    const all = (typeof texts === "string" ? [texts] : texts).map((text) => this.tokenize(text));
    const kept = all.map((ids) =>
      ids.length <= maxLength ? ids : [...ids.slice(0, maxLength - 1), this.eosTokenId],
    );
    const width = padding === "max_length" ? maxLength : Math.max(...kept.map((ids) => ids.length));
    const fill = (values: number[], value: number) => [
      ...values,
      ...Array<number>(width - values.length).fill(value),
    ];
    return {
      inputIds: kept.map((ids) => fill(ids, this.padTokenId)),
      attentionMask: kept.map((ids) =>
        fill(
          ids.map(() => 1),
          0,
        ),
      ),
      truncated: all.map((ids) => (ids.length <= maxLength ? "" : this.decode(ids.slice(maxLength - 1, -1)))),
    };
  }

  /** The text of tokens; padding and the end-of-text token are left out. */
  decode(ids: readonly number[]): string {
    const text = ids.filter((id) => id !== this.padTokenId && id !== this.eosTokenId);
    if (text.length === 0) return "";
    return this.#tokenizer.decode(text, { clean_up_tokenization_spaces: false }).trim();
  }

  static {
    showAs<T5Tokenizer>(T5Tokenizer, {
      line: ({ vocabSize }) => `T5Tokenizer, ${grouped(vocabSize)} tokens`,
      text: ({ vocabSize, padTokenId, eosTokenId }) =>
        `T5Tokenizer(vocab_size=${vocabSize}, pad_token_id=${padTokenId}, eos_token_id=${eosTokenId})`,
    });
  }
}

/** The library does not check its input: whatever it throws here, mostly TypeErrors, is about the file. */
function libraryTokenizer(json: Json, config: Json, where: ConfigOrigin): LibraryTokenizer {
  try {
    return new Tokenizer(json, config) as LibraryTokenizer;
  } catch (error) {
    throw new ConfigError(`not a tokenizer that can be used (${firstLine(error)})`, {
      ...where,
      cause: error,
    });
  }
}

/** A tokenizer.json for a unigram vocabulary, set up as transformers does for T5. */
function unigramTokenizer(pieces: readonly Piece[], unkId: number, extraIds: number): Json {
  const all = [...pieces];
  for (let i = extraIds - 1; i >= 0; i--) {
    all.push({ piece: `<extra_id_${i}>`, score: 0, type: PIECE_TYPES.control });
  }
  const added = all.flatMap(({ piece: content, type }, id) => {
    if (type === PIECE_TYPES.normal || type === PIECE_TYPES.unused) return [];
    const special = type !== PIECE_TYPES.userDefined;
    return [{ id, content, special, normalized: false, lstrip: false, rstrip: false, single_word: false }];
  });
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
  const eos = all.findIndex(({ piece }) => piece === "</s>");
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      pair: [
        { Sequence: { id: "A", type_id: 0 } },
        { SpecialToken: { id: "</s>", type_id: 0 } },
        { Sequence: { id: "B", type_id: 0 } },
        { SpecialToken: { id: "</s>", type_id: 0 } },
      ],
      special_tokens: { "</s>": { id: "</s>", ids: [eos], tokens: ["</s>"] } },
    },
    decoder: metaspace,
    model: {
      type: "Unigram",
      unk_id: unkId,
      vocab: all.map(({ piece, score }) => [piece, score]),
      byte_fallback: false,
    },
  };
}

/**
 * Takes SentencePiece's rules out of a tokenizer.json, because the library only approximates them; they come first
 * in its normalizer.
 */
function withoutCharsmap(json: Json): { json: Json; charsmap: Uint8Array | null } {
  const blob = (normalizer: Json | null): Uint8Array | null =>
    normalizer?.type === "Precompiled" && typeof normalizer.precompiled_charsmap === "string"
      ? Buffer.from(normalizer.precompiled_charsmap, "base64")
      : null;
  const normalizer = (json.normalizer ?? null) as Json | null;
  const whole = blob(normalizer);
  if (whole) return { json: { ...json, normalizer: null }, charsmap: whole };
  if (normalizer?.type === "Sequence" && Array.isArray(normalizer.normalizers)) {
    const [first, ...rest] = normalizer.normalizers as Json[];
    const charsmap = blob(first ?? null);
    if (charsmap) return { json: { ...json, normalizer: { ...normalizer, normalizers: rest } }, charsmap };
  }
  return { json, charsmap: null };
}

/** The text of a special token in tokenizer_config.json: a string, or an object that describes it. */
function tokenText(token: unknown): string | undefined {
  if (typeof token === "string") return token;
  const content = (token as Json | undefined)?.content;
  return typeof content === "string" ? content : undefined;
}
