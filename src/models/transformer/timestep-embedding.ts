import * as tf from "../../engine/tf.js";

export interface TimestepEmbeddingOptions {
  /** Cosines before sines. Default false. */
  flipSinToCos?: boolean;
  /** How much less than half the width the frequencies are spread over. Default 1. */
  downscaleFreqShift?: number;
  /** Factor on the angles. Default 1. */
  scale?: number;
  /** The longest period. Default 10000. */
  maxPeriod?: number;
}

/**
 * Sinusoidal timestep embeddings (Ho et al. 2020, arXiv 2006.11239). The angles are float32, as in diffusers'
 * `get_timestep_embedding`, so at timestep 999 both carry the same rounding (up to 6e-5).
 *
 * @param timesteps one per sample; fractions are allowed.
 * @param embeddingDim the width; an odd one ends with a zero.
 * @returns [timesteps, embeddingDim]
 */
export function getTimestepEmbedding(
  timesteps: ArrayLike<number>,
  embeddingDim: number,
  options: TimestepEmbeddingOptions = {},
): tf.Tensor2D {
  const { flipSinToCos = false, downscaleFreqShift = 1, scale = 1, maxPeriod = 10000 } = options;
  const f32 = Math.fround;
  const half = Math.floor(embeddingDim / 2);
  const table = new Float32Array(timesteps.length * embeddingDim);
  const [sinAt, cosAt] = flipSinToCos ? [half, 0] : [0, half];
  for (let k = 0; k < half; k++) {
    const exponent = f32(f32(f32(-Math.log(maxPeriod)) * k) / (half - downscaleFreqShift));
    const frequency = f32(Math.exp(exponent));
    for (let row = 0; row < timesteps.length; row++) {
      const angle = f32(scale * f32(f32(timesteps[row]!) * frequency));
      table[row * embeddingDim + sinAt + k] = Math.sin(angle);
      table[row * embeddingDim + cosAt + k] = Math.cos(angle);
    }
  }
  return tf.tensor2d(table, [timesteps.length, embeddingDim], "float32");
}
