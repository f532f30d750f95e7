import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { Cli } from "./cli.js";

/** `firstframe engine list | use` and `firstframe doctor` of a user who has nothing installed. */

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

/** Runs the program without what the machine has and its user chose. */
function run(argv: string[], env: NodeJS.ProcessEnv = {}) {
  const nothing = {
    FIRSTFRAME_ENGINE: undefined,
    FIRSTFRAME_LIBTENSORFLOW: undefined,
    VK_ICD_FILENAMES: cli.path("no-driver.json"),
    XDG_CACHE_HOME: cli.path("cache"),
    XDG_CONFIG_HOME: cli.path("config"),
  };
  return cli.start(argv, { ...nothing, ...env }).ended;
}

describe("firstframe engine", () => {
  it("lists every engine, whether it is ready and what it lacks, and marks the default", async () => {
    const { code, stdout, stderr } = await run(["engine", "list"]);
    assert.equal(code, 0, stderr);
    const lines = stdout.trimEnd().split("\n");
    assert.deepEqual(
      lines.slice(0, -1).map((line) => line.slice(2).split(/ +/)[0]),
      ["tensorflow-gpu", "tensorflow", "webgpu", "wasm", "cpu"],
    );
    assert.match(
      stdout,
      /^ {2}tensorflow +- +libtensorflow is not installed; run `firstframe engine install tensorflow`$/m,
    );
    if (process.platform === "linux") assert.match(stdout, /^ {2}webgpu +- +no graphics adapter/m);
    assert.match(stdout, /^\* wasm +ready +SIMD, \d+ threads?$/m);
    assert.equal(lines.at(-1), "default: wasm (nothing faster is installed)");

    const json = JSON.parse((await run(["engine", "list", "--json"])).stdout) as {
      engines: { name: string; ready: boolean }[];
      default: { name: string };
    };
    assert.equal(json.default.name, "wasm");
    assert.deepEqual(
      json.engines.filter(({ name, ready }) => ready && name !== "webgpu").map(({ name }) => name),
      ["wasm", "cpu"],
    );
  });

  it("remembers what to use, and refuses what can't run", async () => {
    const file = cli.path("config/firstframe/engine.json");
    const refused = await run(["engine", "use", "tensorflow"]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      /^firstframe: tensorflow can't run here: libtensorflow is not installed; run `firstframe engine install tensorflow`\n$/,
    );
    assert.ok(!existsSync(file), "nothing is written");

    const used = await run(["engine", "use", "cpu"]);
    assert.deepEqual([used.code, used.stdout], [0, "cpu will run by default\n"]);
    assert.deepEqual(JSON.parse(readFileSync(file, "utf8")), { engine: "cpu" });
    assert.match((await run(["engine", "list"])).stdout, /default: cpu \(`firstframe engine use` chose it/);
    assert.match(
      (await run(["engine", "list"], { FIRSTFRAME_ENGINE: "wasm" })).stdout,
      /default: wasm \(FIRSTFRAME_ENGINE names it\)/,
    );

    assert.equal((await run(["engine", "use", "auto"])).code, 0);
    assert.match((await run(["engine", "list"])).stdout, /default: wasm \(nothing faster/);
  });

  it("says how a libtensorflow of one's own is wrong", async () => {
    const own = cli.path("own");
    mkdirSync(own, { recursive: true });
    const { stdout } = await run(["engine", "list"], { FIRSTFRAME_LIBTENSORFLOW: own });
    assert.match(
      stdout,
      /tensorflow +- +FIRSTFRAME_LIBTENSORFLOW=.*own: expected libtensorflow and its headers/,
    );
  });
});

describe("firstframe doctor", () => {
  it("shows what is there, what runs and why, and what to type", async () => {
    const { code, stdout, stderr } = await run(["doctor"]);
    assert.equal(code, 0, stderr);
    for (const row of [
      "Node",
      "Processor",
      "NVIDIA GPUs",
      "NVIDIA driver",
      "CUDA libraries",
      process.platform === "darwin" ? "Metal adapters" : "Vulkan adapters",
      "WebAssembly",
      "Cache",
      "ffmpeg",
    ]) {
      assert.match(stdout, new RegExp(`^${row}  +\\S`, "m"));
    }
    assert.match(stdout, /^default: wasm \(nothing faster is installed\)$/m);
    assert.match(stdout, /^runs: wasm on .*, tfjs-backend-wasm [\d.]+ with SIMD, \d+ threads?$/m);
    assert.match(stdout, /^ +\d+ GFLOP\/s in a product of two 1024 x 1024 matrices$/m);
    assert.match(stdout, /to get faster, type:\n {2}firstframe engine install tensorflow/);
  });

  it("fails where the engine that is asked for can't run", async () => {
    const env = { FIRSTFRAME_ENGINE: "tensorflow" };
    const { code, stdout } = await run(["doctor"], env);
    assert.equal(code, 1);
    assert.match(stdout, /^no engine runs: tensorflow: libtensorflow is not installed; run `/m);
    const { trial } = JSON.parse((await run(["doctor", "--json"], env)).stdout) as {
      trial: { error: string };
    };
    assert.match(trial.error, /^tensorflow: libtensorflow is not installed/);
  });
});
