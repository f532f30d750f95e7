import * as tf from "../../engine/tf.js";
import type { Parameter } from "../../nn/module.js";

/**
 * What the VAE's layers must know about the frames in a tensor [frames * batch, height, width, channels], frame index slowest.
 *
 * diffusers gives the encoder and the decoder a few frames per call. Convolutions remember the last frames of the previous
 * call, so calls make no difference to them; group norm, temporal pooling and the resized latent of the spatial norm do
 * depend on the calls. One tensor can hold several calls, one after another.
 */
export class FrameLayout {
  constructor(
    readonly batch: number,
    /** Frames of each call, in order. Apart from single frames, only the first may be odd. */
    readonly calls: readonly number[],
  ) {}

  get frames(): number {
    return this.calls.reduce((sum, n) => sum + n, 0);
  }

  /** After temporal pooling: pairs become one frame; the first frame of an odd call stays. */
  get pooled(): FrameLayout {
    return new FrameLayout(
      this.batch,
      this.calls.map((n) => Math.ceil(n / 2)),
    );
  }

  /** After temporal upsampling: every frame becomes two, except the first of an odd call. */
  get doubled(): FrameLayout {
    return new FrameLayout(
      this.batch,
      this.calls.map((n) => (n % 2 === 1 ? 2 * n - 1 : 2 * n)),
    );
  }
}

/** Averages pairs of frames, call by call; the first frame of an odd call stays as it is. */
export function poolFrames(x: tf.Tensor4D, { batch, calls }: FrameLayout): tf.Tensor4D {
  return tf.tidy(() => {
    const pieces: tf.Tensor4D[] = [];
    for (const { start, odd, frames } of segments(calls)) {
      if (odd) pieces.push(tf.slice(x, [start * batch], [batch]));
      const pairs = Math.floor(frames / 2);
      if (pairs === 0) continue;
      const rest = tf.slice(x, [(start + odd) * batch], [2 * pairs * batch]);
      const [, height, width, channels] = x.shape;
      const [early, late] = tf.split(tf.reshape(rest, [pairs, 2, -1]), 2, 1);
      pieces.push(tf.reshape(tf.mul(tf.add(early!, late!), 0.5), [pairs * batch, height, width, channels]));
    }
    return pieces.length === 1 ? pieces[0]! : tf.concat(pieces);
  });
}

/** Repeats every frame `times` times, call by call; the first frame of an odd call stays single. */
export function repeatFrames(x: tf.Tensor4D, { batch, calls }: FrameLayout, times: number): tf.Tensor4D {
  if (times === 1) return x.clone();
  return tf.tidy(() => {
    const pieces: tf.Tensor4D[] = [];
    for (const { start, odd, frames } of segments(calls)) {
      if (odd) pieces.push(tf.slice(x, [start * batch], [batch]));
      const count = frames - odd;
      if (count === 0) continue;
      const [, height, width, channels] = x.shape;
      const rest = tf.reshape(tf.slice(x, [(start + odd) * batch], [count * batch]), [count, 1, -1]);
      const copies = tf.concat(
        Array.from({ length: times }, () => rest),
        1,
      );
      pieces.push(tf.reshape(copies, [times * count * batch, height, width, channels]));
    }
    return pieces.length === 1 ? pieces[0]! : tf.concat(pieces);
  });
}

/** Calls that can be treated together: an even call joins the segment before it, an odd call begins a new one. */
function* segments(calls: readonly number[]): Generator<{ start: number; odd: 0 | 1; frames: number }> {
  for (let i = 0, start = 0; i < calls.length; ) {
    const odd = calls[i]! % 2 === 1 ? 1 : 0;
    let frames = calls[i++]!;
    while (i < calls.length && calls[i]! % 2 === 0) frames += calls[i++]!;
    yield { start, odd, frames };
    start += frames;
  }
}

/** The frames that each causal convolution remembers between calls, by its kernel. */
export class ConvCache {
  readonly #history = new Map<Parameter, tf.Tensor4D>();

  get(kernel: Parameter): tf.Tensor4D | undefined {
    return this.#history.get(kernel);
  }

  set(kernel: Parameter, history: tf.Tensor4D): void {
    this.#history.get(kernel)?.dispose();
    this.#history.set(kernel, tf.keep(history));
  }

  dispose(): void {
    for (const history of this.#history.values()) history.dispose();
    this.#history.clear();
  }
}

/** [B, C, F, H, W], as in diffusers, to [F * B, H, W, C]. */
export function toFrames(x: tf.Tensor5D): tf.Tensor4D {
  const [batch, channels, frames, height, width] = x.shape;
  return tf.tidy(() =>
    tf.reshape(tf.transpose(x, [2, 0, 3, 4, 1]), [frames * batch, height, width, channels]),
  );
}

/** [F * B, H, W, C] to [B, C, F, H, W]. */
export function fromFrames(x: tf.Tensor4D, batch: number): tf.Tensor5D {
  const [rows, height, width, channels] = x.shape;
  return tf.tidy(() =>
    tf.transpose(tf.reshape(x, [rows / batch, batch, height, width, channels]), [1, 4, 0, 2, 3]),
  );
}
