/** The package's objects in a notebook: as a cell's last expression and by console.log, in a real kernel. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { startKernel } from "../../kernel/support.js";
import { projectRoot } from "../cli/project.js";

const kernel = await startKernel({ FIRSTFRAME_ENGINE: "cpu" });

async function bundle(expression: string): Promise<Record<string, string>> {
  const { outputs, reply, text } = await kernel.run(expression);
  assert.equal(reply.status, "ok", text);
  const last = outputs.at(-1);
  assert.ok(last?.output_type === "execute_result", `${expression}: ${text}`);
  return last.data as Record<string, string>;
}

async function printed(expression: string): Promise<string> {
  const { text, reply } = await kernel.run(`console.log(${expression})`);
  assert.equal(reply.status, "ok", text);
  return text.replace(/\n$/, "");
}

before(async () => {
  const { reply, text } = await kernel.run(`
    import * as ff from "firstframe";
    import { tf } from "firstframe";
    await ff.useEngine();
    const x = tf.tensor([[1, -2.5], [NaN, 4]]);
    const folder = ${JSON.stringify(join(projectRoot, "notebooks/models/procedural"))};
    const pipe = await ff.CogVideoXImageToVideoPipeline.fromPretrained(folder);
    const { clip } = ff.proceduralClip({ seed: 1, numFrames: 9, height: 32, width: 48 });
    const adapter = pipe.transformer.addAdapter(
      { r: 2, loraAlpha: 2, targetModules: ["to_q"] }, { generator: new ff.RandomGenerator(0) });
    const posterior = pipe.vae.encode(tf.zeros([1, 3, 1, 32, 32])).latentDist;`);
  assert.equal(reply.status, "ok", text);
});

describe("cells", () => {
  const shown: Record<string, RegExp> = {
    x: /^tensor\(\[\[ 1\.0000, -2\.5000\],\n {8}\[ {4}nan, {2}4\.0000\]\]\)$/,
    "tf.tensor([1, 2], [2], 'int32')": /^tensor\(\[1, 2\], dtype=int32\)$/,
    "tf.zeros([0, 3])": /^tensor\(\[\], size=\(0, 3\)\)$/,
    "tf.zeros([1, 24, 21, 16, 24])":
      /^tensor\(\[\[\[\[\[0\., 0\., 0\., {2}\.\.\., 0\., 0\., 0\.\],[\s\S]*shape=\[1, 24, 21, 16, 24\]\)$/,
    "tf.variable(tf.scalar(3))": /^tensor\(3\., requires_grad=True\)$/,
    "pipe.transformer.parameter('proj_out.bias')": /^Parameter containing:\ntensor\(\[/,
    pipe: /^CogVideoXImageToVideoPipeline \{\n {2}tokenizer: [\s\S]*\n {2}scheduler: CogVideoXDDIMScheduler, .*\n\}$/,
    "pipe.transformer": /^CogVideoXTransformer3DModel\( {2}# [\s\S]*: \d+ x CogVideoXBlock\(/,
    "pipe.vae": /^AutoencoderKLCogVideoX\( {2}# [\s\S]*\(encoder\): CogVideoXEncoder3D\(/,
    "pipe.textEncoder": /^T5EncoderModel\( {2}# [\s\S]*\(shared\): Embedding\(/,
    "pipe.tokenizer": /^T5Tokenizer\(vocab_size=\d+, /,
    "pipe.scheduler": /^CogVideoXDDIMScheduler \{\n {2}"_class_name": "CogVideoXDDIMScheduler",/,
    "pipe.vae.config": /^\{\n {2}in_channels: 3,\n/,
    "new ff.RandomGenerator(3)": /^RandomGenerator\(seed=3, state=/,
    adapter: /^LoraAdapter\( {2}# r=2, loraAlpha=2, /,
    posterior: /^DiagonalGaussianDistribution\(mean: \[1, 24, 1, 4, 4\], /,
    clip: /^Clip\(9 frames, 48 x 32, 16 fps, 0\.56 s\)$/,
  };
  for (const [expression, text] of Object.entries(shown)) {
    it(`show ${expression}`, async () => {
      const plain = (await bundle(expression))["text/plain"]!;
      assert.match(plain, text);
      assert.equal(await printed(expression), plain);
      if (!expression.endsWith("config")) assert.equal(await printed(`\`\${${expression}}\``), plain);
    });
  }

  it("play a clip with its caption, and show a picture below its numbers", async () => {
    const html = (await bundle("clip"))["text/html"]!;
    assert.match(html, /<img src="data:image\/webp;base64,.*<div>9 frames, 48 x 32, 16 fps, 0\.56 s<\/div>/);
    const picture = (await bundle("ff.imageTensor(clip)"))["text/html"]!;
    assert.match(
      picture,
      /^<div><pre>tensor\(\[\[\[[\s\S]*shape=\[3, 32, 48\]\)<\/pre><img src="data:image\/png/,
    );
  });

  it("show a disposed tensor, and objects inside of others", async () => {
    assert.equal(
      (await bundle("const gone = tf.ones([2]); gone.dispose(); gone"))["text/plain"],
      "tensor(disposed, shape=[2], dtype=float32)",
    );
    assert.match(
      (await bundle("({ clip, x })"))["text/plain"]!,
      /^\{\n {2}clip: Clip\(9 frames[\s\S]*\n {2}x: tensor\(\[\[/,
    );
    assert.match((await bundle("[[[[pipe]]]]"))["text/plain"]!, /\[ \[ \[ \[.*Array\] \] \] \]|\[Array\]/);
  });

  it("leave nothing behind", async () => {
    const count = async () => Number((await bundle("tf.memory().numTensors"))["text/plain"]);
    const before = await count();
    for (const expression of [
      "x",
      "pipe",
      "clip",
      "adapter",
      "pipe.transformer.parameter('proj_out.weight')",
    ]) {
      await bundle(expression);
      await printed(expression);
    }
    assert.equal(await count(), before);
  });
});
