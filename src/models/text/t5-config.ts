import {
  ConfigError,
  type ConfigOf,
  type ConfigOrigin,
  completeConfig,
  number,
  positiveInteger,
} from "../../weights/config.js";

/** The keys of transformers' T5Config that the encoder uses, with its defaults. */
const FIELDS = {
  vocab_size: positiveInteger(32128),
  d_model: positiveInteger(512),
  d_kv: positiveInteger(64),
  d_ff: positiveInteger(2048),
  num_layers: positiveInteger(6),
  num_heads: positiveInteger(8),
  relative_attention_num_buckets: positiveInteger(32),
  relative_attention_max_distance: positiveInteger(128),
  layer_norm_epsilon: number(1e-6),
  initializer_factor: number(1),
  feed_forward_proj: {
    default: "relu" as string,
    expected: 'an activation ("relu", "gelu", "gelu_new", "silu") or one after "gated-"',
    accepts: (found: unknown) => typeof found === "string" && parseFeedForward(found) !== undefined,
  },
};

export type T5Config = ConfigOf<typeof FIELDS>;

export type T5Activation = "relu" | "gelu" | "gelu_new" | "silu";

/** A feed-forward layer's activation, and whether a second projection is multiplied with it. */
export interface FeedForwardKind {
  readonly activation: T5Activation;
  readonly gated: boolean;
}

/** What `feed_forward_proj` stands for. "gated-gelu" means the tanh approximation, as in T5 v1.1. */
export function parseFeedForward(text: string): FeedForwardKind | undefined {
  const match = /^(gated-)?(relu|gelu|gelu_new|silu)$/.exec(text);
  if (!match) return undefined;
  const gated = match[1] !== undefined;
  return { gated, activation: gated && match[2] === "gelu" ? "gelu_new" : (match[2] as T5Activation) };
}

/** Fills in defaults and checks values; keys used only by the decoder or by other classes of transformers are ignored. */
export function completeT5Config(given: Readonly<Record<string, unknown>>, where: ConfigOrigin): T5Config {
  const known = Object.fromEntries(Object.entries(given).filter(([key]) => Object.hasOwn(FIELDS, key)));
  const config = completeConfig(FIELDS, known, where, "refuse");
  if (config.relative_attention_num_buckets < 4 || config.relative_attention_num_buckets % 2 !== 0) {
    throw new ConfigError(
      `relative_attention_num_buckets must be an even number of at least 4, found ${config.relative_attention_num_buckets}`,
      where,
    );
  }
  return config;
}
