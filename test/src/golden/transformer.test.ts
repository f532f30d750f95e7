import assert from "node:assert/strict";
import { test } from "node:test";
import { useEngine } from "../../../src/engine/index.js";
import * as tf from "../../../src/engine/tf.js";
import { type RotaryTables, trainingRotaryTables } from "../../../src/models/transformer/rotary-positions.js";
import {
  CogVideoXTransformer3DModel,
  type TransformerInputs,
} from "../../../src/models/transformer/transformer.js";
import { casesOf, type GoldenCase } from "./case.js";

await useEngine();

async function inputsOf(
  golden: GoldenCase,
  transformer: CogVideoXTransformer3DModel,
): Promise<TransformerInputs & { imageRotaryEmb: RotaryTables | null }> {
  const hiddenStates = await golden.tensor<tf.Rank.R5>("hidden_states");
  const [, frames, , height, width] = hiddenStates.shape;
  return {
    hiddenStates,
    encoderHiddenStates: await golden.tensor<tf.Rank.R3>("encoder_hidden_states"),
    timestep: (await golden.values("timesteps")).data,
    ofs: golden.params.ofs as number | null,
    imageRotaryEmb: trainingRotaryTables(transformer.config, { frames, height, width }),
  };
}

function disposeInputs({ hiddenStates, encoderHiddenStates, imageRotaryEmb }: TransformerInputs): void {
  tf.dispose([hiddenStates, encoderHiddenStates, { ...imageRotaryEmb }]);
}

async function forward(golden: GoldenCase, transformer: CogVideoXTransformer3DModel): Promise<void> {
  const inputs = await inputsOf(golden, transformer);
  const text = inputs.encoderHiddenStates.shape[1];
  const seen = new Map<string, tf.Tensor>();
  const keep = (name: string, tensor: tf.Tensor) => {
    if (name in golden.tensors) seen.set(name, tf.keep(tensor));
  };
  const unhook = transformer.registerForwardHook((module, output) => {
    const block = /^transformer_blocks\.(\d+)$/.exec(module);
    if (!block) return keep(module, output.clone());
    const [textPart, video] = tf.split(output, [text, -1], 1);
    keep(`block${block[1]}.text`, textPart!);
    keep(`block${block[1]}.video`, video!);
  });
  const { sample } = transformer.forward(inputs);
  unhook();
  await golden.compare("sample", sample);
  for (const [name, tensor] of seen) await golden.compare(name, tensor);
  if (inputs.imageRotaryEmb) {
    await golden.compare("rope_cos", inputs.imageRotaryEmb.cos);
    await golden.compare("rope_sin", inputs.imageRotaryEmb.sin);
  }
  tf.dispose([sample, ...seen.values()]);
  disposeInputs(inputs);
}

async function gradients(golden: GoldenCase, transformer: CogVideoXTransformer3DModel): Promise<void> {
  const inputs = await inputsOf(golden, transformer);
  const target = await golden.tensor("target");
  const names = [...transformer.parameters.keys()];
  const variables = names.map((name) => transformer.parameter(name).value);
  const compute = () =>
    tf.valueAndGrads((hiddenStates, encoderHiddenStates) => {
      const { sample } = transformer.forward({
        ...inputs,
        hiddenStates: hiddenStates as tf.Tensor5D,
        encoderHiddenStates: encoderHiddenStates as tf.Tensor3D,
      });
      return tf.mean(tf.squaredDifference(sample, target));
    })([inputs.hiddenStates, inputs.encoderHiddenStates, ...variables]);

  for (const checkpointing of [false, true]) {
    transformer.gradientCheckpointing = checkpointing;
    const before = tf.memory().numTensors;
    const { value, grads } = compute();
    await golden.compare("loss", { shape: [1], data: await value.data() });
    await golden.compare("grad_input.hidden_states", grads[0]!);
    await golden.compare("grad_input.encoder_hidden_states", grads[1]!);
    let squares = 0;
    for (const [i, name] of names.entries()) {
      const gradient = transformer.parameter(name).toFileLayout(grads[i + 2]!);
      await golden.compare(`grad.${name}`, gradient);
      for (const g of await gradient.data()) squares += g * g;
      gradient.dispose();
    }
    await golden.compare("grad_norm", { shape: [1], data: [Math.sqrt(squares)] });
    tf.dispose([value, grads]);
    assert.equal(tf.memory().numTensors, before, "tensors left behind by the gradient");
  }
  const { sample } = transformer.forward(inputs);
  await golden.compare("sample", sample);
  tf.dispose([sample, target]);
  disposeInputs(inputs);
}

for (const golden of await casesOf("transformer")) {
  test(`${golden.name}: ${golden.title}`, async () => {
    const before = tf.memory().numTensors;
    const transformer = await CogVideoXTransformer3DModel.fromPretrained(golden.component());
    await ("target" in golden.tensors ? gradients : forward)(golden, transformer);
    transformer.dispose();
    golden.assertAllCompared();
    assert.equal(tf.memory().numTensors, before);
  });
}
