/** What the package's types say to those who import it by its name. The compiler holds it; at run time little is left to see. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { expectTypeOf } from "expect-type";
import * as firstframe from "firstframe";
import {
  CogVideoXDDIMScheduler,
  CogVideoXImageToVideoPipeline,
  type CogVideoXScheduler,
} from "firstframe/diffusion";
import { frames } from "firstframe/display";
import {
  EngineError,
  type EngineName,
  FirstframeError,
  InputError,
  RandomGenerator,
  useEngine,
} from "firstframe/engine";
import { KernelClient } from "firstframe/kernel-client";
import * as safetensors from "firstframe/safetensors";
import { ArgumentError, Trainer, type TrainerOptions } from "firstframe/train";
import { Clip, ClipError, readClip } from "firstframe/video";

test("entries have what the root has, not copies", () => {
  expectTypeOf(firstframe.Clip).toEqualTypeOf(Clip);
  assert.equal(firstframe.Clip, Clip);
  assert.equal(firstframe.readClip, readClip);
  assert.equal(firstframe.Trainer, Trainer);
  assert.equal(firstframe.CogVideoXImageToVideoPipeline, CogVideoXImageToVideoPipeline);
  assert.equal(firstframe.frames, frames);
  assert.equal(firstframe.useEngine, useEngine);
  assert.equal(firstframe.safetensors.saveFile, safetensors.saveFile);
  assert.equal(typeof KernelClient.start, "function");
});

test("what is asynchronous says so", () => {
  expectTypeOf(readClip).returns.resolves.toEqualTypeOf<Clip>();
  expectTypeOf(
    CogVideoXImageToVideoPipeline.fromPretrained,
  ).returns.resolves.toEqualTypeOf<CogVideoXImageToVideoPipeline>();
  expectTypeOf(useEngine).parameter(0).extract<string>().toEqualTypeOf<EngineName>();
  expectTypeOf(Clip.fromTensor).parameter(0).toEqualTypeOf<firstframe.tf.Tensor>();
  expectTypeOf<Clip>().toHaveProperty("numFrames").toBeNumber();
});

test("options that are written wrong do not compile", () => {
  expectTypeOf<{ learningRate: string }>().not.toMatchTypeOf<Partial<TrainerOptions>>();
  expectTypeOf<{ learningRate: number }>().toMatchTypeOf<Partial<Pick<TrainerOptions, "learningRate">>>();
  // @ts-expect-error an engine that there is not
  expectTypeOf(useEngine).toBeCallableWith("cuda");
  const widen = (clip: Clip) => {
    // @ts-expect-error a clip has the size that it has
    clip.width = 3;
  };
  assert.equal(typeof widen, "function");
});

test("schedulers are one kind, errors one family", () => {
  expectTypeOf<CogVideoXDDIMScheduler>().toMatchTypeOf<CogVideoXScheduler>();
  for (const kind of [InputError, EngineError, ArgumentError, ClipError]) {
    expectTypeOf<InstanceType<typeof kind>>().toMatchTypeOf<FirstframeError>();
    assert.ok(kind.prototype instanceof FirstframeError, kind.name);
  }
  expectTypeOf<FirstframeError["file"]>().toEqualTypeOf<string | undefined>();
});

test("the generator's old name is the same class", () => {
  expectTypeOf<firstframe.Generator>().toEqualTypeOf<RandomGenerator>();
  assert.equal(firstframe.Generator, RandomGenerator);
  assert.equal(new CogVideoXDDIMScheduler({}).config.prediction_type, "epsilon");
});
