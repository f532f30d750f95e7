import { InputError } from "../../engine/errors.js";
import * as tf from "../../engine/tf.js";
import type { ForwardContext } from "../../nn/forward-context.js";
import type { Linear, Linears } from "../../nn/linear.js";
import type { Parameter, ParameterScope } from "../../nn/module.js";
import { get3dSincosPosEmbed } from "./sincos-positions.js";

export interface PatchEmbedOptions {
  readonly patchSize: number;
  /** Frames a patch spans; null for CogVideoX 1.0, where each frame is patched alone. */
  readonly patchSizeT: number | null;
  readonly inChannels: number;
  readonly embedDim: number;
  readonly textEmbedDim: number;
  readonly bias: boolean;
  readonly sampleWidth: number;
  readonly sampleHeight: number;
  readonly sampleFrames: number;
  readonly temporalCompressionRatio: number;
  readonly maxTextSeqLength: number;
  readonly spatialInterpolationScale: number;
  readonly temporalInterpolationScale: number;
  /** Adds sine and cosine positions (models without rotary ones). */
  readonly usePositions: boolean;
  /** The positions at the configured size are a table stored with the weights. */
  readonly useLearnedPositions: boolean;
}

/** Latent frames, rows and columns. */
type GridSize = readonly [frames: number, height: number, width: number];

/** Turns text embeddings and latents into tokens. */
export class CogVideoXPatchEmbed {
  readonly name: string;
  readonly #options: PatchEmbedOptions;
  readonly #proj: Linear;
  readonly #textProj: Linear;
  readonly #learned: Parameter | null;
  /** The computed table that was used last; kept on the host, so that no tensor stays in the engine. */
  #positions: { key: string; values: Float32Array } | null = null;

  constructor(scope: ParameterScope, linears: Linears, options: PatchEmbedOptions) {
    const { patchSize, patchSizeT, inChannels, embedDim } = options;
    scope.module("CogVideoXPatchEmbed");
    this.name = scope.prefix.slice(0, -1);
    this.#options = options;
    this.#learned = options.useLearnedPositions
      ? scope.parameter("pos_embedding", [1, this.#tableRows(this.#sampleGrid()), embedDim], {
          trainable: false,
          init: (values) => values.set(this.#sincosTable(this.#sampleGrid())),
        })
      : null;
    this.#proj =
      patchSizeT === null
        ? linears.create(scope.child("proj"), inChannels * patchSize ** 2, embedDim, {
            bias: options.bias,
            patchShape: [inChannels, patchSize, patchSize],
          })
        : linears.create(scope.child("proj"), inChannels * patchSize ** 2 * patchSizeT, embedDim);
    this.#textProj = linears.create(scope.child("text_proj"), options.textEmbedDim, embedDim);
  }

  /**
   * @param text [batch, text tokens, textEmbedDim]
   * @param latents [batch, frames, channels, height, width]
   * @returns text tokens, then video tokens: [batch, tokens, embedDim]
   */
  forward(text: tf.Tensor3D, latents: tf.Tensor5D, context: ForwardContext): tf.Tensor3D {
    return tf.tidy(() => {
      const { usePositions, useLearnedPositions } = this.#options;
      const textTokens = this.#textProj.forward(text, context);
      const patches = patchify(latents, this.#options.patchSize, this.#options.patchSizeT);
      const videoTokens = this.#proj.forward(patches, context);
      let tokens = tf.concat([textTokens, videoTokens], 1);
      if (usePositions || useLearnedPositions) tokens = tf.add(tokens, this.#table(tokens, latents));
      context.hook?.(this.name, tokens);
      return tokens;
    });
  }

  /** The position table for these latents, [1, tokens, embedDim]. */
  #table(tokens: tf.Tensor3D, latents: tf.Tensor5D): tf.Tensor3D {
    const { sampleHeight, sampleWidth, maxTextSeqLength, embedDim, patchSize } = this.#options;
    const [, frames, , height, width] = latents.shape;
    const unfit = this.#learned && learnedSizeProblem({ sampleHeight, sampleWidth }, { height, width });
    if (unfit) throw new InputError(`hiddenStates: ${unfit}`);
    const grid: GridSize = [frames, Math.floor(height / patchSize), Math.floor(width / patchSize)];
    const rows = this.#tableRows(grid);
    if (rows !== tokens.shape[1]) {
      throw new InputError(
        `encoderHiddenStates: expected ${maxTextSeqLength} text tokens (max_text_seq_length, which the position table is for), found ${tokens.shape[1] - (rows - maxTextSeqLength)}`,
      );
    }
    const [sampleFrames] = this.#sampleGrid();
    if (this.#learned && this.#isSampleFrames(frames, sampleFrames)) {
      return this.#learned.value as unknown as tf.Tensor3D;
    }
    return tf.tensor3d(this.#sincosTable(grid), [1, rows, embedDim]);
  }

  /** The stored table is for exactly `sample_frames` pixel frames. */
  #isSampleFrames(frames: number, sampleFrames: number): boolean {
    const { temporalCompressionRatio: ratio } = this.#options;
    return frames === sampleFrames && (frames - 1) * ratio + 1 === this.#options.sampleFrames;
  }

  #sampleGrid(): GridSize {
    const { sampleFrames, sampleHeight, sampleWidth, temporalCompressionRatio, patchSize } = this.#options;
    return [
      Math.floor((sampleFrames - 1) / temporalCompressionRatio) + 1,
      Math.floor(sampleHeight / patchSize),
      Math.floor(sampleWidth / patchSize),
    ];
  }

  #tableRows([frames, height, width]: GridSize): number {
    return this.#options.maxTextSeqLength + frames * height * width;
  }

  /** Zeros for the text tokens, then sines and cosines. */
  #sincosTable(grid: GridSize): Float32Array {
    const key = grid.join("x");
    if (this.#positions?.key === key) return this.#positions.values;
    const { embedDim, maxTextSeqLength } = this.#options;
    const [frames, height, width] = grid;
    const values = new Float32Array(this.#tableRows(grid) * embedDim);
    const video = get3dSincosPosEmbed({
      embedDim,
      spatialSize: [width, height],
      temporalSize: frames,
      spatialInterpolationScale: this.#options.spatialInterpolationScale,
      temporalInterpolationScale: this.#options.temporalInterpolationScale,
    });
    values.set(video.values, maxTextSeqLength * embedDim);
    this.#positions = { key, values };
    return values;
  }
}

/** Why learned positions are of no use for latents of a size; undefined if they fit. */
export function learnedSizeProblem(
  { sampleHeight, sampleWidth }: { readonly sampleHeight: number; readonly sampleWidth: number },
  { height, width }: { readonly height: number; readonly width: number },
): string | undefined {
  if (height === sampleHeight && width === sampleWidth) return undefined;
  return `this model's learned positions are for ${sampleHeight} x ${sampleWidth} latents (sample_height x sample_width), found ${height} x ${width}`;
}

/**
 * Cuts latents into patches; a patch's values are ordered channel, frame, row, column.
 *
 * @param latents [batch, frames, channels, height, width], sizes that the patches divide.
 * @returns [batch, patches, values of a patch]
 */
export function patchify(latents: tf.Tensor5D, patchSize: number, patchSizeT: number | null): tf.Tensor3D {
  const [batch, frames, channels, height, width] = latents.shape;
  const [p, pt] = [patchSize, patchSizeT ?? 1];
  const [f, h, w] = [frames / pt, height / p, width / p];
  return tf.tidy(() => {
    // Two steps, because not every backend transposes seven axes.
    const byChannel =
      pt === 1
        ? latents
        : tf.transpose(tf.reshape(latents, [batch * f, pt, channels, height * width]), [0, 2, 1, 3]);
    const cut = tf.reshape(byChannel, [batch * f, channels * pt, h, p, w, p]);
    return tf.reshape(tf.transpose(cut, [0, 2, 4, 1, 3, 5]), [batch, f * h * w, channels * pt * p * p]);
  });
}

/** The inverse of {@link patchify}. */
export function unpatchify(
  patches: tf.Tensor3D,
  [frames, height, width]: readonly [number, number, number],
  patchSize: number,
  patchSizeT: number | null,
): tf.Tensor5D {
  const [batch, , values] = patches.shape;
  const [p, pt] = [patchSize, patchSizeT ?? 1];
  const [f, h, w] = [frames / pt, height / p, width / p];
  const channels = values / (pt * p * p);
  return tf.tidy(() => {
    const cut = tf.reshape(patches, [batch * f, h, w, channels * pt, p, p]);
    const maps = tf.transpose(cut, [0, 3, 1, 4, 2, 5]);
    const byFrame =
      pt === 1
        ? maps
        : tf.transpose(tf.reshape(maps, [batch * f, channels, pt, height * width]), [0, 2, 1, 3]);
    return tf.reshape(byFrame, [batch, frames, channels, height, width]);
  });
}
