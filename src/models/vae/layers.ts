/**
 * The layers of CogVideoX's VAE (CogVideoX, arXiv 2408.06072, section 2.1), named as in diffusers.
 * Tensors are [frames * batch, height, width, channels]; see {@link FrameLayout}.
 */
import { ACTIVATIONS, type ActivationName } from "../../engine/ops/activations.js";
import { causalConv3d, conv2d, downsample2d, historyAfter, upsample2d } from "../../engine/ops/conv/conv.js";
import { heldConv3d } from "../../engine/ops/conv/held-conv.js";
import { groupNorm } from "../../engine/ops/group-norm/group-norm.js";
import { sum } from "../../engine/ops/sum.js";
import { resizeNearest } from "../../engine/ops/windows.js";
import * as tf from "../../engine/tf.js";
import {
  ones,
  type Parameter,
  type ParameterOptions,
  type ParameterScope,
  torchDefault,
  zeros,
} from "../../nn/module.js";
import { type ConvCache, type FrameLayout, poolFrames, repeatFrames } from "./frames.js";

/** What one pass of the encoder or the decoder, over the frames of some calls, hands through its layers. */
export interface CoderContext {
  /** Features of the whole clip up to this size are computed for all calls at once. */
  readonly wholeClipBytes: number;
  /** What the convolutions remember; present if there are calls before or after. */
  readonly cache?: ConvCache;
  /** Called with the output of every named module. */
  readonly hook?: (module: string, output: tf.Tensor4D, layout: FrameLayout) => void;
}

/** A module's name without the trailing dot of its scope. */
const nameOf = (scope: ParameterScope): string => scope.prefix.slice(0, -1);

/** A 3D convolution that sees no later frames. Frames are padded with zeros; the first frame is repeated before itself. */
export class CausalConv3d {
  readonly name: string;
  readonly #kernel: Parameter;
  readonly #bias: Parameter;

  constructor(scope: ParameterScope, inChannels: number, outChannels: number, size = 3) {
    this.name = nameOf(scope);
    const inner = scope.module("CogVideoXCausalConv3d").child("conv").module("CogVideoXSafeConv3d");
    const init = torchDefault(inChannels * size ** 3);
    const shape = [outChannels, inChannels, size, size, size];
    this.#kernel = inner.parameter("weight", shape, { init, permutation: [2, 3, 4, 1, 0], hold: "kernel" });
    this.#bias = inner.parameter("bias", [outChannels], { init });
  }

  forward(x: tf.Tensor4D, layout: FrameLayout, { cache, hook }: CoderContext): tf.Tensor4D {
    const options = { batch: layout.batch, history: cache?.get(this.#kernel) };
    const bias = this.#bias.value as tf.Tensor1D;
    const held = this.#kernel.heldKernel;
    const output = held
      ? heldConv3d(x, held, bias, options)
      : this.#kernel.use((kernel) => causalConv3d(x, kernel as tf.Tensor5D, bias, options));
    cache?.set(this.#kernel, historyAfter(x, this.#kernel.shape[2]! - 1, options));
    hook?.(this.name, output, layout);
    return output;
  }
}

/** A convolution of size 1 in time and space, which is a matrix product at each pixel. */
export class PointwiseConv {
  readonly #kernel: Parameter;
  readonly #bias: Parameter;

  constructor(
    scope: ParameterScope,
    readonly inChannels: number,
    readonly outChannels: number,
  ) {
    scope.module("CogVideoXSafeConv3d");
    const init = torchDefault(inChannels);
    const shape = [outChannels, inChannels, 1, 1, 1];
    this.#kernel = scope.parameter("weight", shape, { init, permutation: [2, 3, 4, 1, 0], hold: "numbers" });
    this.#bias = scope.parameter("bias", [outChannels], { init });
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() => {
      const shape: [number, number, number, number] = [1, 1, this.inChannels, this.outChannels];
      return this.#kernel.use((kernel) =>
        conv2d(x, tf.reshape(kernel, shape), this.#bias.value as tf.Tensor1D),
      );
    });
  }
}

class Conv2d {
  readonly kernel: Parameter;
  readonly bias: Parameter;

  constructor(scope: ParameterScope, channels: number, hold: ParameterOptions["hold"]) {
    scope.module("Conv2d");
    const init = torchDefault(channels * 9);
    this.kernel = scope.parameter("weight", [channels, channels, 3, 3], {
      init,
      permutation: [2, 3, 1, 0],
      hold,
    });
    this.bias = scope.parameter("bias", [channels], { init });
  }
}

/** A norm and the activation that follows, which most engines compute faster together. */
interface Norm {
  forward(
    x: tf.Tensor4D,
    layout: FrameLayout,
    context: CoderContext,
    activation: ActivationName,
    latent?: Latent,
  ): tf.Tensor4D;
}

export class GroupNorm implements Norm {
  readonly name: string;
  readonly groups: number;
  readonly eps: number;
  readonly scale: Parameter;
  readonly shift: Parameter;

  constructor(scope: ParameterScope, channels: number, groups: number, eps: number) {
    scope.module("GroupNorm", () => [`num_groups=${groups}`, `eps=${eps.toExponential()}`]);
    this.name = nameOf(scope);
    this.groups = groups;
    this.eps = eps;
    this.scale = scope.parameter("weight", [channels], { init: ones });
    this.shift = scope.parameter("bias", [channels], { init: zeros });
  }

  forward(
    x: tf.Tensor4D,
    layout: FrameLayout,
    context: CoderContext,
    activation: ActivationName,
  ): tf.Tensor4D {
    const { groups, eps } = this;
    const { batch, calls } = layout;
    return normalize(activation, context.hook && ((z) => context.hook?.(this.name, z, layout)), (silu) =>
      groupNorm(x, this.scale.value as tf.Tensor1D, this.shift.value as tf.Tensor1D, {
        groups,
        eps,
        batch,
        calls,
        silu,
      }),
    );
  }
}

/** Norm and activation as one operation, if there is one and no hook wants to see the value between them. */
function normalize(
  activation: ActivationName,
  hook: ((normalized: tf.Tensor4D) => void) | undefined,
  norm: (silu: boolean) => tf.Tensor4D,
): tf.Tensor4D {
  if (!hook && (activation === "silu" || activation === "swish")) return norm(true);
  return replace(norm(false), (z) => {
    hook?.(z);
    return ACTIVATIONS[activation](z);
  });
}

/**
 * Group norm whose scale and shift come from the latent at each place (Zheng et al. 2022, arXiv 2209.09002).
 * The latent is resized to the features' size by nearest neighbour. Since that only copies pixels, the two convolutions
 * of size 1 run before it, on the small latent.
 */
export class SpatialNorm implements Norm {
  readonly name: string;
  readonly #norm: GroupNorm;
  readonly #scale: PointwiseConv;
  readonly #shift: PointwiseConv;

  constructor(scope: ParameterScope, channels: number, latentChannels: number, groups: number) {
    scope.module("CogVideoXSpatialNorm3D");
    this.name = nameOf(scope);
    this.#norm = new GroupNorm(scope.child("norm_layer"), channels, groups, 1e-6);
    const conv = (name: string) => scope.child(name).module("CogVideoXCausalConv3d").child("conv");
    this.#scale = new PointwiseConv(conv("conv_y"), latentChannels, channels);
    this.#shift = new PointwiseConv(conv("conv_b"), latentChannels, channels);
  }

  forward(
    x: tf.Tensor4D,
    layout: FrameLayout,
    context: CoderContext,
    activation: ActivationName,
    latent?: Latent,
  ): tf.Tensor4D {
    if (!latent) throw new Error(`${this.name}: a spatial norm needs a latent`);
    const { groups, eps, scale, shift } = this.#norm;
    const { batch, calls } = layout;
    const times = timesLonger(latent.layout, layout);
    const toFeatures = (z: tf.Tensor4D) => repeatFrames(z, latent.layout, times);
    return tf.tidy(() => {
      // (normal * scale + shift) * y + b = normal * (scale * y) + (shift * y + b)
      const y = this.#scale.forward(latent.x);
      const b = this.#shift.forward(latent.x);
      const factors = toFeatures(tf.mul(y, scale.value));
      const offsets = toFeatures(tf.add(tf.mul(y, shift.value), b));
      return normalize(activation, context.hook && ((z) => context.hook?.(this.name, z, layout)), (silu) =>
        groupNorm(x, factors, offsets, { groups, eps, batch, calls, silu }),
      );
    });
  }
}

/** The latent that spatial norms look at. */
export interface Latent {
  readonly x: tf.Tensor4D;
  readonly layout: FrameLayout;
}

/** {@link upsample2d}, however the kernel is held. */
function upsample(x: tf.Tensor4D, kernel: Parameter, bias: tf.Tensor1D): tf.Tensor4D {
  const held = kernel.heldKernel;
  if (!held) return kernel.use((value) => upsample2d(x, value as tf.Tensor4D, bias));
  return tf.tidy(() =>
    heldConv3d(resizeNearest(x, 2 * x.shape[1], 2 * x.shape[2]), held, bias, { batch: 1 }),
  );
}

/** How many feature frames belong to one latent frame. */
function timesLonger(latent: FrameLayout, features: FrameLayout): number {
  const odd = latent.calls[0]! % 2;
  const from = latent.calls[0]! - odd;
  return from === 0 ? 1 : (features.calls[0]! - odd) / from;
}

export interface ResnetOptions {
  readonly groups: number;
  readonly eps: number;
  readonly activation: ActivationName;
  /** Channels of the latent that the decoder's spatial norms see. */
  readonly spatialNormDim?: number;
}

/** Norm, activation and convolution, twice, beside a shortcut. */
export class ResnetBlock3D {
  readonly name: string;
  readonly #norm1: Norm;
  readonly #norm2: Norm;
  readonly #conv1: CausalConv3d;
  readonly #conv2: CausalConv3d;
  readonly #shortcut: PointwiseConv | undefined;
  readonly #activation: ActivationName;

  constructor(scope: ParameterScope, inChannels: number, outChannels: number, options: ResnetOptions) {
    const { groups, eps, activation, spatialNormDim } = options;
    const norm = (name: string, channels: number): Norm =>
      spatialNormDim === undefined
        ? new GroupNorm(scope.child(name), channels, groups, eps)
        : new SpatialNorm(scope.child(name), channels, spatialNormDim, groups);
    scope.module("CogVideoXResnetBlock3D");
    this.name = nameOf(scope);
    this.#activation = activation;
    this.#norm1 = norm("norm1", inChannels);
    this.#norm2 = norm("norm2", outChannels);
    this.#conv1 = new CausalConv3d(scope.child("conv1"), inChannels, outChannels);
    this.#conv2 = new CausalConv3d(scope.child("conv2"), outChannels, outChannels);
    if (inChannels !== outChannels)
      this.#shortcut = new PointwiseConv(scope.child("conv_shortcut"), inChannels, outChannels);
  }

  forward(x: tf.Tensor4D, layout: FrameLayout, context: CoderContext, latent?: Latent): tf.Tensor4D {
    const output = tf.tidy(() => {
      let h = this.#norm1.forward(x, layout, context, this.#activation, latent);
      h = replace(h, (h) => this.#conv1.forward(h, layout, context));
      h = replace(h, (h) => this.#norm2.forward(h, layout, context, this.#activation, latent));
      h = replace(h, (h) => this.#conv2.forward(h, layout, context));
      return sum(h, this.#shortcut ? this.#shortcut.forward(x) : x);
    });
    context.hook?.(this.name, output, layout);
    return output;
  }
}

/** Computes the next value and disposes the last one at once: big intermediates must not wait for the end of a tidy. */
export function replace<T extends tf.Tensor>(value: T, next: (value: T) => T): T {
  const result = next(value);
  value.dispose();
  return result;
}

/** A block's residual blocks, the first of which changes the number of channels. */
function resnetStack(
  scope: ParameterScope,
  inChannels: number,
  outChannels: number,
  options: ResnetOptions & { readonly layers: number },
): ResnetBlock3D[] {
  return Array.from({ length: options.layers }, (_, i) => {
    const channels = i === 0 ? inChannels : outChannels;
    return new ResnetBlock3D(scope.child("resnets").child(i), channels, outChannels, options);
  });
}

/** Residual blocks, then half the height and width, and with `compressTime` half the frames. */
export class DownBlock3D {
  readonly name: string;
  readonly #resnets: ResnetBlock3D[];
  readonly #downsampler: Conv2d | undefined;
  readonly #compressTime: boolean;

  constructor(
    scope: ParameterScope,
    inChannels: number,
    outChannels: number,
    options: ResnetOptions & {
      readonly layers: number;
      readonly downsample: boolean;
      readonly compressTime: boolean;
    },
  ) {
    scope.module("CogVideoXDownBlock3D");
    this.name = nameOf(scope);
    this.#resnets = resnetStack(scope, inChannels, outChannels, options);
    if (options.downsample) {
      const downsampler = scope.child("downsamplers").child(0).module("CogVideoXDownsample3D");
      this.#downsampler = new Conv2d(downsampler.child("conv"), outChannels, "numbers");
    }
    this.#compressTime = options.downsample && options.compressTime;
  }

  outputLayout(layout: FrameLayout): FrameLayout {
    return this.#compressTime ? layout.pooled : layout;
  }

  forward(x: tf.Tensor4D, layout: FrameLayout, context: CoderContext): tf.Tensor4D {
    const output = tf.tidy(() => {
      let h = x.clone();
      for (const resnet of this.#resnets) h = replace(h, (h) => resnet.forward(h, layout, context));
      if (this.#compressTime) h = replace(h, (h) => poolFrames(h, layout));
      const { kernel, bias } = this.#downsampler ?? {};
      if (kernel && bias)
        h = replace(h, (h) =>
          kernel.use((value) => downsample2d(h, value as tf.Tensor4D, bias.value as tf.Tensor1D)),
        );
      return h;
    });
    context.hook?.(this.name, output, this.outputLayout(layout));
    return output;
  }
}

export class MidBlock3D {
  readonly name: string;
  readonly #resnets: ResnetBlock3D[];

  constructor(scope: ParameterScope, channels: number, options: ResnetOptions) {
    scope.module("CogVideoXMidBlock3D");
    this.name = nameOf(scope);
    this.#resnets = [0, 1].map(
      (i) => new ResnetBlock3D(scope.child("resnets").child(i), channels, channels, options),
    );
  }

  forward(x: tf.Tensor4D, layout: FrameLayout, context: CoderContext, latent?: Latent): tf.Tensor4D {
    const output = tf.tidy(() => {
      let h = x.clone();
      for (const resnet of this.#resnets) h = replace(h, (h) => resnet.forward(h, layout, context, latent));
      return h;
    });
    context.hook?.(this.name, output, layout);
    return output;
  }
}

/** Residual blocks with spatial norms, then twice the height and width, and with `compressTime` twice the frames. */
export class UpBlock3D {
  readonly name: string;
  readonly #resnets: ResnetBlock3D[];
  readonly #upsampler: Conv2d | undefined;
  readonly #compressTime: boolean;

  constructor(
    scope: ParameterScope,
    inChannels: number,
    outChannels: number,
    options: ResnetOptions & {
      readonly layers: number;
      readonly upsample: boolean;
      readonly compressTime: boolean;
    },
  ) {
    scope.module("CogVideoXUpBlock3D");
    this.name = nameOf(scope);
    this.#resnets = resnetStack(scope, inChannels, outChannels, options);
    if (options.upsample) {
      const upsampler = scope.child("upsamplers").child(0).module("CogVideoXUpsample3D");
      this.#upsampler = new Conv2d(upsampler.child("conv"), outChannels, "kernel");
    }
    this.#compressTime = options.upsample && options.compressTime;
  }

  outputLayout(layout: FrameLayout): FrameLayout {
    return this.#compressTime ? layout.doubled : layout;
  }

  forward(x: tf.Tensor4D, layout: FrameLayout, context: CoderContext, latent: Latent): tf.Tensor4D {
    const output = tf.tidy(() => {
      let h = x.clone();
      for (const resnet of this.#resnets) h = replace(h, (h) => resnet.forward(h, layout, context, latent));
      const { kernel, bias } = this.#upsampler ?? {};
      if (kernel && bias) h = replace(h, (h) => upsample(h, kernel, bias.value as tf.Tensor1D));
      // diffusers repeats the frames first and convolves each copy, with the same result.
      if (this.#compressTime) h = replace(h, (h) => repeatFrames(h, layout, 2));
      return h;
    });
    context.hook?.(this.name, output, this.outputLayout(layout));
    return output;
  }
}
