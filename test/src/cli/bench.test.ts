import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { Cli } from "./cli.js";
import { projectRoot } from "./project.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

it("firstframe bench times a folder's models and says how far they are from the stored outputs", async () => {
  const golden = join(projectRoot, "test/golden");
  for (const [name, from] of [
    ["vae", "components/vae"],
    ["transformer", "components/t15"],
  ]) {
    cpSync(join(golden, from!), cli.path(`weights/${name}`), { recursive: true });
  }
  cli.write("weights/manifest.json", {
    spec: {
      vae: { latent_channels: 4 },
      transformer: { out_channels: 4, text_embed_dim: 12 },
      text_length: 6,
      timestep: 437,
      ofs: 2,
      scheduler: { prediction_type: "v_prediction", timestep_spacing: "trailing" },
    },
    benchmarks: {},
  });
  const only = "vae_encode_9x32x32,vae_decode_3x4x4,transformer_forward_4x4x6";
  const bench = (...more: string[]) => cli.run("bench", "--weights", "weights", "--repeat", "1", ...more);
  const { code, stdout, stderr } = await bench("--only", only, "--json");
  assert.equal(code, 0, stderr);
  const { benchmarks, env } = JSON.parse(stdout) as {
    benchmarks: Record<string, { seconds: number; peak_rss_mb: number; repeat: number }>;
    env: { threads: number };
  };
  assert.deepEqual(Object.keys(benchmarks), only.split(","));
  assert.equal(env.threads, 2);
  for (const { seconds, peak_rss_mb, repeat } of Object.values(benchmarks)) {
    assert.ok(seconds > 0 && peak_rss_mb > 50 && repeat === 1);
  }
  const unknown = await bench("--only", "nothing*");
  assert.deepEqual([unknown.code, unknown.stderr.includes("--only nothing*: expected some of")], [2, true]);
  const empty = await cli.run("bench", "--weights", "nowhere");
  assert.deepEqual([empty.code, empty.stderr.includes("nowhere/manifest.json: no such file")], [2, true]);
});
