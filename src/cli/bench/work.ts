import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CogVideoXDPMScheduler } from "../../diffusion/dpm.js";
import { InputError } from "../../engine/errors.js";
import { variableGrads } from "../../engine/ops/tape.js";
import { RandomGenerator } from "../../engine/random.js";
import * as tf from "../../engine/tf.js";
import { trainingRotaryTables } from "../../models/transformer/rotary-positions.js";
import { CogVideoXTransformer3DModel } from "../../models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../models/vae/autoencoder.js";
import { Adam, clipFactor, gradNorm } from "../../train/optimizer.js";
import type { ModelDtype } from "../../weights/dtype.js";
import { loadFile } from "../../weights/safetensors.js";
import { UsageError } from "../errors.js";

/** What `peer_torch.py` wrote about its folder. */
export interface Manifest {
  readonly spec: {
    readonly lora: { readonly r: number; readonly lora_alpha: number; readonly target_modules: string[] };
    readonly adamw: {
      readonly lr: number;
      readonly betas: [number, number];
      readonly eps: number;
      readonly weight_decay: number;
      readonly max_grad_norm: number;
    };
    readonly scheduler: Record<string, unknown>;
    readonly vae: { readonly latent_channels: number };
    readonly transformer: { readonly out_channels: number; readonly text_embed_dim: number };
    readonly text_length: number;
    readonly timestep: number;
    readonly ofs: number;
  };
  readonly benchmarks: Readonly<Record<string, Benchmark>>;
}

export interface Benchmark {
  readonly kind: "encode" | "decode" | "forward" | "train";
  /** Frames, height and width of the model's input. */
  readonly sizes: readonly [number, number, number];
  /** Files in the folder; for sizes that the peer did not write, inputs are drawn here. */
  readonly inputs?: string;
  readonly expected?: string;
}

/** One run of a benchmark: resolves with its outputs once they are computed, not only queued. */
export type Work = () => Promise<Record<string, Float32Array>>;

/** @throws UsageError when the folder was not written by `peer_torch.py` */
export async function readManifest(folder: string): Promise<Manifest> {
  const file = join(folder, "manifest.json");
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) {
    const hint = `\`python3 test/bench/peer_torch.py --weights ${folder}\` writes the folder`;
    throw new UsageError("no such file", { file, hint });
  }
  return JSON.parse(text) as Manifest;
}

const KINDS = { vae_encode: "encode", vae_decode: "decode", transformer_forward: "forward" } as const;

/** A benchmark by its name: one of the folder's, or `vae_encode_81x64x64` and the like of any size. */
export function benchmarkOf({ benchmarks }: Manifest, name: string): Benchmark | undefined {
  if (Object.hasOwn(benchmarks, name)) return benchmarks[name];
  const [, kind, ...sizes] =
    /^(vae_encode|vae_decode|transformer_forward)_(\d+)x(\d+)x(\d+)$/.exec(name) ?? [];
  if (kind === undefined) return undefined;
  return { kind: KINDS[kind as keyof typeof KINDS], sizes: sizes.map(Number) as [number, number, number] };
}

async function inputsOf(
  folder: string,
  { spec }: Manifest,
  benchmark: Benchmark,
): Promise<Record<string, tf.Tensor>> {
  if (benchmark.inputs !== undefined) return await loadFile(join(folder, benchmark.inputs));
  const generator = new RandomGenerator(0);
  const [frames, height, width] = benchmark.sizes;
  if (benchmark.kind === "encode") {
    return {
      video: tf.tidy(() =>
        tf.clipByValue(tf.mul(generator.randn([1, 3, frames, height, width]), 0.5), -1, 1),
      ),
    };
  }
  if (benchmark.kind === "decode")
    return { latents: generator.randn([1, spec.vae.latent_channels, frames, height, width]) };
  const { out_channels: channels, text_embed_dim: textWidth } = spec.transformer;
  const latents = [1, frames, channels, height, width];
  return {
    latent: generator.randn(latents),
    noise: generator.randn(latents),
    image_latents: tf.zeros(latents),
    encoder_hidden_states: generator.randn([1, spec.text_length, textWidth]),
    timesteps: tf.tensor1d([spec.timestep], "int32"),
  };
}

/** Loads what a benchmark needs. The returned function does the timed work. */
export async function prepare(
  folder: string,
  manifest: Manifest,
  benchmark: Benchmark,
  gradientCheckpointing: boolean,
  dtype: ModelDtype,
): Promise<Work> {
  const { spec } = manifest;
  const inputs = await inputsOf(folder, manifest, benchmark);
  if (benchmark.kind === "encode" || benchmark.kind === "decode") {
    const vae = await AutoencoderKLCogVideoX.fromPretrained(join(folder, "vae"), { dtype });
    return benchmark.kind === "encode"
      ? () =>
          values({ moments: tf.tidy(() => vae.encode(inputs.video as tf.Tensor5D).latentDist.parameters) })
      : () => values({ video: tf.tidy(() => vae.decode(inputs.latents as tf.Tensor5D).sample) });
  }
  const transformer = await CogVideoXTransformer3DModel.fromPretrained(join(folder, "transformer"), {
    dtype,
  });
  const [frames, height, width] = benchmark.sizes;
  const imageRotaryEmb = trainingRotaryTables(transformer.config, { frames, height, width });
  const scheduler = CogVideoXDPMScheduler.fromConfig(spec.scheduler);
  const [timestep] = await inputs.timesteps!.data();
  const latent = inputs.latent as tf.Tensor5D;
  const noisy = scheduler.addNoise(latent, inputs.noise as tf.Tensor5D, [timestep!]);
  const hiddenStates = tf.concat([noisy, inputs.image_latents as tf.Tensor5D], 2);
  const encoderHiddenStates = inputs.encoder_hidden_states as tf.Tensor3D;
  const forward = () =>
    transformer.forward({
      hiddenStates,
      encoderHiddenStates,
      timestep: timestep!,
      ofs: spec.ofs,
      imageRotaryEmb,
    }).sample;
  if (benchmark.kind === "forward") return () => values({ sample: tf.tidy(forward) });

  const { r, lora_alpha: loraAlpha } = spec.lora;
  const { parameters } = await transformer.loadLoraAdapter(join(folder, "lora"), {
    loraAlpha: loraAlpha ?? r,
  });
  transformer.gradientCheckpointing = gradientCheckpointing;
  const { lr, betas, eps, weight_decay: weightDecay, max_grad_norm: maxGradNorm } = spec.adamw;
  const optimizer = new Adam("adamw", parameters.values(), { betas, eps, weightDecay });
  const variables = transformer.trainableVariables();
  const weight = 1 / (1 - scheduler.alphasCumprod[timestep!]!);
  return async () => {
    const { value, grads } = variableGrads(() => {
      const x0 = scheduler.getVelocity(forward(), noisy, [timestep!]);
      return tf.mul(tf.mean(tf.squaredDifference(x0, latent)), weight).asScalar();
    }, variables);
    const ordered = variables.map((variable) => grads[variable.name]!);
    const norm = gradNorm(ordered);
    optimizer.step(ordered, lr, clipFactor(norm, maxGradNorm));
    // The step is over when a weight can be read.
    await variables[0]!.data();
    const loss = (await value.data()) as Float32Array;
    tf.dispose([value, grads]);
    return { loss, grad_norm: Float32Array.of(norm) };
  };
}

async function values(outputs: Record<string, tf.Tensor>): Promise<Record<string, Float32Array>> {
  const read: Record<string, Float32Array> = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    read[name] = (await tensor.data()) as Float32Array;
    tensor.dispose();
  }
  return read;
}

/**
 * How far results are from what PyTorch computed in float32; undefined if that is not stored. `largest` is the largest
 * difference, relative to the largest value; `norm` is by the Euclidean norm, of the first result alone, as peer_torch.py has it.
 */
export async function differenceFromPeer(
  folder: string,
  benchmark: Benchmark,
  found: Record<string, Float32Array>,
): Promise<{ largest: number; norm: number } | undefined> {
  if (benchmark.expected === undefined) return undefined;
  const expected = await loadFile(join(folder, benchmark.expected)).catch(() => undefined);
  if (expected === undefined) return undefined;
  let worst = 0;
  let norm: number | undefined;
  for (const [name, value] of Object.entries(found)) {
    const reference = expected[name];
    if (reference === undefined) continue;
    const data = await reference.data();
    if (data.length !== value.length)
      throw new InputError(`${name}: expected ${data.length} values, found ${value.length}`);
    let [largest, apart, squares, differences] = [0, 0, 0, 0];
    for (let i = 0; i < data.length; i++) {
      largest = Math.max(largest, Math.abs(data[i]!));
      const difference = data[i]! - value[i]!;
      apart = Math.max(apart, Math.abs(difference));
      squares += data[i]! ** 2;
      differences += difference ** 2;
    }
    worst = Math.max(worst, apart / largest);
    norm ??= Math.sqrt(differences / squares);
  }
  tf.dispose(expected);
  return { largest: worst, norm: norm ?? 0 };
}
