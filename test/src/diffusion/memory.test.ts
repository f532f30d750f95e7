/** What sampling is said to take, by configurations alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { estimateSamplingMemory } from "../../../src/diffusion/index.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";

test("tiles make the decoder's share smaller, for pictures that are larger than one", () => {
  const vae = AutoencoderKLCogVideoX.fromConfig({ sample_height: 480, sample_width: 720 });
  const transformer = CogVideoXTransformer3DModel.fromConfig({
    ...{ num_attention_heads: 2, attention_head_dim: 64, num_layers: 1, in_channels: 32, out_channels: 16 },
    ...{ sample_height: 96, sample_width: 170, patch_size_t: 2, use_rotary_positional_embeddings: true },
  });
  const decoding = (height: number, width: number) =>
    estimateSamplingMemory({
      ...{ textEncoder: null, vae, transformer, dtype: "float32" },
      ...{ numFrames: 81, height, width },
    }).decoding;
  const [large, small] = [decoding(768, 1360), decoding(240, 360)];
  vae.enableTiling();
  assert.deepEqual([vae.tileSampleMinHeight, vae.tileSampleMinWidth], [240, 360]);
  const video = 81 * 768 * 1360 * 3 * 4;
  assert.ok(decoding(768, 1360) < large / 5);
  assert.ok(decoding(768, 1360) > video);
  assert.equal(decoding(240, 360), small);
  vae.enableTiling({ tileSampleMinHeight: 120, tileSampleMinWidth: 160 });
  assert.ok(decoding(240, 360) < small / 2);
});
