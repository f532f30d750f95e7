/** The encoder and the decoder: stages that run call by call, or over all calls at once. */
import * as tf from "../../engine/tf.js";
import type { ParameterScope } from "../../nn/module.js";
import { ConvCache, FrameLayout } from "./frames.js";
import {
  CausalConv3d,
  type CoderContext,
  DownBlock3D,
  GroupNorm,
  type Latent,
  MidBlock3D,
  type ResnetOptions,
  replace,
  SpatialNorm,
  UpBlock3D,
} from "./layers.js";

/** The part of the VAE's configuration that shapes encoder and decoder. */
export interface CoderConfig extends ResnetOptions {
  readonly blockOutChannels: readonly number[];
  readonly layersPerBlock: number;
  readonly latentChannels: number;
  /** How many of the blocks change the number of frames. */
  readonly temporalLevels: number;
}

/** A part of a coder between two places where calls can be joined or split. */
interface Stage {
  /** Channels of the widest features inside. */
  readonly channels: number;
  readonly forward: (
    x: tf.Tensor4D,
    layout: FrameLayout,
    context: CoderContext,
    latent?: Latent,
  ) => tf.Tensor4D;
  readonly outputLayout?: (layout: FrameLayout) => FrameLayout;
  /** Factor on height and width. */
  readonly scale?: number;
}

/** Pixels to moments: [F * B, H, W, in] to [f * B, h, w, 2 * latent]. */
export class Encoder3D {
  readonly #stages: readonly Stage[];

  constructor(scope: ParameterScope, inChannels: number, config: CoderConfig) {
    scope.module("CogVideoXEncoder3D");
    const { blockOutChannels: channels, latentChannels, groups } = config;
    const last = channels.length - 1;
    const convIn = new CausalConv3d(scope.child("conv_in"), inChannels, channels[0]!);
    const downBlocks = channels.map(
      (out, i) =>
        new DownBlock3D(scope.child("down_blocks").child(i), channels[Math.max(i - 1, 0)]!, out, {
          ...config,
          layers: config.layersPerBlock,
          downsample: i < last,
          compressTime: i < config.temporalLevels,
        }),
    );
    const midBlock = new MidBlock3D(scope.child("mid_block"), channels[last]!, config);
    const normOut = new GroupNorm(scope.child("norm_out"), channels[last]!, groups, 1e-6);
    const convOut = new CausalConv3d(scope.child("conv_out"), channels[last]!, 2 * latentChannels);

    this.#stages = [
      { channels: channels[0]!, forward: (x, layout, context) => convIn.forward(x, layout, context) },
      ...downBlocks.map((block, i) => ({
        channels: channels[i]!,
        forward: (x: tf.Tensor4D, layout: FrameLayout, context: CoderContext) =>
          block.forward(x, layout, context),
        outputLayout: (layout: FrameLayout) => block.outputLayout(layout),
        scale: i < last ? 1 / 2 : 1,
      })),
      {
        channels: channels[last]!,
        forward: (x, layout, context) => {
          let h = midBlock.forward(x, layout, context);
          h = replace(h, (h) => normOut.forward(h, layout, context, "silu"));
          return convOut.forward(h, layout, context);
        },
      },
    ];
  }

  forward(x: tf.Tensor4D, layout: FrameLayout, context: CoderContext): tf.Tensor4D {
    return runStages(this.#stages, x, layout, context);
  }
}

/** Latents to pixels: [f * B, h, w, latent] to [F * B, H, W, out]. */
export class Decoder3D {
  readonly #stages: readonly Stage[];

  constructor(scope: ParameterScope, outChannels: number, config: CoderConfig) {
    scope.module("CogVideoXDecoder3D");
    const { latentChannels, groups } = config;
    const channels = config.blockOutChannels.toReversed();
    const last = channels.length - 1;
    const convIn = new CausalConv3d(scope.child("conv_in"), latentChannels, channels[0]!);
    const midBlock = new MidBlock3D(scope.child("mid_block"), channels[0]!, {
      ...config,
      spatialNormDim: latentChannels,
    });
    const upBlocks = channels.map(
      (out, i) =>
        new UpBlock3D(scope.child("up_blocks").child(i), channels[Math.max(i - 1, 0)]!, out, {
          ...config,
          spatialNormDim: latentChannels,
          layers: config.layersPerBlock + 1,
          upsample: i < last,
          compressTime: i < config.temporalLevels,
        }),
    );
    const normOut = new SpatialNorm(scope.child("norm_out"), channels[last]!, latentChannels, groups);
    const convOut = new CausalConv3d(scope.child("conv_out"), channels[last]!, outChannels);

    this.#stages = [
      {
        channels: channels[0]!,
        forward: (z, layout, context, latent) =>
          replace(convIn.forward(z, layout, context), (h) => midBlock.forward(h, layout, context, latent)),
      },
      ...upBlocks.map((block, i) => ({
        channels: Math.max(channels[i]!, channels[Math.max(i - 1, 0)]!),
        forward: (x: tf.Tensor4D, layout: FrameLayout, context: CoderContext, latent?: Latent) =>
          block.forward(x, layout, context, latent!),
        outputLayout: (layout: FrameLayout) => block.outputLayout(layout),
        scale: i < last ? 2 : 1,
      })),
      {
        channels: channels[last]!,
        forward: (x, layout, context, latent) => {
          const h = normOut.forward(x, layout, context, "silu", latent);
          return replace(h, (h) => convOut.forward(h, layout, context));
        },
      },
    ];
  }

  forward(z: tf.Tensor4D, layout: FrameLayout, context: CoderContext): tf.Tensor4D {
    return runStages(this.#stages, z, layout, context, { x: z, layout });
  }
}

/** Runs stages that take all calls at once as they are, and runs the others one call after another. */
function runStages(
  stages: readonly Stage[],
  x: tf.Tensor4D,
  layout: FrameLayout,
  context: CoderContext,
  latent?: Latent,
): tf.Tensor4D {
  return tf.tidy(() => {
    let h = x.clone();
    let at = layout;
    const wholes = takesWholeClip(stages, x, layout, context.wholeClipBytes);
    for (let from = 0, to = 0; from < stages.length; from = to) {
      while (to < stages.length && wholes[to] === wholes[from]) to++;
      const group = stages.slice(from, to);
      const before = at;
      const runGroup = (x: tf.Tensor4D, layout: FrameLayout, context: CoderContext, latent?: Latent) => {
        at = layout;
        return tf.tidy(() => {
          let h = x.clone();
          for (const { forward, outputLayout } of group) {
            h = replace(h, (h) => forward(h, at, context, latent));
            at = outputLayout?.(at) ?? at;
          }
          return h;
        });
      };
      h = replace(h, (h) =>
        wholes[from] ? runGroup(h, at, context, latent) : callByCall(runGroup, h, at, context, latent),
      );
      at = group.reduce((layout, { outputLayout }) => outputLayout?.(layout) ?? layout, before);
    }
    return h;
  });
}

/**
 * Which stages take all calls at once: those whose features for the whole clip stay below a limit. The numbers are the
 * same (convolutions see the same frames, norms keep each call's statistics), with fewer and larger operations. Above the
 * limit one call's features suffice to keep the machine busy, and memory matters more.
 */
function takesWholeClip(
  stages: readonly Stage[],
  x: tf.Tensor4D,
  layout: FrameLayout,
  limit: number,
): boolean[] {
  let [, height, width] = x.shape;
  let at = layout;
  return stages.map(({ channels, outputLayout, scale = 1 }) => {
    const pixels = at.frames * at.batch * height * width * Math.max(scale, 1) ** 2;
    at = outputLayout?.(at) ?? at;
    height = Math.floor(height * scale);
    width = Math.floor(width * scale);
    return layout.calls.length === 1 || pixels * channels * 4 <= limit;
  });
}

function callByCall(
  forward: (x: tf.Tensor4D, layout: FrameLayout, context: CoderContext, latent?: Latent) => tf.Tensor4D,
  x: tf.Tensor4D,
  layout: FrameLayout,
  context: CoderContext,
  latent?: Latent,
): tf.Tensor4D {
  const cache = context.cache ?? new ConvCache();
  try {
    const parts: tf.Tensor4D[] = [];
    let start = 0;
    let latentStart = 0;
    for (const [i, frames] of layout.calls.entries()) {
      const one = new FrameLayout(layout.batch, [frames]);
      const latentFrames = latent?.layout.calls[i] ?? 0;
      parts.push(
        tf.tidy(() => {
          const part = framesOf(x, layout.batch, start, frames);
          const latentPart = latent && {
            x: framesOf(latent.x, layout.batch, latentStart, latentFrames),
            layout: new FrameLayout(layout.batch, [latentFrames]),
          };
          return forward(part, one, { ...context, cache }, latentPart);
        }),
      );
      start += frames;
      latentStart += latentFrames;
    }
    return tf.concat(parts);
  } finally {
    if (!context.cache) cache.dispose();
  }
}

function framesOf(x: tf.Tensor4D, batch: number, start: number, frames: number): tf.Tensor4D {
  return tf.slice(x, [start * batch], [frames * batch]);
}
