import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import { asEngineError, passedOn } from "../../../src/engine/errors.js";
import {
  ArgumentError,
  CheckpointError,
  Clip,
  ClipError,
  ConfigError,
  DatasetError,
  DivergenceError,
  EngineError,
  FirstframeError,
  HubError,
  InputError,
  ResumeError,
  readArguments,
  readClip,
  SafetensorsError,
  SentencePieceError,
} from "../../../src/index.js";

describe("errors", () => {
  it("are input errors where something given can't be used, and say which kind", () => {
    const classes = {
      ArgumentError,
      CheckpointError,
      ClipError,
      ConfigError,
      DatasetError,
      EngineError,
      HubError,
    };
    const others = { ResumeError, SafetensorsError, SentencePieceError };
    for (const [name, Class] of Object.entries({ ...classes, ...others })) {
      const error = new Class("no");
      assert.ok(error instanceof InputError && error instanceof FirstframeError, name);
      assert.equal(error.name, name);
      assert.equal(error.kind, name.replace("Error", "").toLowerCase());
    }
    const diverged = new DivergenceError("no");
    assert.ok(diverged instanceof FirstframeError && !(diverged instanceof InputError));
    assert.equal(diverged.kind, "divergence");
  });

  it("have file, hint and cause as fields, which the message is made of", () => {
    const cause = new Error("why");
    const error = new ClipError("it is empty", { file: "a.mp4", hint: "take another", cause });
    assert.equal(error.message, "a.mp4: it is empty; take another");
    assert.deepEqual(
      [error.file, error.hint, error.problem, error.cause],
      ["a.mp4", "take another", "it is empty; take another", cause],
    );
    const engine = new EngineError("no driver", { subject: "webgpu" });
    assert.deepEqual(
      [engine.message, engine.subject, engine.file],
      ["webgpu: no driver", "webgpu", undefined],
    );
    // The fields are in the message: console.log does not repeat them.
    assert.doesNotMatch(inspect(error).replace(/\n.*/s, ""), /take another.*take another/);
    assert.doesNotMatch(inspect(engine), /subject:/);
  });

  it("keep their hint as a field where they are passed on as another kind", () => {
    const full = new EngineError("no room", { hint: "free some" });
    const hub = passedOn(HubError, full, "org/name: ");
    assert.ok(hub instanceof HubError);
    assert.deepEqual([hub.message, hub.hint, hub.cause], ["org/name: no room; free some", "free some", full]);
    const engine = asEngineError("tensorflow", full);
    assert.deepEqual(
      [engine.message, engine.hint, engine.subject],
      ["tensorflow: no room; free some", "free some", "tensorflow"],
    );
    assert.equal(asEngineError("wasm", new Error("first\nsecond")).message, "wasm: first");
  });

  it("name the file that is not there", async () => {
    const wanted = {
      name: "ClipError",
      kind: "clip",
      file: "nowhere.mp4",
      message: /^nowhere.mp4: no such file/,
    };
    await assert.rejects(readClip("nowhere.mp4"), wanted);
    await assert.rejects(readArguments({ config: "nowhere.yaml" }), {
      name: "ArgumentError",
      file: "nowhere.yaml",
      message: "nowhere.yaml: no such file",
    });
  });

  it("are input errors for values, too, and never JavaScript's own classes", () => {
    const bad = () => new Clip({ data: new Uint8Array(5), width: 2, height: 2, fps: 8 });
    assert.throws(bad, (error) => error instanceof InputError && error.kind === "input");
    assert.throws(bad, (error) => !(error instanceof RangeError));
  });
});
