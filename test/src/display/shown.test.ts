/** What console.log, cells and string templates show of the package's objects. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { inspect } from "node:util";
import sharp from "sharp";
import { jupyterDisplay } from "../../../src/display/mime.js";
import {
  Adam,
  AutoencoderKLCogVideoX,
  animate,
  Clip,
  CogVideoXDDIMScheduler,
  CogVideoXDPMScheduler,
  CogVideoXImageToVideoPipeline,
  CogVideoXTransformer3DModel,
  figure,
  frames,
  image,
  interact,
  Progress,
  RandomGenerator,
  summary,
  T5EncoderModel,
  T5Tokenizer,
  Trainer,
  TrainingPanel,
  table,
  tf,
  useEngine,
} from "../../../src/index.js";
import { projectRoot } from "../cli/project.js";
import { tinyData, tinyModels } from "../train/tiny.js";
import { decode, shown } from "./decode.js";

const components = join(projectRoot, "test/golden/components");
const procedural = join(projectRoot, "notebooks/models/procedural");
/** What record.py wrote. */
const recorded = JSON.parse(
  readFileSync(join(projectRoot, "test/src/display/shown/expected.json"), "utf8"),
) as { modules: Record<string, Record<string, string>>; schedulers: Record<string, string> };

const plain = (value: unknown) => inspect(value, { colors: false });

async function bundleOf(value: object): Promise<Record<string, string>> {
  assert.ok(jupyterDisplay in value, "a notebook shows nothing of it");
  return shown(value as Parameters<typeof shown>[0]);
}

/** All ways of showing it give this text; nothing of what it holds leaks out where it stands deep in another object. */
async function says(value: object, text: string): Promise<void> {
  assert.equal(plain(value), text);
  assert.equal(`${value}`, text);
  assert.equal((await bundleOf(value))["text/plain"], text);
  const deep = inspect(value, { depth: -1 });
  assert.match(deep, /^\[[^\n]*\]$/);
  assert.ok(!plain([[[[value]]]]).includes(text.length > 60 ? text : "\0"));
}

before(() => useEngine("cpu"));

/** Modules of a tree by their names, ranges written out, as record.py has them. */
function modulesOf(tree: string): Record<string, string> {
  const found: Record<string, string> = {};
  let open: { indent: number; paths: string[] }[] = [];
  for (const line of tree.split("\n")) {
    const [, spaces, name = "", kind, count] =
      /^( *)(?:\(([\w-]+)\): )?(?:\d+ x )?(\w+)\(.*# ([\d,]+)/.exec(line) ?? [];
    if (kind === undefined) continue;
    const indent = spaces!.length;
    open = open.filter((parent) => parent.indent < indent);
    const [, first, last] = /^(\d+)-(\d+)$/.exec(name) ?? [];
    const names =
      first === undefined
        ? [name]
        : Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => String(Number(first) + i));
    const paths = (open.at(-1)?.paths ?? [""]).flatMap((parent) =>
      names.map((own) => (parent === "" ? own : `${parent}.${own}`)),
    );
    open.push({ indent, paths });
    for (const path of paths) found[path] = `${kind} ${count!.replaceAll(",", "")}`;
  }
  return found;
}

describe("models", () => {
  const load = {
    vae: () => AutoencoderKLCogVideoX.fromPretrained(join(components, "vae")),
    t15: () => CogVideoXTransformer3DModel.fromPretrained(join(components, "t15")),
    t10_learned: () => CogVideoXTransformer3DModel.fromPretrained(join(components, "t10_learned")),
    t5: () => T5EncoderModel.fromPretrained(join(components, "t5")),
  };
  for (const [name, model] of Object.entries(load)) {
    it(`${name} is a tree of diffusers' modules, with their sizes`, async () => {
      const loaded = await model();
      assert.deepEqual(modulesOf(plain(loaded)), recorded.modules[name]);
      await says(loaded, `${loaded}`);
      loaded.dispose();
    });
  }

  it("the real transformer's blocks are one entry", () => {
    const transformer = CogVideoXTransformer3DModel.fromConfig(
      {
        num_layers: 42,
        num_attention_heads: 2,
        attention_head_dim: 16,
        time_embed_dim: 8,
        ofs_embed_dim: 8,
        text_embed_dim: 8,
      },
      new RandomGenerator(0),
    );
    const text = plain(transformer);
    assert.match(text, /^ {4}\(0-41\): 42 x CogVideoXBlock\( {2}# [\d,]+ each$/m);
    assert.ok(text.split("\n").length < 60, text);
    assert.match(text, /^CogVideoXTransformer3DModel\( {2}# ([\d,]+) parameters, \1 trainable\n/);
    assert.match(text, /\(norm_q\): LayerNorm\(weight=\[16\], bias=\[16\], eps=1e-6\) {2}# 32$/m);
    transformer.dispose();
    assert.match(
      plain(transformer),
      /^CogVideoXTransformer3DModel\( {2}# [\d,]+ parameters without values\n/,
    );
  });

  it("say what adapters are on them, and what of them trains", async () => {
    const transformer = await load.t15();
    const adapter = transformer.addAdapter(
      { r: 2, loraAlpha: 4, targetModules: ["to_q"] },
      { adapterName: "style", generator: new RandomGenerator(1) },
    );
    const size = [...adapter.parameters.values()].reduce((sum, parameter) => sum + parameter.size, 0);
    assert.match(plain(transformer), new RegExp(`^\\S+  # [\\d,]+ parameters, ${size} trainable\n`));
    assert.match(plain(transformer), /\(to_q\): Linear\(weight=\[32, 32\], bias=\[32\], lora=style\)/);
    assert.match(
      plain(adapter),
      new RegExp(`^LoraAdapter\\(  # r=2, loraAlpha=4, 2 layers, ${size} parameters\n`),
    );
    assert.match(plain(adapter), /\(lora_A\): Linear\(weight=\[2, 32\]\) {2}# 64/);
    await says(adapter, `${adapter}`);
    transformer.dispose();
  });

  it("their parameters print as PyTorch's, in the layout of the files", async () => {
    const transformer = await load.t15();
    const name = "time_embedding.linear_1.weight";
    const parameter = transformer.parameter(name);
    const stored = tf.tensor(await parameter.values(), [...parameter.shape]);
    const tensors = tf.memory().numTensors;
    await says(
      parameter,
      `Parameter containing:\n${`${stored}`.slice(0, -1)}, requires_grad=True)`.replace(
        /, requires/,
        plain(parameter).includes(",\n       requires") ? ",\n       requires" : ", requires",
      ),
    );
    assert.equal(tf.memory().numTensors, tensors);
    transformer.dispose();
    assert.equal(plain(parameter), `Parameter ${name} [${parameter.shape.join(", ")}] without values`);
    stored.dispose();
  });
});

describe("schedulers, configurations and pipelines", () => {
  for (const [name, expected] of Object.entries(recorded.schedulers)) {
    it(`${name} prints as in diffusers`, async () => {
      const type = expected.startsWith("CogVideoXDDIM") ? CogVideoXDDIMScheduler : CogVideoXDPMScheduler;
      const scheduler = await type.fromPretrained(join(components, name));
      // Python writes 1.0 where JavaScript writes 1; the release is that of the files here.
      const comparable = (text: string) =>
        text.replace(/(\d)\.0(,?)$/gm, "$1$2").replace(/"_diffusers_version": "[\d.]+"/, "");
      assert.equal(comparable(plain(scheduler)), comparable(expected.trimEnd()));
      await says(scheduler, `${scheduler}`);
    });
  }

  it("a configuration is a plain object", async () => {
    const { config } = await AutoencoderKLCogVideoX.fromPretrained(join(components, "vae"));
    const text = plain(config);
    for (const [key, value] of Object.entries(config)) {
      assert.ok(text.includes(`${key}: `), key);
      if (typeof value === "number" || typeof value === "boolean")
        assert.ok(text.includes(`${key}: ${value}`), key);
    }
  });

  it("a pipeline has a line a component, by diffusers' names", async () => {
    const pipeline = await CogVideoXImageToVideoPipeline.fromPretrained(procedural);
    const count = (model: { numParameters(): number }) => model.numParameters().toLocaleString("en-US");
    const sized = (model: { numParameters(): number }) =>
      `${count(model)} parameters, ${count(model)} trainable`;
    const { textEncoder, vae, transformer, tokenizer } = pipeline;
    await says(
      pipeline,
      [
        "CogVideoXImageToVideoPipeline {",
        `  tokenizer: T5Tokenizer, ${tokenizer!.vocabSize} tokens`,
        `  text_encoder: T5EncoderModel, ${sized(textEncoder!)}`,
        `  vae: AutoencoderKLCogVideoX, ${sized(vae)}`,
        `  transformer: CogVideoXTransformer3DModel, ${sized(transformer)}`,
        "  scheduler: CogVideoXDDIMScheduler, 1,000 training timesteps, v_prediction",
        "}",
      ].join("\n"),
    );
    await says(tokenizer!, `T5Tokenizer(vocab_size=${tokenizer!.vocabSize}, pad_token_id=0, eos_token_id=1)`);
    const without = await CogVideoXImageToVideoPipeline.fromPretrained(procedural, {
      textEncoder: null,
      tokenizer: null,
    });
    assert.match(plain(without), /\n {2}tokenizer: null\n {2}text_encoder: null\n/);
    pipeline.dispose();
    without.dispose();
  });
});

const clip = (numFrames = 5, fps = 8) =>
  new Clip({
    // Frames that differ: equal ones become one.
    data: Uint8Array.from({ length: numFrames * 16 * 24 * 3 }, (_, i) =>
      i % 3 === 0 ? 200 - 40 * Math.floor(i / (16 * 24 * 3)) : [0, 40, 90][i % 3]!,
    ),
    width: 24,
    height: 16,
    fps,
  });

describe("clips", () => {
  it("play, with a caption of their frames, size, rate and length", async () => {
    await says(clip(), "Clip(5 frames, 24 x 16, 8 fps, 0.63 s)");
    await says(clip(1, 29.97), "Clip(1 frame, 24 x 16, 29.97 fps, 0.03 s)");
    const { "text/html": html, "image/png": png } = await bundleOf(clip());
    assert.match(html!, /<div>5 frames, 24 x 16, 8 fps, 0\.63 s<\/div>/);
    const webp = /data:image\/webp;base64,([^"]+)" width="24"/.exec(html!)![1]!;
    const { pages, height, delay } = await sharp(Buffer.from(webp, "base64"), { animated: true }).metadata();
    assert.deepEqual([pages, height, delay], [5, 80, [125, 125, 125, 125, 125]]);
    const still = await decode(png!);
    assert.deepEqual([still.width, still.height, still.at(3, 3)], [24, 16, [200, 40, 90]]);
  });

  it("that can't be drawn still say what they are", async () => {
    const tall = 20_000; // WebP ends at 16,383 pixels
    const large = new Clip({ data: new Uint8Array(tall * 2 * 3), width: 2, height: tall, fps: 8 });
    assert.deepEqual(await bundleOf(large), { "text/plain": "Clip(1 frame, 2 x 20000, 8 fps, 0.13 s)" });
  });
});

describe("tensors that are pictures", () => {
  const ramp = (shape: number[], low: number, high: number) => {
    const size = tf.util.sizeFromShape(shape);
    return tf.tensor(
      Float32Array.from({ length: size }, (_, i) => low + ((high - low) * i) / (size - 1)),
      shape,
    );
  };

  for (const [shape, low, high, black] of [
    [[3, 8, 10], -1, 1, -1],
    [[1, 3, 8, 10], -0.5, 0.9, -1],
    [[8, 10, 3], 0, 1, 0],
    [[1, 3, 4, 8, 10], 0.1, 0.7, 0],
    [[1, 3, 1, 8, 10], -0.1, 0.7, -1],
  ] as const) {
    it(`[${shape.join(", ")}] from ${low} to ${high} has its numbers, and the picture below`, async () => {
      const x = ramp([...shape], low, high);
      const bundle = await bundleOf(x);
      assert.deepEqual(Object.keys(bundle).sort(), ["text/html", "text/plain"]);
      assert.equal(bundle["text/plain"], plain(x));
      const html = bundle["text/html"]!;
      assert.ok(html.startsWith(`<div><pre>${plain(x)}</pre><img `), html.slice(0, 300));
      assert.ok(html.includes(`${black} is black, 1 is white`));
      x.dispose();
    });
  }

  it("draws the pixels where they are", async () => {
    // Red grows downwards, green to the right, blue is 1: in all three layouts.
    const [height, width] = [16, 24];
    const pixel = (y: number, x: number) => [y / height, x / width, 1];
    const last = tf.tensor(
      Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => pixel(y, x))),
    );
    const first = tf.transpose(last, [2, 0, 1]);
    for (const tensor of [last, first, tf.expandDims(first), tf.reshape(first, [1, 3, 1, height, width])]) {
      const html = (await bundleOf(tensor))["text/html"]!;
      const png = await decode(/data:image\/png;base64,([^"]+)"/.exec(html)![1]!);
      const scale = png.width / width;
      for (const [y, x] of [
        [2, 3],
        [12, 5],
        [7, 20],
      ] as const) {
        const found = png.at((x + 0.5) * scale, (y + 0.5) * scale);
        pixel(y, x).forEach((value, color) => {
          assert.ok(Math.abs(found[color]! - 255 * value) < 16, `${tensor.shape}: ${y}, ${x}: ${found}`);
        });
      }
    }
  });

  it("nothing else is taken for a picture", async () => {
    const not: Record<string, tf.Tensor> = {
      "a latent": ramp([1, 16, 4, 8, 10], -1, 1),
      "a kernel": ramp([64, 3, 3, 3], -1, 1),
      small: ramp([3, 7, 10], 0, 1),
      "colours on both sides": ramp([3, 8, 3], 0, 1),
      "a batch of two": ramp([2, 3, 8, 10], 0, 1),
      "gray, or a matrix": ramp([16, 16], 0, 1),
      "values above": ramp([3, 8, 10], 0, 1.01),
      "values below": ramp([3, 8, 10], -1.01, 1),
      bytes: tf.cast(ramp([3, 8, 10], 0, 255), "int32"),
      "one value": tf.zeros([3, 8, 10]),
      "not a number": tf.concat([ramp([3, 8, 9], 0, 1), tf.fill([3, 8, 1], Number.NaN)], 2),
      "more than is looked at": tf.zeros([3, 2048, 2048]),
      "no frames": tf.zeros([1, 3, 0, 8, 10]),
    };
    for (const [name, tensor] of Object.entries(not)) {
      assert.deepEqual(Object.keys(await bundleOf(tensor)), ["text/plain"], name);
    }
    tf.dispose(not);
  });

  it("disposed right after the cell, it is still shown; disposed before, it says so", async () => {
    const x = ramp([3, 8, 10], 0, 1);
    const bundle = bundleOf(x);
    x.dispose();
    assert.match((await bundle)["text/html"]!, /<img /);
    assert.deepEqual(await bundleOf(x), {
      "text/plain": "tensor(disposed, shape=[3, 8, 10], dtype=float32)",
    });
  });
});

describe("other objects", () => {
  it("a generator has its seed and its state", async () => {
    const generator = new RandomGenerator(42);
    const state = () => {
      const { bits, spare } = generator.getState();
      return `state={ bits: [${bits.join(", ")}], spare: ${spare} }`;
    };
    await says(generator, `RandomGenerator(seed=42, ${state()})`);
    generator.normal();
    await says(generator, `RandomGenerator(seed=42, ${state()})`);
    const same = RandomGenerator.fromState(generator.getState());
    await says(same, `RandomGenerator(${state()})`); // another seed may lead there
  });

  it("a distribution has its sizes", async () => {
    const vae = await AutoencoderKLCogVideoX.fromPretrained(join(components, "vae"));
    const { latentDist } = vae.encode(tf.zeros([1, 3, 1, 16, 16]));
    const shape = `[${latentDist.mean.shape.join(", ")}]`;
    await says(latentDist, `DiagonalGaussianDistribution(mean: ${shape}, std: ${shape})`);
    latentDist.dispose();
    await says(latentDist, `DiagonalGaussianDistribution(mean: ${shape}, std: ${shape}, disposed)`);
    vae.dispose();
  });

  it("a trainer says what it trains and how far it is", async () => {
    const models = tinyModels();
    const data = await tinyData(models.vae, 1);
    const trainer = await Trainer.create(models, data, { trainSteps: 7, rank: 2 });
    const [first, ...options] = plain(trainer).split("\n");
    const count = trainer.numTrainableParameters.toLocaleString("en-US");
    assert.equal(first, `Trainer, lora, step 0 of 7, ${count} parameters`);
    assert.ok(
      options.some((line) => line.includes("rank: 2")),
      options.join("\n"),
    );
    await says(trainer, `${trainer}`);
    trainer.dispose();
    data.dispose();
    models.dispose();
  });

  it("an optimizer has its options", async () => {
    const vae = await AutoencoderKLCogVideoX.fromPretrained(join(components, "vae"));
    const adam = new Adam("adamw", vae.parameters.values(), { weightDecay: 0.1 });
    const count = vae.numParameters().toLocaleString("en-US");
    await says(adam, `AdamW(${count} parameters, step 0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)`);
    adam.dispose();
    vae.dispose();
  });

  it("what notebooks show as pictures and tables is text in a terminal", () => {
    assert.equal(plain(table([{ a: 1, b: "x" }])), "a  b\n─  ─\n1  x");
    assert.match(
      plain(summary(tf.tensor([1, 2, 3]), "x")),
      /^x \[3\] float32 {2}min 1 {2}max 3 {2}mean 2 {2}std 0\.8165 {2}/,
    );
    assert.equal(plain(frames(clip())), "5 of 5 frames, 24x16");
    assert.equal(plain(image(clip(1))), "Image, 24x16");
    assert.equal(plain(animate(clip(), { title: "Kitten" })), "Kitten: 5 frames of 24x16, 8 fps");
    assert.equal(plain(figure([{ type: "bar", y: [1] }], { title: { text: "Loss" } })), 'Figure "Loss": bar');
    assert.equal(plain(interact({ sigma: [0, 1] }, () => 0)), "Interactive(sigma=0)");
    const bar = new Progress({ total: 4, desc: "encode" });
    bar.update();
    assert.match(plain(bar), /^encode: 25% \|.*\| 1\/4 \[/);
    assert.equal(plain(new TrainingPanel()), "TrainingPanel()");
  });

  it("a panel as the last expression is its charts", async () => {
    const panel = new TrainingPanel();
    assert.deepEqual(await bundleOf(panel), { "text/plain": "TrainingPanel()" });
    await panel.log({ loss: 0.5 }, 1);
    const bundle = await bundleOf(panel);
    assert.ok("application/vnd.plotly.v1+json" in bundle, Object.keys(bundle).join());
  });
});

describe("console.log's options", () => {
  it("colours only what is too deep, and only where they are wanted", () => {
    const nested = { a: { b: { c: [tf.scalar(1), clip()] } } };
    assert.equal(
      inspect(nested, { depth: 3, colors: false, compact: 9, breakLength: Number.POSITIVE_INFINITY }),
      "{ a: { b: { c: [ [Tensor [] float32], [Clip(5 frames, 24 x 16, 8 fps, 0.63 s)] ] } } }",
    );
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
    assert.match(inspect(nested, { depth: 3, colors: true }), /\x1b\[36m\[Tensor \[\] float32\]\x1b\[39m/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
    assert.doesNotMatch(inspect(clip(), { colors: true }), /\x1b/);
  });

  it("lines stand as deep as their object", () => {
    const x = tf.tensor([
      [1, 2],
      [3, 4],
    ]);
    assert.equal(
      plain({ list: [x, x] }),
      [
        "{",
        "  list: [",
        "    tensor([[1., 2.],",
        "            [3., 4.]]),",
        "    tensor([[1., 2.],",
        "            [3., 4.]])",
        "  ]",
        "}",
      ].join("\n"),
    );
  });

  it("a class and its prototype break nothing", () => {
    for (const type of [
      Clip,
      RandomGenerator,
      tf.Tensor,
      tf.Variable,
      T5Tokenizer,
      CogVideoXDDIMScheduler,
      Trainer,
    ]) {
      for (const value of [type, type.prototype, Object.create(type.prototype)]) {
        assert.equal(typeof inspect(value), "string");
        assert.equal(typeof inspect({ value }), "string");
      }
      assert.equal(typeof `${String(Object.create(type.prototype))}`, "string");
    }
  });
});
