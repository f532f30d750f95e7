/** CogVideoX's diffusion transformer (arXiv 2408.06072, section 2.2), after diffusers' class of the same name. */
import { InputError } from "../../engine/errors.js";
import { ACTIVATIONS, type ActivationName } from "../../engine/ops/activations.js";
import { checkpoint } from "../../engine/ops/checkpoint.js";
import { silu } from "../../engine/ops/gelu/gelu.js";
import { type SignedRotaryTables, signedRotaryTables } from "../../engine/ops/rotary/rotary.js";
import { RandomGenerator } from "../../engine/random.js";
import * as tf from "../../engine/tf.js";
import { dropout, type ForwardContext } from "../../nn/forward-context.js";
import { LayerNorm } from "../../nn/layer-norm.js";
import type { Linear } from "../../nn/linear.js";
import { Linears } from "../../nn/linear.js";
import { type AdapterWeights, type LoraAdapter, LoraAdapters, type LoraConfig } from "../../nn/lora.js";
import { loadLora, saveLora } from "../../nn/lora-storage.js";
import { loadParameters, Model, type Parameter, type SaveOptions } from "../../nn/module.js";
import type { LatentSize } from "../../recipe/geometry.js";
import {
  boolean,
  ConfigError,
  type ConfigOf,
  type ConfigOrigin,
  completeConfig,
  nullable,
  number,
  oneOf,
  positiveInteger,
  readConfig,
  writeConfig,
} from "../../weights/config.js";
import { configFolder, type LoadQuantizedOptions, modelFiles, resolveModel } from "../../weights/hub.js";
import type { LoadLoraOptions, SaveLoraOptions } from "../../weights/lora-files.js";
import { safeOpen } from "../../weights/safetensors.js";
import { CogVideoXBlock } from "./block.js";
import {
  AdaLayerNorm,
  FEED_FORWARD_ACTIVATIONS,
  type FeedForwardActivation,
  TimestepEmbedding,
} from "./layers.js";
import { CogVideoXPatchEmbed, unpatchify } from "./patch-embed.js";
import { type RotaryTables, samplingRotaryTables, trainingRotaryTables } from "./rotary-positions.js";
import { satTransformerSource } from "./sat-weights.js";
import { getTimestepEmbedding } from "./timestep-embedding.js";

const CLASS_NAME = "CogVideoXTransformer3DModel";

/** Keys and defaults of diffusers' configuration. */
const FIELDS = {
  num_attention_heads: positiveInteger(30),
  attention_head_dim: positiveInteger(64),
  in_channels: positiveInteger(16),
  out_channels: positiveInteger(16),
  flip_sin_to_cos: boolean(true),
  freq_shift: number(0),
  time_embed_dim: positiveInteger(512),
  ofs_embed_dim: nullable(positiveInteger(512)),
  text_embed_dim: positiveInteger(4096),
  num_layers: positiveInteger(30),
  dropout: number(0),
  attention_bias: boolean(true),
  sample_width: positiveInteger(90),
  sample_height: positiveInteger(60),
  sample_frames: positiveInteger(49),
  patch_size: positiveInteger(2),
  patch_size_t: nullable(positiveInteger(2)),
  temporal_compression_ratio: positiveInteger(4),
  max_text_seq_length: positiveInteger(226),
  activation_fn: oneOf<FeedForwardActivation>("gelu-approximate", FEED_FORWARD_ACTIVATIONS),
  timestep_activation_fn: oneOf<ActivationName>("silu", Object.keys(ACTIVATIONS) as ActivationName[]),
  norm_elementwise_affine: boolean(true),
  norm_eps: number(1e-5),
  spatial_interpolation_scale: number(1.875),
  temporal_interpolation_scale: number(1),
  use_rotary_positional_embeddings: boolean(false),
  use_learned_positional_embeddings: boolean(false),
  patch_bias: boolean(true),
};

export type CogVideoXTransformer3DModelConfig = ConfigOf<typeof FIELDS>;

/** Numbers for a batch: one for all samples, or one per sample. */
export type PerSample = number | ArrayLike<number> | tf.Tensor1D;

export interface TransformerInputs {
  /** Noisy latents; for image-to-video the image latents follow on the channel axis: [B, F, C, H, W]. */
  readonly hiddenStates: tf.Tensor5D;
  /** Text embeddings, [B, tokens, text_embed_dim]. */
  readonly encoderHiddenStates: tf.Tensor3D;
  /** Diffusion steps. */
  readonly timestep: PerSample;
  /** What models with an offset embedding (CogVideoX-1.5 image-to-video) are conditioned on: 2.0. */
  readonly ofs?: PerSample | null;
  /** Positions of the video tokens, [F' H' W', attention_head_dim] each; without them nothing is rotated. */
  readonly imageRotaryEmb?: RotaryTables | null;
  /** `scale` multiplies what LoRA adapters add. */
  readonly attentionKwargs?: { readonly scale?: number } | null;
  /** Turns dropout on, as in training, and supplies its masks. */
  readonly generator?: RandomGenerator;
}

/** Called with a module's name in the state dict and its output, which is disposed afterwards: keep a clone. */
export type TransformerHook = (module: string, output: tf.Tensor) => void;

/**
 * The transformer of CogVideoX 1.0 and 1.5: text and video tokens attend to each other in one sequence.
 *
 * ```ts
 * const model = "zai-org/CogVideoX1.5-5B-I2V";
 * const transformer = await CogVideoXTransformer3DModel.fromPretrained(model, { subfolder: "transformer" });
 * const { sample } = transformer.forward({ hiddenStates, encoderHiddenStates, timestep, ofs: 2, imageRotaryEmb });
 * ```
 *
 * It is differentiable with respect to all its weights, its adapters' weights and both inputs.
 */
export class CogVideoXTransformer3DModel extends Model {
  readonly config: CogVideoXTransformer3DModelConfig;
  /** Recompute each block for its gradient, so that only one block's activations are in memory at a time. */
  gradientCheckpointing = false;
  readonly #linears = new Linears();
  readonly #adapters = new LoraAdapters(this.#linears.all);
  readonly #patchEmbed: CogVideoXPatchEmbed;
  readonly #timeEmbedding: TimestepEmbedding;
  readonly #ofsEmbedding: TimestepEmbedding | null;
  readonly #blocks: readonly CogVideoXBlock[];
  readonly #normFinal: LayerNorm;
  readonly #normOut: AdaLayerNorm;
  readonly #projOut: Linear;
  readonly #hooks = new Set<TransformerHook>();

  private constructor(config: CogVideoXTransformer3DModelConfig, where: ConfigOrigin) {
    super({ blockList: "transformer_blocks" });
    checkConfig(config, where);
    this.config = config;
    const { scope } = this;
    const linears = this.#linears;
    const inner = config.num_attention_heads * config.attention_head_dim;
    this.#patchEmbed = new CogVideoXPatchEmbed(scope.child("patch_embed"), linears, {
      patchSize: config.patch_size,
      patchSizeT: config.patch_size_t,
      inChannels: config.in_channels,
      embedDim: inner,
      textEmbedDim: config.text_embed_dim,
      bias: config.patch_bias,
      sampleWidth: config.sample_width,
      sampleHeight: config.sample_height,
      sampleFrames: config.sample_frames,
      temporalCompressionRatio: config.temporal_compression_ratio,
      maxTextSeqLength: config.max_text_seq_length,
      spatialInterpolationScale: config.spatial_interpolation_scale,
      temporalInterpolationScale: config.temporal_interpolation_scale,
      usePositions: !config.use_rotary_positional_embeddings,
      useLearnedPositions: config.use_learned_positional_embeddings,
    });
    const embedding = (name: string, channels: number, width: number) =>
      new TimestepEmbedding(scope.child(name), linears, channels, width, config.timestep_activation_fn);
    this.#timeEmbedding = embedding("time_embedding", inner, config.time_embed_dim);
    this.#ofsEmbedding =
      config.ofs_embed_dim === null
        ? null
        : embedding("ofs_embedding", config.ofs_embed_dim, config.ofs_embed_dim);
    this.#blocks = Array.from(
      { length: config.num_layers },
      (_, i) =>
        new CogVideoXBlock(scope.child("transformer_blocks").child(i), linears, {
          heads: config.num_attention_heads,
          headDim: config.attention_head_dim,
          timeEmbedDim: config.time_embed_dim,
          activation: config.activation_fn,
          attentionBias: config.attention_bias,
          normEps: config.norm_eps,
          normAffine: config.norm_elementwise_affine,
          dropout: config.dropout,
        }),
    );
    this.#normFinal = new LayerNorm(
      scope.child("norm_final"),
      inner,
      config.norm_eps,
      config.norm_elementwise_affine,
    );
    this.#normOut = new AdaLayerNorm(
      scope.child("norm_out"),
      linears,
      config.time_embed_dim,
      inner,
      config.norm_eps,
      config.norm_elementwise_affine,
    );
    const patch = config.patch_size ** 2 * (config.patch_size_t ?? 1);
    this.#projOut = linears.create(scope.child("proj_out"), inner, patch * config.out_channels);
  }

  /**
   * A new transformer with PyTorch's default initialisation, drawn from `generator`; without one, it has no values yet.
   * @param config keys of diffusers' configuration; what is left out has diffusers' default.
   * @throws ConfigError naming the invalid key.
   */
  static fromConfig(
    config: Partial<CogVideoXTransformer3DModelConfig>,
    generator?: RandomGenerator,
  ): CogVideoXTransformer3DModel {
    const model = new CogVideoXTransformer3DModel(CogVideoXTransformer3DModel.completeConfig(config), {
      subject: CLASS_NAME,
    });
    if (generator) model.initialize(generator);
    return model;
  }

  /**
   * A configuration with diffusers' defaults in it.
   *
   * @throws ConfigError naming the key.
   */
  static completeConfig(
    config: Partial<CogVideoXTransformer3DModelConfig>,
  ): CogVideoXTransformer3DModelConfig {
    return completeConfig(FIELDS, config, { subject: CLASS_NAME }, "refuse");
  }

  /**
   * The complete configuration in a folder of diffusers, without the weights.
   *
   * @throws ConfigError naming the file and what is wrong with it.
   */
  static async loadConfig(folder: string): Promise<CogVideoXTransformer3DModelConfig> {
    const given = await readConfig(folder, CLASS_NAME);
    return completeConfig(FIELDS, given, { file: `${folder}/config.json` }, "warn");
  }

  /**
   * Reads a folder that diffusers' or this class's `savePretrained` wrote, or a model of the Hugging Face Hub:
   * `config.json` and safetensors weights in float32, float16 or bfloat16, in one file or in shards.
   * @throws ConfigError, CheckpointError or SafetensorsError naming the file and what is wrong with it, or HubError.
   */
  static async fromPretrained(
    idOrFolder: string,
    location: LoadQuantizedOptions = {},
  ): Promise<CogVideoXTransformer3DModel> {
    const folder = await resolveModel(idOrFolder, location, modelFiles(location));
    const place = await configFolder(folder);
    const config = await CogVideoXTransformer3DModel.loadConfig(place);
    const model = new CogVideoXTransformer3DModel(config, { file: `${place}/config.json` });
    try {
      await model.loadWeights(folder, location);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  /**
   * Reads the weights of CogVideo's own code base ("transformer.layers.0.attention.query_key_value.weight", ...) from
   * a safetensors file.
   * @param config as for {@link fromConfig}; that code base keeps it elsewhere.
   * @throws ConfigError, CheckpointError or SafetensorsError naming the file and what is wrong with it.
   */
  static async fromOriginal(
    file: string,
    config: Partial<CogVideoXTransformer3DModelConfig> = {},
  ): Promise<CogVideoXTransformer3DModel> {
    const full = completeConfig(FIELDS, config, { subject: CLASS_NAME }, "refuse");
    const model = new CogVideoXTransformer3DModel(full, { subject: CLASS_NAME });
    const source = await safeOpen(file);
    try {
      await loadParameters(model.parameters, satTransformerSource(source));
    } catch (error) {
      model.dispose();
      throw error;
    } finally {
      await source.close();
    }
    return model;
  }

  /** Writes `config.json` and the weights into a folder that diffusers reads. */
  async savePretrained(folder: string, options: SaveOptions = {}): Promise<void> {
    await this.saveWeights(folder, options);
    await writeConfig(folder, CLASS_NAME, this.config);
  }

  /** The linear layers by name, to which LoRA adapters can be added. */
  get linears(): ReadonlyMap<string, Linear> {
    return this.#linears.all;
  }

  /** Names of the LoRA adapters. */
  get adapterNames(): string[] {
    return this.#adapters.names;
  }

  /**
   * Adds a new LoRA adapter to the model and freezes the model's own weights. At first it has no effect: B is zero.
   * @throws InputError if the name is taken or no layer matches.
   */
  addAdapter(
    config: LoraConfig,
    {
      adapterName = "default",
      generator,
    }: { readonly adapterName?: string; readonly generator: RandomGenerator },
  ): LoraAdapter {
    const adapter = this.#adapters.add(adapterName, config, generator);
    this.requiresGrad(false);
    return adapter;
  }

  /** @throws InputError if there is no adapter of this name. */
  adapter(adapterName = "default"): LoraAdapter {
    return this.#adapters.get(adapterName);
  }

  /**
   * Reads a LoRA adapter from a file or folder, or from the Hugging Face Hub, and freezes the model's own weights. It may be
   * diffusers', PEFT's, or of kohya's scripts, musubi-tuner or ComfyUI, as safetensors or of `torch.save`. The adapter becomes the
   * only active one.
   * @throws CheckpointError, ConfigError or SafetensorsError naming the file and what is wrong with it, or HubError.
   */
  async loadLoraAdapter(path: string, options: LoadLoraOptions = {}): Promise<LoraAdapter> {
    const adapter = await loadLora(this.#adapters, path, options);
    this.requiresGrad(false);
    return adapter;
  }

  /** Writes a LoRA adapter into a folder, as diffusers' pipelines or as PEFT. */
  async saveLoraAdapter(folder: string, options: SaveLoraOptions = {}): Promise<void> {
    await saveLora(this.#adapters, folder, options);
  }

  /**
   * Makes these adapters the active ones, each with a factor (default 1); all others are off.
   * @throws InputError for an unknown adapter, one named twice, or another number of factors.
   */
  setAdapters(adapterNames: string | readonly string[], weights?: AdapterWeights): void {
    this.#adapters.setActive(typeof adapterNames === "string" ? [adapterNames] : adapterNames, weights);
  }

  /** Adds the active adapters' updates to the weights; from then on they cost nothing and do not train. */
  fuseLora({
    loraScale = 1,
    adapterNames,
  }: {
    readonly loraScale?: number;
    readonly adapterNames?: readonly string[];
  } = {}): void {
    this.#adapters.fuse(adapterNames, loraScale);
  }

  /** Takes all fused updates out of the weights again (exact up to rounding). */
  unfuseLora(): void {
    this.#adapters.unfuse();
  }

  /** Removes adapters, all unless named; what they fused stays in the weights. */
  deleteAdapters(adapterNames: string | readonly string[] = this.adapterNames): void {
    this.#adapters.delete(typeof adapterNames === "string" ? [adapterNames] : adapterNames);
  }

  /** What an optimiser trains: the model's own, unless frozen, and the adapters'. */
  protected override trainableParameters(): Parameter[] {
    return [...super.trainableParameters(), ...this.#adapters.trainableParameters()];
  }

  override dispose(): void {
    this.deleteAdapters();
    super.dispose();
  }

  enableGradientCheckpointing(): void {
    this.gradientCheckpointing = true;
  }

  disableGradientCheckpointing(): void {
    this.gradientCheckpointing = false;
  }

  /** Calls `hook` with the output of every named module, like PyTorch's forward hooks; the returned function removes it. */
  registerForwardHook(hook: TransformerHook): () => void {
    this.#hooks.add(hook);
    return () => this.#hooks.delete(hook);
  }

  /**
   * Rotary tables for latents of a size: {@link trainingRotaryTables} or {@link samplingRotaryTables}. The caller
   * disposes them.
   */
  rotaryTables(size: LatentSize, use: "training" | "inference"): RotaryTables | null {
    return (use === "training" ? trainingRotaryTables : samplingRotaryTables)(this.config, size);
  }

  /**
   * The model's prediction for noisy latents.
   * @returns sample: [B, F, out_channels, H, W]
   * @throws InputError naming the input whose shape does not fit.
   */
  forward(inputs: TransformerInputs): { sample: tf.Tensor5D } {
    this.#check(inputs);
    const { hiddenStates, encoderHiddenStates, imageRotaryEmb, attentionKwargs, generator } = inputs;
    const { config } = this;
    const [, frames, , height, width] = hiddenStates.shape;
    const context: ForwardContext = {
      loraScale: attentionKwargs?.scale ?? 1,
      dropout: generator,
      hook: this.#hooks.size > 0 ? (...seen) => this.#callHooks(...seen) : undefined,
    };
    const compute = () => {
      const emb = this.#embedTime(inputs, context);
      context.hook?.("emb", emb);
      const condition = silu(emb);

      const tokens = this.#patchEmbed.forward(encoderHiddenStates, hiddenStates, context);
      let x = dropout(tokens, config.dropout, context);
      const text = encoderHiddenStates.shape[1];
      const lengths = [text, x.shape[1] - text] as const;
      const rotary = imageRotaryEmb
        ? signedRotaryTables(imageRotaryEmb, {
            textTokens: lengths[0],
            videoTokens: lengths[1],
            features: config.attention_head_dim,
          })
        : null;
      for (const block of this.inTurn(this.#blocks)) {
        const output = this.#runBlock(block, x, condition, lengths, rotary, context);
        context.hook?.(block.name, output);
        x = output;
      }

      const video = tf.slice(x, [0, text, 0], [-1, lengths[1], -1]);
      const normed = this.#normFinal.forward(video);
      context.hook?.("norm_final", normed);
      const patches = this.#projOut.forward(this.#normOut.forward(normed, condition, context), context);
      return unpatchify(patches, [frames, height, width], config.patch_size, config.patch_size_t);
    };
    return { sample: this.compute(() => tf.tidy(compute)) };
  }

  #runBlock(
    block: CogVideoXBlock,
    x: tf.Tensor3D,
    condition: tf.Tensor2D,
    lengths: readonly [number, number],
    rotary: SignedRotaryTables | null,
    context: ForwardContext,
  ): tf.Tensor3D {
    if (!this.gradientCheckpointing) return block.forward(x, condition, lengths, rotary, context);

    // Blocks are computed twice: with the same dropout masks both times, and the hooks only once.
    const seed = context.dropout?.integer(0, 2 ** 31);
    let { hook } = context;
    const tables = rotary ? [rotary.cos, rotary.sin] : [];
    const timeIsTrained = [this.#timeEmbedding, this.#ofsEmbedding].some((embedding) =>
      embedding?.parameters.some((parameter) => parameter.trainable),
    );
    const [inputs, constants] = timeIsTrained ? [[x, condition], []] : [[x], [condition]];
    return checkpoint(
      (...[x, condition, cos, sin]) => {
        const output = block.forward(
          x as tf.Tensor3D,
          condition as tf.Tensor2D,
          lengths,
          rotary ? { cos: cos as tf.Tensor2D, sin: sin as tf.Tensor2D } : null,
          { ...context, hook, dropout: seed === undefined ? undefined : new RandomGenerator(seed) },
        );
        hook = undefined;
        return output;
      },
      inputs,
      {
        constants: [...constants, ...tables],
        variables: block.parameters.filter(({ trainable }) => trainable).map(({ value }) => value),
      },
    );
  }

  /** Time embedding, plus the offset's if the model has one: [batch, time_embed_dim]. */
  #embedTime({ hiddenStates, timestep, ofs }: TransformerInputs, context: ForwardContext): tf.Tensor2D {
    const { config } = this;
    const batch = hiddenStates.shape[0];
    const sinusoid = (values: number[], width: number) =>
      getTimestepEmbedding(values, width, {
        flipSinToCos: config.flip_sin_to_cos,
        downscaleFreqShift: config.freq_shift,
      });
    const steps = perSample("timestep", timestep, batch);
    const all = steps.length === batch ? steps : Array<number>(batch).fill(steps[0]!);
    const inner = config.num_attention_heads * config.attention_head_dim;
    const emb = this.#timeEmbedding.forward(sinusoid(all, inner), context);
    if (this.#ofsEmbedding === null || config.ofs_embed_dim === null) return emb;
    if (ofs === undefined || ofs === null) {
      throw new InputError(
        `ofs: this model has an offset embedding (ofs_embed_dim ${config.ofs_embed_dim}) and needs a value`,
        { hint: "CogVideoX-1.5 has 2.0" },
      );
    }
    const offset = sinusoid(perSample("ofs", ofs, batch), config.ofs_embed_dim);
    return tf.add(emb, this.#ofsEmbedding.forward(offset, context));
  }

  #callHooks(module: string, output: tf.Tensor): void {
    for (const hook of this.#hooks) hook(module, output);
  }

  #check({ hiddenStates, encoderHiddenStates }: TransformerInputs): void {
    const { in_channels: channels, text_embed_dim: text, patch_size: p, patch_size_t: pt } = this.config;
    const wanted = `hiddenStates: expected [B, F, ${channels}, H, W]`;
    if (hiddenStates.rank !== 5 || hiddenStates.shape[2] !== channels) {
      throw new InputError(`${wanted}, found [${hiddenStates.shape}]`);
    }
    const [batch, frames, , height, width] = hiddenStates.shape;
    if (height % p !== 0 || width % p !== 0) {
      throw new InputError(
        `${wanted} with H and W divisible by ${p} (patch_size), found [${hiddenStates.shape}]`,
      );
    }
    if (pt !== null && frames % pt !== 0) {
      throw new InputError(`${wanted} with F divisible by ${pt} (patch_size_t), found ${frames} frames`, {
        hint: "duplicateFirstFrame pads them",
      });
    }
    if (
      encoderHiddenStates.rank !== 3 ||
      encoderHiddenStates.shape[0] !== batch ||
      encoderHiddenStates.shape[2] !== text
    ) {
      throw new InputError(
        `encoderHiddenStates: expected [${batch}, tokens, ${text}] (batch, tokens, text_embed_dim), found [${encoderHiddenStates.shape}]`,
      );
    }
  }
}

function perSample(name: string, values: PerSample, batch: number): number[] {
  const list =
    typeof values === "number"
      ? [values]
      : Array.from(values instanceof tf.Tensor ? values.dataSync() : values);
  if (list.length !== 1 && list.length !== batch) {
    throw new InputError(`${name}: expected 1 or ${batch} values (the batch), found ${list.length}`);
  }
  return list;
}

function checkConfig(config: CogVideoXTransformer3DModelConfig, where: ConfigOrigin): void {
  if (config.use_learned_positional_embeddings && !config.use_rotary_positional_embeddings) {
    throw new ConfigError(
      "use_learned_positional_embeddings needs use_rotary_positional_embeddings, as in diffusers",
      where,
    );
  }
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    throw new ConfigError(`dropout must be at least 0 and below 1, found ${config.dropout}`, where);
  }
  if (config.ofs_embed_dim !== null && config.ofs_embed_dim !== config.time_embed_dim) {
    throw new ConfigError(
      `ofs_embed_dim must equal time_embed_dim (they are added), found ${config.ofs_embed_dim} and ${config.time_embed_dim}`,
      where,
    );
  }
}
