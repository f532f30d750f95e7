/**
 * The transformer's weights in CogVideo's own checkpoints (SwissArmyTransformer, "SAT"): there queries, keys and values
 * are one matrix, and so are the modulations of a block's two norms.
 */
import { CheckpointError, type WeightSource } from "../../weights/checkpoint.js";
import type { TensorData } from "../../weights/dtype.js";
import type { StoredTensor, TensorInfo } from "../../weights/safetensors.js";

/** A tensor of the file, cut along its first axis into `pieces`, of which some are joined. */
interface Origin {
  readonly key: string;
  readonly pieces: number;
  readonly take: readonly number[];
}

/** Names of SAT that only need replacing: what follows the block's number. */
const BLOCK_NAMES: Readonly<Record<string, string>> = {
  input_layernorm: "norm1.norm",
  post_attention_layernorm: "norm2.norm",
  "attention.dense": "attn1.to_out.0",
  "mlp.dense_h_to_4h": "ff.net.0.proj",
  "mlp.dense_4h_to_h": "ff.net.2",
};

const MODULE_NAMES: Readonly<Record<string, string>> = {
  "transformer.final_layernorm": "norm_final",
  "time_embed.0": "time_embedding.linear_1",
  "time_embed.2": "time_embedding.linear_2",
  "ofs_embed.0": "ofs_embedding.linear_1",
  "ofs_embed.2": "ofs_embedding.linear_2",
  "mixins.patch_embed.proj": "patch_embed.proj",
  "mixins.patch_embed.text_proj": "patch_embed.text_proj",
  "mixins.final_layer.norm_final": "norm_out.norm",
  "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
  "mixins.final_layer.linear": "proj_out",
};

/** Tables that are computed, and parts of SAT that CogVideoX does not use. */
const UNUSED =
  /(^|\.)(freqs_sin|freqs_cos|position_embeddings?\.weight|word_embeddings\.weight|embed_tokens\..+)$/;

/** Twelve chunks: shift, scale and gate of attention, then of the feed-forward layer; for video, then for text. */
const NORM_CHUNKS = { norm1: [0, 1, 2, 6, 7, 8], norm2: [3, 4, 5, 9, 10, 11] } as const;

/** The diffusers names for a SAT tensor; none if it is not needed, undefined if it is unknown. */
function namesOf(satKey: string): [name: string, take: Omit<Origin, "key">][] | undefined {
  const whole = { pieces: 1, take: [0] };
  const key = satKey.replace(/^(module|state_dict)\./, "");
  if (/^(first_stage_model|conditioner|denoiser|loss_fn)\./.test(key)) return [];
  const plain = key.replace(/^model\.diffusion_model\./, "");
  if (UNUSED.test(plain)) return [];
  if (plain === "mixins.pos_embed.pos_embedding") return [["patch_embed.pos_embedding", whole]];

  const dot = plain.lastIndexOf(".");
  const [module, kind] = [plain.slice(0, dot), plain.slice(dot + 1)];
  const block = /^transformer\.layers\.(\d+)\.(.+)$/.exec(module);
  if (block) {
    const prefix = `transformer_blocks.${block[1]}`;
    if (block[2] === "attention.query_key_value") {
      return ["to_q", "to_k", "to_v"].map((name, i) => [
        `${prefix}.attn1.${name}.${kind}`,
        { pieces: 3, take: [i] },
      ]);
    }
    const name = BLOCK_NAMES[block[2]!];
    return name === undefined ? undefined : [[`${prefix}.${name}.${kind}`, whole]];
  }
  const modulation = /^mixins\.adaln_layer\.adaLN_modulations\.(\d+)\.1$/.exec(module);
  if (modulation) {
    return (["norm1", "norm2"] as const).map((norm) => [
      `transformer_blocks.${modulation[1]}.${norm}.linear.${kind}`,
      { pieces: 12, take: NORM_CHUNKS[norm] },
    ]);
  }
  const headNorm = /^mixins\.adaln_layer\.(query|key)_layernorm_list\.(\d+)$/.exec(module);
  if (headNorm) {
    const name = headNorm[1] === "query" ? "norm_q" : "norm_k";
    return [[`transformer_blocks.${headNorm[2]}.attn1.${name}.${kind}`, whole]];
  }
  const name = MODULE_NAMES[module];
  return name === undefined ? undefined : [[`${name}.${kind}`, whole]];
}

/**
 * A SAT checkpoint's tensors under diffusers' names.
 * @throws CheckpointError listing names that are not known, or a tensor that can't be cut.
 */
export function satTransformerSource(source: WeightSource): WeightSource {
  const origins = new Map<string, Origin>();
  const unknown: string[] = [];
  for (const key of source.keys()) {
    const names = namesOf(key);
    if (names === undefined) unknown.push(key);
    for (const [name, take] of names ?? []) {
      const rows = source.info(key).shape[0] ?? 0;
      if (rows % take.pieces !== 0) {
        throw new CheckpointError(
          `"${key}": expected a first axis that ${take.pieces} divides, found [${source.info(key).shape}]`,
          { file: source.path },
        );
      }
      origins.set(name, { key, ...take });
    }
  }
  if (unknown.length > 0) {
    const more = unknown.length > 20 ? ` and ${unknown.length - 20} more` : "";
    throw new CheckpointError(
      `not the names of CogVideo's own transformer: ${unknown.slice(0, 20).join(", ")}${more}`,
      { file: source.path },
    );
  }
  const originOf = (name: string): Origin => {
    const origin = origins.get(name);
    if (!origin) throw new CheckpointError(`no tensor for "${name}"`, { file: source.path });
    return origin;
  };
  const cutShape = (shape: readonly number[], { pieces, take }: Origin): number[] => [
    (shape[0]! / pieces) * take.length,
    ...shape.slice(1),
  ];
  return {
    path: source.path,
    keys: () => [...origins.keys()],
    info(name): TensorInfo {
      const origin = originOf(name);
      const info = source.info(origin.key);
      return origin.pieces === 1 ? info : { ...info, shape: cutShape(info.shape, origin) };
    },
    async getData(name): Promise<StoredTensor> {
      const origin = originOf(name);
      const { dtype, shape, data } = await source.getData(origin.key);
      if (origin.pieces === 1) return { dtype, shape, data };
      return { dtype, shape: cutShape(shape, origin), data: joinPieces(data, origin) };
    },
    close: () => source.close(),
  };
}

function joinPieces<T extends TensorData>(data: T, { pieces, take }: Origin): T {
  const size = data.length / pieces;
  const joined = data.slice(0, size * take.length) as T;
  for (const [i, piece] of take.entries()) {
    // Both are arrays of one kind; TypeScript can't see that for the union.
    (joined as Uint8Array).set((data as Uint8Array).subarray(piece * size, (piece + 1) * size), i * size);
  }
  return joined;
}
