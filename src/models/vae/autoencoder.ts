/** CogVideoX's causal 3D variational autoencoder (arXiv 2408.06072, section 2.1), after diffusers' class of the same name. */
import { InputError } from "../../engine/errors.js";
import { ACTIVATIONS, type ActivationName } from "../../engine/ops/activations.js";
import type { RandomGenerator } from "../../engine/random.js";
import * as tf from "../../engine/tf.js";
import { Model, type SaveOptions } from "../../nn/module.js";
import {
  boolean,
  ConfigError,
  type ConfigOf,
  type ConfigOrigin,
  completeConfig,
  list,
  nullable,
  number,
  oneOf,
  positiveInteger,
  readConfig,
  writeConfig,
} from "../../weights/config.js";
import { configFolder, type LoadModelOptions, modelFiles, resolveModel } from "../../weights/hub.js";
import { type CoderConfig, Decoder3D, Encoder3D } from "./coder.js";
import { DiagonalGaussianDistribution } from "./distribution.js";
import { ConvCache, FrameLayout, fromFrames, toFrames } from "./frames.js";
import { type CoderContext, PointwiseConv } from "./layers.js";
import { satVaeKey } from "./sat-keys.js";
import { type TileGrid, tiled } from "./tiling.js";

const CLASS_NAME = "AutoencoderKLCogVideoX";
const DOWN_BLOCK = "CogVideoXDownBlock3D";
const UP_BLOCK = "CogVideoXUpBlock3D";

/** Keys and defaults of diffusers' configuration. */
const FIELDS = {
  in_channels: positiveInteger(3),
  out_channels: positiveInteger(3),
  down_block_types: list(Array<string>(4).fill(DOWN_BLOCK), oneOf<string>(DOWN_BLOCK, [DOWN_BLOCK])),
  up_block_types: list(Array<string>(4).fill(UP_BLOCK), oneOf<string>(UP_BLOCK, [UP_BLOCK])),
  block_out_channels: list([128, 256, 256, 512], positiveInteger(1)),
  latent_channels: positiveInteger(16),
  layers_per_block: positiveInteger(3),
  act_fn: oneOf<ActivationName>("silu", Object.keys(ACTIVATIONS) as ActivationName[]),
  norm_eps: number(1e-6),
  norm_num_groups: positiveInteger(32),
  temporal_compression_ratio: number(4),
  sample_height: positiveInteger(480),
  sample_width: positiveInteger(720),
  scaling_factor: number(1.15258426),
  shift_factor: nullable(number(0)),
  latents_mean: nullable(list([], number(0))),
  latents_std: nullable(list([], number(0))),
  force_upcast: boolean(true),
  use_quant_conv: boolean(false),
  use_post_quant_conv: boolean(false),
  invert_scale_latents: boolean(false),
};

export type AutoencoderKLCogVideoXConfig = ConfigOf<typeof FIELDS>;

export interface TilingOptions {
  /** Tiles' height in pixels, from which on tiling is used. Default: half of `sample_height`. */
  readonly tileSampleMinHeight?: number;
  readonly tileSampleMinWidth?: number;
  /** The part of a tile that the next one overlaps, 0 to 1. Default: 1/6. */
  readonly tileOverlapFactorHeight?: number;
  /** Default: 1/5. */
  readonly tileOverlapFactorWidth?: number;
}

/**
 * Sees a module's output: its name in the state dict (e.g. "encoder.down_blocks.0"), the output [B, C, F, H, W], and how
 * many of its frames belong to each call of the encoder or decoder. The output is disposed afterwards; keep a clone.
 */
export type ForwardHook = (module: string, output: tf.Tensor5D, callFrames: readonly number[]) => void;

/** A clip as the encoder takes it frame group by frame group. */
export interface StreamOptions {
  /** Frames of the whole clip. The first group's size depends on it. */
  readonly numFrames: number;
}

/** How many pixels of height and width become one latent pixel, of a VAE whose weights need not be there. */
export const spatialCompressionRatioOf = ({
  block_out_channels: blocks,
}: Pick<AutoencoderKLCogVideoXConfig, "block_out_channels">): number => 2 ** (blocks.length - 1);

/** Frames that one call of the encoder takes, and latent frames that one call of the decoder takes. */
const SAMPLE_FRAMES_PER_CALL = 8;
const LATENT_FRAMES_PER_CALL = 2;

/**
 * The VAE of CogVideoX: 8x8 pixels of 4 frames become one latent pixel; the first frame is encoded by itself.
 * An 81-frame clip has (81 - 1) / 4 + 1 = 21 latent frames.
 *
 * ```ts
 * const vae = await AutoencoderKLCogVideoX.fromPretrained("zai-org/CogVideoX1.5-5B-I2V", { subfolder: "vae" });
 * const { latentDist } = vae.encode(video); // [B, 3, F, H, W] in [-1, 1]
 * const latents = latentDist.sample({ generator }); // [B, 16, f, H / 8, W / 8]
 * const { sample } = vae.decode(latents);
 * ```
 *
 * Both directions are differentiable.
 */
export class AutoencoderKLCogVideoX extends Model {
  readonly config: AutoencoderKLCogVideoXConfig;
  readonly #encoder: Encoder3D;
  readonly #decoder: Decoder3D;
  readonly #quantConv: PointwiseConv | undefined;
  readonly #postQuantConv: PointwiseConv | undefined;
  readonly #hooks = new Set<ForwardHook>();

  /**
   * If the features of a whole clip take at most this many bytes, all frame groups are computed at once, which is faster
   * and gives the same numbers. 0 computes one group after another, with the least memory.
   */
  wholeClipBytes = 32 * 2 ** 20;
  useSlicing = false;
  useTiling = false;
  #tileHeight: number;
  #tileWidth: number;
  #overlapHeight = 1 / 6;
  #overlapWidth = 1 / 5;

  private constructor(config: AutoencoderKLCogVideoXConfig, where: ConfigOrigin) {
    super();
    this.config = config;
    const coder = coderConfig(config, where);
    this.#encoder = new Encoder3D(this.scope.child("encoder"), config.in_channels, coder);
    this.#decoder = new Decoder3D(this.scope.child("decoder"), config.out_channels, coder);
    // As in diffusers, their sizes follow out_channels, so they fit only if latent_channels is the same number.
    const { out_channels: out } = config;
    if (config.use_quant_conv)
      this.#quantConv = new PointwiseConv(this.scope.child("quant_conv"), 2 * out, 2 * out);
    if (config.use_post_quant_conv)
      this.#postQuantConv = new PointwiseConv(this.scope.child("post_quant_conv"), out, out);
    this.#tileHeight = Math.floor(config.sample_height / 2);
    this.#tileWidth = Math.floor(config.sample_width / 2);
  }

  /**
   * A new VAE with PyTorch's default initialisation.
   * @param config keys of diffusers' configuration; what is left out has diffusers' default.
   * @param generator draws the weights; without it they have no values until they are loaded or initialised.
   * @throws ConfigError naming the invalid key.
   */
  static fromConfig(
    config: Partial<AutoencoderKLCogVideoXConfig>,
    generator?: RandomGenerator,
  ): AutoencoderKLCogVideoX {
    const vae = new AutoencoderKLCogVideoX(
      completeConfig(FIELDS, config, { subject: CLASS_NAME }, "refuse"),
      { subject: CLASS_NAME },
    );
    if (generator) vae.initialize(generator);
    return vae;
  }

  /**
   * The complete configuration in a folder of diffusers, without the weights.
   *
   * @throws ConfigError naming the file and what is wrong with it.
   */
  static async loadConfig(folder: string): Promise<AutoencoderKLCogVideoXConfig> {
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
    location: LoadModelOptions = {},
  ): Promise<AutoencoderKLCogVideoX> {
    const folder = await resolveModel(idOrFolder, location, modelFiles(location));
    const place = await configFolder(folder);
    const config = await AutoencoderKLCogVideoX.loadConfig(place);
    const vae = new AutoencoderKLCogVideoX(config, { file: `${place}/config.json` });
    return vae.#loaded(vae.loadWeights(folder, location));
  }

  /**
   * Reads the weights of CogVideo's own code base ("encoder.down.0.block.0.norm1.weight", ...) from a safetensors file.
   * @param config as for {@link fromConfig}; that code base keeps it elsewhere.
   */
  static async fromOriginal(
    file: string,
    config: Partial<AutoencoderKLCogVideoXConfig> = {},
  ): Promise<AutoencoderKLCogVideoX> {
    const full = completeConfig(FIELDS, config, { subject: CLASS_NAME }, "refuse");
    const vae = new AutoencoderKLCogVideoX(full, { subject: CLASS_NAME });
    const rename = (key: string) => satVaeKey(key, full.block_out_channels.length);
    return vae.#loaded(vae.loadWeights(file, { rename }));
  }

  async #loaded(loading: Promise<void>): Promise<this> {
    try {
      await loading;
    } catch (error) {
      this.dispose();
      throw error;
    }
    return this;
  }

  /** Writes `config.json` and the weights into a folder that diffusers reads. */
  async savePretrained(folder: string, options: SaveOptions = {}): Promise<void> {
    await this.saveWeights(folder, options);
    await writeConfig(folder, CLASS_NAME, this.config);
  }

  /** How many pixels of height and width become one latent pixel. */
  get spatialCompressionRatio(): number {
    return spatialCompressionRatioOf(this.config);
  }

  /** Encodes and decodes the samples of a batch one after another, to save memory. */
  enableSlicing(): void {
    this.useSlicing = true;
  }

  disableSlicing(): void {
    this.useSlicing = false;
  }

  /**
   * Encodes and decodes frames larger than a tile in overlapping tiles, which changes the result slightly.
   * Omitted options keep their values.
   * @throws InputError when a tile is no larger than its overlap.
   */
  enableTiling(options: TilingOptions = {}): void {
    const height = options.tileSampleMinHeight || this.#tileHeight;
    const width = options.tileSampleMinWidth || this.#tileWidth;
    const overlapHeight = options.tileOverlapFactorHeight || this.#overlapHeight;
    const overlapWidth = options.tileOverlapFactorWidth || this.#overlapWidth;
    for (const [name, size, overlap] of [
      ["Height", height, overlapHeight],
      ["Width", width, overlapWidth],
    ] as const) {
      const latent = Math.trunc(size / this.spatialCompressionRatio);
      if (!Number.isSafeInteger(size) || Math.trunc(latent * (1 - overlap)) < 1)
        throw new InputError(
          `enableTiling: tiles of tileSampleMin${name} ${size} and tileOverlapFactor${name} ${overlap} are too small`,
        );
    }
    [this.#tileHeight, this.#tileWidth] = [height, width];
    [this.#overlapHeight, this.#overlapWidth] = [overlapHeight, overlapWidth];
    this.useTiling = true;
  }

  disableTiling(): void {
    this.useTiling = false;
  }

  /** A tile's height in pixels. */
  get tileSampleMinHeight(): number {
    return this.#tileHeight;
  }

  /** A tile's width in pixels. */
  get tileSampleMinWidth(): number {
    return this.#tileWidth;
  }

  /** Calls `hook` with the output of every named module, like PyTorch's forward hooks; the returned function removes it. */
  registerForwardHook(hook: ForwardHook): () => void {
    this.#hooks.add(hook);
    return () => this.#hooks.delete(hook);
  }

  /**
   * Encodes a clip or, as one frame, an image.
   * @param x [B, in_channels, F, H, W], in [-1, 1]. F frames give ceil(F / 4) latent frames when F is 8n or 8n + 1.
   * @returns the distribution of the latents, [B, latent_channels, f, H / 8, W / 8], before any scaling factor.
   * @throws InputError for another shape.
   */
  encode(x: tf.Tensor5D): { latentDist: DiagonalGaussianDistribution } {
    const moments = this.#code("encode", x, frameCalls(x.shape[2], SAMPLE_FRAMES_PER_CALL));
    return { latentDist: new DiagonalGaussianDistribution(moments) };
  }

  /**
   * Decodes latents.
   * @param z [B, latent_channels, f, h, w], already divided by the scaling factor.
   * @returns [B, out_channels, F, 8h, 8w], about in [-1, 1], not clamped. f latent frames give 4f - 3 frames when f is
   *   odd, 4f when it is even.
   * @throws InputError for another shape.
   */
  decode(z: tf.Tensor5D): { sample: tf.Tensor5D } {
    return { sample: this.#code("decode", z, frameCalls(z.shape[2], LATENT_FRAMES_PER_CALL)) };
  }

  /** Encodes and decodes. */
  forward(
    sample: tf.Tensor5D,
    {
      generator,
    }: {
      /** Samples the posterior; without it its mode is decoded. */
      readonly generator?: RandomGenerator;
    } = {},
  ): { sample: tf.Tensor5D } {
    return tf.tidy(() => {
      const { latentDist } = this.encode(sample);
      return this.decode(generator ? latentDist.sample({ generator }) : latentDist.mode());
    });
  }

  /**
   * Encodes a clip that does not fit in memory: takes pieces of any number of frames as they come and yields each group's
   * latent frames as soon as they are known. Joined together they equal those of {@link encode}.
   * @param pieces tensors [B, in_channels, n, H, W]; they are disposed here.
   * @throws InputError when the pieces hold more or fewer than `numFrames` frames.
   */
  async *encodeStream(
    pieces: Iterable<tf.Tensor5D> | AsyncIterable<tf.Tensor5D>,
    { numFrames }: StreamOptions,
  ): AsyncGenerator<DiagonalGaussianDistribution, void, undefined> {
    for await (const moments of this.#stream("encode", pieces, numFrames, SAMPLE_FRAMES_PER_CALL))
      yield new DiagonalGaussianDistribution(moments);
  }

  /** Decodes latents group by group, the counterpart of {@link encodeStream}: each group yields 8 frames, the first up to 9. */
  decodeStream(
    pieces: Iterable<tf.Tensor5D> | AsyncIterable<tf.Tensor5D>,
    { numFrames }: StreamOptions,
  ): AsyncGenerator<tf.Tensor5D, void, undefined> {
    return this.#stream("decode", pieces, numFrames, LATENT_FRAMES_PER_CALL);
  }

  async *#stream(
    direction: Direction,
    pieces: Iterable<tf.Tensor5D> | AsyncIterable<tf.Tensor5D>,
    numFrames: number,
    framesPerCall: number,
  ): AsyncGenerator<tf.Tensor5D, void, undefined> {
    const caches = new Map<string, ConvCache>();
    const groups = regroup(pieces, frameCalls(numFrames, framesPerCall));
    try {
      for await (const group of groups) {
        let coded: tf.Tensor5D;
        try {
          coded = this.#code(direction, group, [group.shape[2]], caches);
        } finally {
          group.dispose();
        }
        yield coded;
      }
    } finally {
      await groups.return();
      for (const cache of caches.values()) cache.dispose();
    }
  }

  /**
   * Encodes or decodes the frames of some calls: sample by sample with slicing, tile by tile with tiling.
   * @param caches what each sample's and tile's convolutions remember between calls, if more calls follow.
   */
  #code(
    direction: Direction,
    x: tf.Tensor5D,
    calls: readonly number[],
    caches?: Map<string, ConvCache>,
  ): tf.Tensor5D {
    this.#check(direction, x);
    const [batch, , , height, width] = x.shape;
    const { tile, grid } = this.#tileGrid(direction);
    const useTiles = this.useTiling && (height > tile[0] || width > tile[1]);
    const cacheOf = (key: string): ConvCache | undefined => {
      if (caches && !caches.has(key)) caches.set(key, new ConvCache());
      return caches?.get(key);
    };
    const codeSamples = (x: tf.Tensor5D, sample: number) =>
      tf.tidy(() => {
        const layout = new FrameLayout(x.shape[0], calls);
        const codePart = (part: tf.Tensor4D, index: number) =>
          this.#codePart(direction, part, layout, cacheOf(`${sample}/${index}`));
        const frames = toFrames(x);
        return fromFrames(useTiles ? tiled(frames, grid, codePart) : codePart(frames, 0), x.shape[0]);
      });
    if (!this.useSlicing || batch === 1) return codeSamples(x, 0);
    return tf.tidy(() =>
      tf.concat(tf.split<tf.Tensor5D>(x, batch).map((sample, i) => codeSamples(sample, i))),
    );
  }

  #codePart(direction: Direction, x: tf.Tensor4D, layout: FrameLayout, cache?: ConvCache): tf.Tensor4D {
    const hook =
      this.#hooks.size > 0
        ? (...seen: Parameters<NonNullable<CoderContext["hook"]>>) => this.#callHooks(...seen)
        : undefined;
    const context: CoderContext = { wholeClipBytes: this.wholeClipBytes, cache, hook };
    const smallest = this.spatialCompressionRatio;
    const [, height, width] = x.shape;
    if (direction === "encode" && (height < smallest || width < smallest))
      throw new InputError(
        `encode: tiling leaves a tile of ${height}x${width} pixels, smaller than ${smallest}x${smallest}`,
        { hint: "choose other tiles" },
      );
    const compute = () => {
      if (direction === "encode") {
        const moments = this.#encoder.forward(x, layout, context);
        return this.#quantConv ? this.#quantConv.forward(moments) : moments;
      }
      return this.#decoder.forward(this.#postQuantConv ? this.#postQuantConv.forward(x) : x, layout, context);
    };
    return this.compute(() => tf.tidy(compute));
  }

  #callHooks(module: string, output: tf.Tensor4D, layout: FrameLayout): void {
    tf.tidy(() => {
      const public5d = fromFrames(output, layout.batch);
      for (const hook of this.#hooks) hook(module, public5d, layout.calls);
    });
  }

  #tileGrid(direction: Direction): { tile: readonly [number, number]; grid: TileGrid } {
    const pixels = [this.#tileHeight, this.#tileWidth] as const;
    const latents = [
      Math.trunc(pixels[0] / this.spatialCompressionRatio),
      Math.trunc(pixels[1] / this.spatialCompressionRatio),
    ] as const;
    const [input, output] = direction === "encode" ? [pixels, latents] : [latents, pixels];
    const overlap = [this.#overlapHeight, this.#overlapWidth] as const;
    const blend = [Math.trunc(output[0] * overlap[0]), Math.trunc(output[1] * overlap[1])] as const;
    return {
      tile: input,
      grid: {
        tile: input,
        step: [Math.trunc(input[0] * (1 - overlap[0])), Math.trunc(input[1] * (1 - overlap[1]))],
        blend,
        keep: [output[0] - blend[0], output[1] - blend[1]],
      },
    };
  }

  #check(direction: Direction, x: tf.Tensor5D): void {
    const name = direction === "encode" ? "x" : "z";
    const channels = direction === "encode" ? this.config.in_channels : this.config.latent_channels;
    const smallest = direction === "encode" ? this.spatialCompressionRatio : 1;
    const wanted = `${direction}: ${name} must be [B, ${channels}, F, H, W]`;
    if (x.rank !== 5 || x.shape[1] !== channels) throw new InputError(`${wanted}, found [${x.shape}]`);
    if (x.shape.some((size) => size < 1))
      throw new InputError(`${wanted} with no empty axis, found [${x.shape}]`);
    if (x.shape[3] < smallest || x.shape[4] < smallest)
      throw new InputError(`${wanted} with H and W of at least ${smallest}, found [${x.shape}]`);
  }
}

type Direction = "encode" | "decode";

/** Frames of each call: `perCall`; the remainder is added to the first call. */
function frameCalls(frames: number, perCall: number): number[] {
  if (!Number.isSafeInteger(frames) || frames < 1)
    throw new InputError(`expected a clip of at least 1 frame, found ${frames} frames`);
  const count = Math.max(Math.floor(frames / perCall), 1);
  return Array.from({ length: count }, (_, i) => (i === 0 ? frames - (count - 1) * perCall : perCall));
}

/** Cuts and joins pieces along the frames into groups of the given sizes. Disposes the pieces. */
async function* regroup(
  pieces: Iterable<tf.Tensor5D> | AsyncIterable<tf.Tensor5D>,
  sizes: readonly number[],
): AsyncGenerator<tf.Tensor5D, void, undefined> {
  const total = sizes.reduce((sum, n) => sum + n, 0);
  let held: tf.Tensor5D[] = [];
  let heldFrames = 0;
  let seen = 0;
  let next = 0;
  try {
    for await (const piece of pieces) {
      held.push(piece);
      if (piece.rank !== 5) throw new InputError(`expected pieces [B, C, F, H, W], found [${piece.shape}]`);
      heldFrames += piece.shape[2];
      seen += piece.shape[2];
      if (seen > total) throw new InputError(`numFrames is ${total}, but at least ${seen} frames came`);
      while (next < sizes.length && heldFrames >= sizes[next]!) {
        const size = sizes[next++]!;
        const [group, rest] = tf.tidy(() => {
          const joined = tf.concat(held, 2);
          const rest = heldFrames - size;
          return [
            tf.slice(joined, [0, 0, 0, 0, 0], [-1, -1, size, -1, -1]),
            rest > 0 ? tf.slice(joined, [0, 0, size, 0, 0], [-1, -1, rest, -1, -1]) : undefined,
          ];
        });
        tf.dispose(held);
        held = rest ? [rest] : [];
        heldFrames -= size;
        yield group!;
      }
    }
    if (seen < total) throw new InputError(`numFrames is ${total}, but only ${seen} frames came`);
  } finally {
    tf.dispose(held);
  }
}

/** @throws ConfigError if keys contradict each other. */
function coderConfig(config: AutoencoderKLCogVideoXConfig, where: ConfigOrigin): CoderConfig {
  const {
    block_out_channels: channels,
    down_block_types: down,
    up_block_types: up,
    norm_num_groups: groups,
  } = config;
  if (channels.length === 0 || down.length !== channels.length || up.length !== channels.length)
    throw new ConfigError(
      `block_out_channels, down_block_types and up_block_types must be equally long, found ${channels.length}, ${down.length} and ${up.length}`,
      where,
    );
  const uneven = channels.find((n) => n % groups !== 0);
  if (uneven !== undefined)
    throw new ConfigError(`norm_num_groups ${groups} must divide block_out_channels, found ${uneven}`, where);
  if (!(config.temporal_compression_ratio >= 1))
    throw new ConfigError(
      `temporal_compression_ratio must be at least 1, found ${config.temporal_compression_ratio}`,
      where,
    );
  return {
    blockOutChannels: channels,
    layersPerBlock: config.layers_per_block,
    latentChannels: config.latent_channels,
    temporalLevels: Math.trunc(Math.log2(config.temporal_compression_ratio)),
    groups,
    eps: config.norm_eps,
    activation: config.act_fn,
  };
}
