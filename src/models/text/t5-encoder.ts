/** T5's encoder (Raffel et al. 2019, arXiv 1910.10683), after transformers' class of the same name. */

import { join } from "node:path";
import { InputError, quote } from "../../engine/errors.js";
import { gelu, geluTanh, silu } from "../../engine/ops/gelu/gelu.js";
import type { RandomGenerator } from "../../engine/random.js";
import * as tf from "../../engine/tf.js";
import type { ForwardContext } from "../../nn/forward-context.js";
import { Linear } from "../../nn/linear.js";
import {
  type Initializer,
  Model,
  normal,
  type Parameter,
  type ParameterScope,
  type SaveOptions,
} from "../../nn/module.js";
import { openWeights, TRANSFORMERS_WEIGHTS, type WeightsLocation } from "../../weights/checkpoint.js";
import {
  assertNotQuantized,
  ConfigError,
  type ConfigOrigin,
  MODEL_CONFIG,
  readJsonObject,
  writeJson,
} from "../../weights/config.js";
import {
  configFolder,
  type LoadQuantizedOptions,
  modelFiles,
  type Needs,
  resolveModel,
} from "../../weights/hub.js";
import { completeT5Config, parseFeedForward, type T5Activation, type T5Config } from "./t5-config.js";

const CLASS_NAME = "T5EncoderModel";
/** Classes whose weights contain the encoder's. */
const ARCHITECTURES = [CLASS_NAME, "T5ForConditionalGeneration", "T5Model"];

/** What is read of a text encoder's folder. */
export const textEncoderFiles = (location: WeightsLocation): Needs => modelFiles(named(location));

const named = <T extends WeightsLocation>(location: T) => ({
  weightsName: TRANSFORMERS_WEIGHTS,
  ...location,
});

/** All passes are the same: T5 is not trained here. */
const CONTEXT: ForwardContext = { loraScale: 1 };

const ACTIVATIONS: Readonly<Record<T5Activation, (x: tf.Tensor3D) => tf.Tensor3D>> = {
  relu: (x) => tf.relu(x),
  gelu,
  gelu_new: geluTanh,
  silu,
};

export interface T5Inputs {
  /** Tokens, [B, S]: a tensor of int32 or rows of numbers. */
  readonly inputIds: tf.Tensor2D | readonly (readonly number[])[];
  /** 1 for tokens that may be attended to, 0 for padding, [B, S]. Default: all; CogVideoX passes none. */
  readonly attentionMask?: tf.Tensor2D | readonly (readonly number[])[];
  /** Also return the states between the blocks. Default false. */
  readonly outputHiddenStates?: boolean;
}

export interface T5Output {
  /** [B, S, d_model] */
  readonly lastHiddenState: tf.Tensor3D;
  /** The embeddings, then the state after each block; the last one is after the final norm. */
  readonly hiddenStates?: tf.Tensor3D[];
}

/**
 * The text encoder of CogVideoX.
 *
 * ```ts
 * const encoder = await T5EncoderModel.fromPretrained("zai-org/CogVideoX1.5-5B-I2V", { subfolder: "text_encoder" });
 * const { lastHiddenState } = encoder.forward({ inputIds });
 * ```
 */
export class T5EncoderModel extends Model {
  readonly config: T5Config;
  /** All keys of the file, including the decoder's, so that they are saved again. */
  readonly #stored: Readonly<Record<string, unknown>>;
  readonly #shared: Parameter;
  readonly #blocks: readonly T5Block[];
  readonly #finalNorm: T5LayerNorm;

  private constructor(given: Readonly<Record<string, unknown>>, where: ConfigOrigin) {
    super({ weightsName: TRANSFORMERS_WEIGHTS, blockList: "encoder.block" });
    const config = completeT5Config(given, where);
    this.config = config;
    this.#stored = given;
    const { scope } = this;
    this.#shared = scope
      .child("shared")
      .module("Embedding")
      .parameter("weight", [config.vocab_size, config.d_model], {
        init: normal(config.initializer_factor),
        hold: "numbers",
      });
    const encoder = scope.child("encoder").module("T5Stack");
    this.#blocks = Array.from(
      { length: config.num_layers },
      (_, i) => new T5Block(encoder.child("block").child(i), config, i === 0),
    );
    this.#finalNorm = new T5LayerNorm(encoder.child("final_layer_norm"), config);
  }

  /**
   * A new encoder with transformers' initialisation, drawn from `generator`; without one, it has no values yet.
   * @throws ConfigError naming the invalid key.
   */
  static fromConfig(config: Partial<T5Config>, generator?: RandomGenerator): T5EncoderModel {
    const model = new T5EncoderModel({ ...config }, { subject: CLASS_NAME });
    if (generator) model.initialize(generator);
    return model;
  }

  /**
   * Reads a folder written by transformers, or a model of the Hugging Face Hub: `config.json` and safetensors weights, in one
   * file or in shards; of the encoder alone, or of a whole T5, whose decoder is left out.
   * @throws ConfigError, CheckpointError or SafetensorsError naming the file and what is wrong with it, or HubError.
   */
  static async fromPretrained(
    idOrFolder: string,
    options: LoadQuantizedOptions = {},
  ): Promise<T5EncoderModel> {
    const location = named(options);
    const folder = await resolveModel(idOrFolder, options, textEncoderFiles(options));
    const where = { file: join(await configFolder(folder), MODEL_CONFIG) };
    const given = await readJsonObject(where.file);
    assertNotQuantized(given, where.file);
    const architectures = Array.isArray(given.architectures) ? given.architectures : [];
    if (!architectures.some((name) => ARCHITECTURES.includes(name as string))) {
      throw new ConfigError(
        `expected architectures with ${CLASS_NAME}, found ${quote(given.architectures)}`,
        where,
      );
    }
    const model = new T5EncoderModel(given, where);
    try {
      const source = await openWeights(folder, location);
      const hasShared = source.keys().includes("shared.weight");
      await source.close();
      await model.loadWeights(folder, { ...location, rename: (key) => encoderKey(key, hasShared) });
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  /** Writes `config.json` and the weights into a folder that transformers reads. */
  async savePretrained(folder: string, options: SaveOptions = {}): Promise<void> {
    await this.saveWeights(folder, options);
    const config = {
      is_encoder_decoder: false,
      ...this.#stored,
      ...this.config,
      architectures: [CLASS_NAME],
      model_type: "t5",
      dtype: options.dtype ?? "float32",
    };
    await writeJson(join(folder, "config.json"), config, ["initializer_factor", "layer_norm_epsilon"]);
  }

  /** @throws InputError naming the input that does not fit. */
  forward({ inputIds, attentionMask, outputHiddenStates = false }: T5Inputs): T5Output {
    const ids = this.#checkIds(inputIds);
    const { config } = this;
    const compute = () => {
      const [batch, length] = [ids.length, ids[0]!.length];
      const flat = tf.tensor1d(ids.flat(), "int32");
      let x: tf.Tensor3D = tf.reshape(this.#shared.gather(flat), [batch, length, config.d_model]);
      const mask = attentionMask ? maskBias(attentionMask, batch, length) : null;
      const positions = this.#blocks[0]!.positionBias(length);
      const bias = mask ? (tf.add(positions, mask) as tf.Tensor4D) : positions;
      const states = [x];
      for (const block of this.inTurn(this.#blocks)) {
        x = block.forward(x, bias);
        states.push(x);
      }
      const last = this.#finalNorm.forward(x);
      states[states.length - 1] = last;
      return outputHiddenStates ? states : [last];
    };
    const tensors = this.compute(() => tf.tidy(compute));
    const lastHiddenState = tensors.at(-1)!;
    return outputHiddenStates ? { lastHiddenState, hiddenStates: tensors } : { lastHiddenState };
  }

  /** The positions' bias on the scores, the same in all blocks: [1, heads, S, S]. */
  positionBias(length: number): tf.Tensor4D {
    return this.#blocks[0]!.positionBias(length);
  }

  #checkIds(inputIds: T5Inputs["inputIds"]): number[][] {
    const ids =
      inputIds instanceof tf.Tensor ? (inputIds.arraySync() as number[][]) : inputIds.map((row) => [...row]);
    const { vocab_size: size } = this.config;
    const length = ids[0]?.length ?? 0;
    if (length === 0 || ids.some((row) => row.length !== length)) {
      throw new InputError(
        `inputIds: expected rows of one length, found ${JSON.stringify(ids.map((row) => row.length))}`,
      );
    }
    const bad = ids.flat().find((id) => !Number.isInteger(id) || id < 0 || id >= size);
    if (bad !== undefined) {
      throw new InputError(`inputIds: expected integers from 0 to ${size - 1} (vocab_size), found ${bad}`);
    }
    return ids;
  }
}

/** A checkpoint's name for a parameter of the encoder; the embeddings may have either of two names. */
function encoderKey(key: string, hasShared: boolean): string | undefined {
  if (key.startsWith("decoder.") || key.startsWith("lm_head.")) return undefined;
  if (key === "encoder.embed_tokens.weight") return hasShared ? undefined : "shared.weight";
  return key;
}

/** 0 for tokens, a very low score for padding: [B, 1, 1, S]. */
function maskBias(mask: NonNullable<T5Inputs["attentionMask"]>, batch: number, length: number): tf.Tensor4D {
  const values = mask instanceof tf.Tensor ? mask : tf.tensor2d(mask.map((row) => [...row]));
  if (values.shape[0] !== batch || values.shape[1] !== length) {
    throw new InputError(
      `attentionMask: expected [${batch}, ${length}] as inputIds, found [${values.shape}]`,
    );
  }
  return tf.reshape(tf.mul(tf.sub(1, tf.cast(values, "float32")), -1e30), [batch, 1, 1, length]);
}

/** Root mean square norm (Zhang and Sennrich 2019, arXiv 1910.07467), without mean and bias. */
class T5LayerNorm {
  readonly #weight: Parameter;
  readonly #eps: number;

  constructor(scope: ParameterScope, { d_model, layer_norm_epsilon, initializer_factor }: T5Config) {
    scope.module("T5LayerNorm", () => [`eps=${layer_norm_epsilon.toExponential()}`]);
    this.#eps = layer_norm_epsilon;
    this.#weight = scope.parameter("weight", [d_model], {
      init: (values) => values.fill(initializer_factor),
    });
  }

  forward(x: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const scale = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), this.#eps));
      return tf.mul(tf.mul(x, scale), this.#weight.value);
    });
  }
}

/** Attention, then a feed-forward layer, each after a norm and added to its input. */
class T5Block {
  readonly #attention: T5Attention;
  readonly #attentionNorm: T5LayerNorm;
  readonly #feedForward: T5FeedForward;
  readonly #feedForwardNorm: T5LayerNorm;

  constructor(scope: ParameterScope, config: T5Config, hasPositions: boolean) {
    const layers = scope.module("T5Block").child("layer");
    const attention = layers.child(0).module("T5LayerSelfAttention");
    const feedForward = layers.child(1).module("T5LayerFF");
    this.#attention = new T5Attention(attention.child("SelfAttention"), config, hasPositions);
    this.#attentionNorm = new T5LayerNorm(attention.child("layer_norm"), config);
    this.#feedForward = new T5FeedForward(feedForward.child("DenseReluDense"), config);
    this.#feedForwardNorm = new T5LayerNorm(feedForward.child("layer_norm"), config);
  }

  positionBias(length: number): tf.Tensor4D {
    return this.#attention.positionBias(length);
  }

  forward(x: tf.Tensor3D, bias: tf.Tensor4D): tf.Tensor3D {
    return tf.tidy(() => {
      const attended = tf.add(
        x,
        this.#attention.forward(this.#attentionNorm.forward(x), bias),
      ) as tf.Tensor3D;
      return tf.add(attended, this.#feedForward.forward(this.#feedForwardNorm.forward(attended)));
    });
  }
}

/** Attention whose scores are not scaled; positions come in as a bias on the scores. */
class T5Attention {
  readonly #config: T5Config;
  readonly #q: Linear;
  readonly #k: Linear;
  readonly #v: Linear;
  readonly #o: Linear;
  readonly #positions: Parameter | null;

  constructor(scope: ParameterScope, config: T5Config, hasPositions: boolean) {
    scope.module("T5Attention");
    const { d_model, d_kv, num_heads, initializer_factor: factor } = config;
    const inner = d_kv * num_heads;
    const project = (name: string, from: number, to: number, variance: number) =>
      new Linear(scope.child(name), from, to, { bias: false, init: normal(factor * variance ** -0.5) });
    this.#config = config;
    this.#q = project("q", d_model, inner, d_model * d_kv);
    this.#k = project("k", d_model, inner, d_model);
    this.#v = project("v", d_model, inner, d_model);
    this.#o = project("o", inner, d_model, inner);
    this.#positions = hasPositions
      ? scope
          .child("relative_attention_bias")
          .module("Embedding")
          .parameter("weight", [config.relative_attention_num_buckets, num_heads], {
            init: normal(factor * d_model ** -0.5),
          })
      : null;
  }

  positionBias(length: number): tf.Tensor4D {
    const {
      relative_attention_num_buckets: buckets,
      relative_attention_max_distance: distance,
      num_heads,
    } = this.#config;
    const table = Int32Array.from({ length: length * length }, (_, i) =>
      relativePositionBucket((i % length) - Math.floor(i / length), buckets, distance),
    );
    return tf.tidy(() => {
      const values = tf.gather(this.#positions!.value, tf.tensor1d(table, "int32"));
      return tf.reshape(tf.transpose(values), [1, num_heads, length, length]);
    });
  }

  forward(x: tf.Tensor3D, bias: tf.Tensor4D): tf.Tensor3D {
    const [batch, length] = x.shape;
    const { num_heads, d_kv } = this.#config;
    return tf.tidy(() => {
      const heads = (projection: Linear): tf.Tensor4D =>
        tf.transpose(
          tf.reshape(projection.forward(x, CONTEXT), [batch, length, num_heads, d_kv]),
          [0, 2, 1, 3],
        );
      const scores = tf.add(tf.matMul(heads(this.#q), heads(this.#k), false, true), bias);
      const attended = tf.matMul(tf.softmax(scores), heads(this.#v)) as tf.Tensor4D;
      const joined = tf.reshape<tf.Rank.R3>(tf.transpose(attended, [0, 2, 1, 3]), [
        batch,
        length,
        num_heads * d_kv,
      ]);
      return this.#o.forward(joined, CONTEXT);
    });
  }
}

class T5FeedForward {
  readonly #in: Linear;
  readonly #gate: Linear | null;
  readonly #out: Linear;
  readonly #activation: T5Activation;

  constructor(scope: ParameterScope, config: T5Config) {
    const { d_model, d_ff, initializer_factor: factor } = config;
    const { activation, gated } = parseFeedForward(config.feed_forward_proj)!;
    scope.module(gated ? "T5DenseGatedActDense" : "T5DenseActDense");
    const options = (variance: number): { bias: boolean; init: Initializer } => ({
      bias: false,
      init: normal(factor * variance ** -0.5),
    });
    this.#activation = activation;
    this.#in = new Linear(scope.child(gated ? "wi_0" : "wi"), d_model, d_ff, options(d_model));
    this.#gate = gated ? new Linear(scope.child("wi_1"), d_model, d_ff, options(d_model)) : null;
    this.#out = new Linear(scope.child("wo"), d_ff, d_model, options(d_ff));
  }

  forward(x: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const active = ACTIVATIONS[this.#activation](this.#in.forward(x, CONTEXT));
      return this.#out.forward(this.#gate ? tf.mul(active, this.#gate.forward(x, CONTEXT)) : active, CONTEXT);
    });
  }
}

/**
 * Which bias a relative position gets (Raffel et al. 2019, section 2.1): half of the buckets for either direction;
 * half of those for single positions, the rest for ever longer segments up to `maxDistance`.
 * @param relativePosition the attended position minus the attending one.
 */
export function relativePositionBucket(
  relativePosition: number,
  numBuckets: number,
  maxDistance: number,
): number {
  const half = numBuckets / 2;
  const offset = relativePosition > 0 ? half : 0;
  const distance = Math.abs(relativePosition);
  const exact = Math.floor(half / 2);
  if (distance < exact) return offset + distance;
  // float32, as in transformers: it matters at the edges of buckets.
  const f32 = Math.fround;
  const log = f32(f32(Math.log(f32(distance / exact))) / Math.log(maxDistance / exact));
  return offset + Math.min(half - 1, exact + Math.trunc(f32(log * (half - exact))));
}
