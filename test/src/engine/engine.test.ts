import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { glibcVersion, mallocEnvironment } from "../../../src/engine/environment.js";
import { nvidiaDevices } from "../../../src/engine/hardware.js";
import { type EngineName, findTensorflow } from "../../../src/engine/index.js";
import { whyWithout } from "./available.js";
import { linkPackages } from "./packages.js";

// Each case is a program of its own, since a process can load libtensorflow once.

const engineModule = new URL("../../../src/engine/index.js", import.meta.url).href;
const tfModule = new URL("../../../src/engine/tf.js", import.meta.url).href;

let home: string;
before(async () => {
  home = await mkdtemp(join(tmpdir(), "firstframe-engine-"));
});
after(() => rm(home, { recursive: true }));

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program that has the engine's exports and `tf` in scope. */
function run(code: string, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const source = `import * as engines from ${JSON.stringify(engineModule)};
    import * as tf from ${JSON.stringify(tfModule)};
    const { useEngine } = engines;
    const show = (value) => console.log(JSON.stringify(value));
    ${code}`;
  const inherited = { ...process.env };
  for (const name of ["FIRSTFRAME_ENGINE", "TF_CPP_MIN_LOG_LEVEL", "OMP_NUM_THREADS"]) delete inherited[name];
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    env: { ...inherited, XDG_CONFIG_HOME: home, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 600_000,
  });
  const ended: Ended = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => {
    ended.stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    ended.stderr += chunk;
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ ...ended, code })));
}

/** What `show` printed, of a program that ended well and said nothing else. */
async function shown<T>(code: string, env?: NodeJS.ProcessEnv): Promise<T> {
  const ended = await run(code, env);
  assert.equal(ended.stderr, "");
  assert.equal(ended.code, 0);
  return JSON.parse(ended.stdout) as T;
}

/** Computes something with a gradient, and reads it back. */
const work = `
  const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
  const [y, dx] = [tf.matMul(x, x), tf.grad((x) => tf.sum(tf.matMul(x, x)))(x)];
  const numbers = [...(await y.data()), ...(await dx.data())];`;
const expected = [7, 10, 15, 22, 7, 11, 9, 13];

describe("every engine starts, computes, is quiet and lets the process end", () => {
  for (const name of ["tensorflow", "wasm", "cpu"] as const) {
    test(name, async () => {
      const found = await shown<{
        engine: { name: EngineName; device: string; threads: number };
        numbers: number[];
      }>(`const engine = await useEngine(${JSON.stringify(name)}); ${work} show({ engine, numbers });`, {
        OMP_NUM_THREADS: "2",
      });
      assert.equal(found.engine.name, name);
      assert.ok(found.engine.device.length > 0);
      assert.equal(found.engine.threads, name === "cpu" ? 1 : 2);
      assert.deepEqual(found.numbers, expected);
    });
  }

  test("threads follow OMP_NUM_THREADS", async () => {
    for (const name of ["tensorflow", "wasm"]) {
      const code = `const engine = await useEngine(${JSON.stringify(name)}); ${work} show({ threads: engine.threads, numbers });`;
      assert.deepEqual(await shown(code, { OMP_NUM_THREADS: "1" }), { threads: 1, numbers: expected });
    }
  });

  test("webgpu, where there is an adapter; else it says what is missing", async () => {
    const ended = await run(
      `const engine = await useEngine("webgpu"); ${work} show({ name: engine.name, device: engine.device, numbers });`,
    );
    if (ended.code === 0) {
      const { device, ...found } = JSON.parse(ended.stdout) as { device: string };
      assert.deepEqual(found, { name: "webgpu", numbers: expected });
      // software that stands in for a graphics card is no silent matter
      const line = device.endsWith("(the processor plays the graphics card)")
        ? `firstframe: webgpu: there is no graphics card, only ${device}; wasm is faster\n`
        : "";
      assert.equal(ended.stderr, line);
    } else
      assert.match(ended.stderr, /EngineError: webgpu: (no graphics adapter is found|Dawn does not load)/);
  });

  test("a process may end while WebGPU still computes", { skip: whyWithout("webgpu") }, async () => {
    const code = `await useEngine("webgpu");
      let x = tf.ones([64, 64]);
      await x.data();
      for (let i = 0; i < 20; i++) x = tf.matMul(x, x);
      process.exit(0);`;
    for (let i = 0; i < 5; i++) assert.equal((await run(code)).code, 0);
  });

  test("libtensorflow's own messages come when they are asked for", async () => {
    const ended = await run(`await useEngine("tensorflow"); show(1);`, { TF_CPP_MIN_LOG_LEVEL: "0" });
    assert.match(ended.stderr, /oneDNN|cpu_feature_guard|absl/i);
  });
});

describe("which engine runs", () => {
  const chosen =
    "const lines = []; const engine = await useEngine(undefined, { log: (line) => lines.push(line) });";

  test("by default the best that is installed", async () => {
    assert.deepEqual(await shown(`${chosen} show([engine.name, lines]);`), ["tensorflow", []]);
  });

  test("the one that FIRSTFRAME_ENGINE names", async () => {
    assert.deepEqual(await shown(`${chosen} show(engine.name);`, { FIRSTFRAME_ENGINE: "cpu" }), "cpu");
  });

  test("wasm where nothing is installed", async () => {
    const env = { XDG_CACHE_HOME: home };
    assert.deepEqual(await shown(`${chosen} show([engine.name, lines]);`, env), ["wasm", []]);
  });

  test("the one that is remembered", async () => {
    const env = { XDG_CONFIG_HOME: join(home, "remembered") };
    assert.equal(
      await shown('await engines.rememberEngine("wasm"); show(await engines.rememberedEngine());', env),
      "wasm",
    );
    assert.equal(await shown(`${chosen} show(engine.name);`, env), "wasm");
    assert.equal(
      await shown(
        "await engines.rememberEngine(undefined); show(await engines.rememberedEngine() ?? 0);",
        env,
      ),
      0,
    );
    assert.equal(await shown(`${chosen} show(engine.name);`, env), "tensorflow");
  });

  test("the next one, with a line that says why, where the remembered one can't run", async () => {
    const env = { XDG_CONFIG_HOME: join(home, "no-gpu"), XDG_CACHE_HOME: home };
    const [name, lines] = await shown<[string, string[]]>(
      `await engines.rememberEngine("tensorflow"); ${chosen} show([engine.name, lines]);`,
      env,
    );
    assert.equal(name, "wasm");
    assert.deepEqual(lines, [
      "firstframe: tensorflow: libtensorflow is not installed; run `firstframe engine install tensorflow`; trying the next engine",
    ]);
  });

  test("wasm, with a line, where what is installed or named is damaged", async () => {
    const cache = join(home, "damaged");
    await mkdir(join(cache, "firstframe", `tensorflow-2.21.0-${process.platform}-${process.arch}`), {
      recursive: true,
    });
    const show = `${chosen} show([engine.name, ...lines]);`;
    const [name, line, ...more] = await shown<string[]>(show, { XDG_CACHE_HOME: cache });
    assert.equal(name, "wasm");
    assert.match(
      line!,
      /^firstframe: tensorflow: .*tensorflow-2\.21\.0-.* is not whole: it has no installed\.json; run `firstframe engine install tensorflow`; trying/,
    );
    assert.deepEqual(more, []);
    const own = await shown<string[]>(show, { XDG_CACHE_HOME: cache, FIRSTFRAME_LIBTENSORFLOW: home });
    assert.equal(own[0], "wasm");
    assert.match(own[1]!, /^firstframe: tensorflow: FIRSTFRAME_LIBTENSORFLOW=.*: expected libtensorflow/);
    assert.equal(own.length, 2);
  });

  test("a name that is asked for never becomes another", async () => {
    const missing = await run('await useEngine("tensorflow");', { XDG_CACHE_HOME: home });
    assert.match(
      missing.stderr,
      /EngineError: tensorflow: libtensorflow is not installed; run `firstframe engine install tensorflow`/,
    );
    const byEnvironment = await run("await useEngine();", {
      XDG_CACHE_HOME: home,
      FIRSTFRAME_ENGINE: "tensorflow",
    });
    assert.match(byEnvironment.stderr, /EngineError: tensorflow: libtensorflow is not installed/);
    const unknown = await run("await useEngine();", { FIRSTFRAME_ENGINE: "torch" });
    assert.match(unknown.stderr, /EngineError: FIRSTFRAME_ENGINE: expected one of .*, found "torch"/);
  });

  test("the device asked for, or an error: the CPU never plays the GPU", async () => {
    const { libraries } = await findTensorflow("tensorflow");
    // the binding is there already under the cache's own key, so only the device can be wrong
    const ended = await run(
      `await engines.installTensorflow("tensorflow"); await useEngine("tensorflow-gpu");`,
      { FIRSTFRAME_LIBTENSORFLOW: libraries },
    );
    assert.match(ended.stderr, /EngineError: tensorflow-gpu: libtensorflow finds no CUDA device it can use/);
  });
});

test("NVIDIA's GPUs are found by their driver, their device nodes, or Windows' ones", async () => {
  const tree = async (name: string, files: Record<string, string>) => {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(home, name, path)), { recursive: true });
      await writeFile(join(home, name, path), text);
    }
    return nvidiaDevices(join(home, name));
  };
  const information = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 42\n";
  assert.deepEqual(
    await tree("driver", { "proc/driver/nvidia/gpus/0000:00:04.0/information": information }),
    ["NVIDIA L4"],
  );
  assert.deepEqual(
    await tree("container", { "dev/nvidia3": "", "dev/nvidiactl": "", "dev/nvidia-uvm": "" }),
    ["NVIDIA GPU"],
  );
  assert.deepEqual(await tree("windows", { "dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": "" }), [
    "NVIDIA GPU",
  ]);
  assert.deepEqual(await tree("other", { "dev/dxg": "", "dev/null": "" }), []);
  assert.deepEqual(nvidiaDevices(join(home, "nowhere")), []);
});

test("runs without the fused operations where they could not be compiled", async () => {
  const { libraries } = await findTensorflow("tensorflow");
  const root = dirname(libraries);
  const copy = join(home, "unfused", "firstframe", basename(root));
  await mkdir(copy, { recursive: true });
  for (const name of await readdir(root)) {
    if (!name.includes("-operations-")) await symlink(join(root, name), join(copy, name));
  }
  linkPackages(join(home, "unfused"));
  const found = await shown<{ version: string; numbers: number[] }>(
    `const { version } = await useEngine("tensorflow"); ${work} show({ version, numbers });`,
    { XDG_CACHE_HOME: join(home, "unfused") },
  );
  assert.doesNotMatch(found.version, /fused/);
  assert.deepEqual(found.numbers, expected);
});

test("tensors move when the engine changes, and one process runs one libtensorflow", async () => {
  const found = await shown(`
    await useEngine("cpu"); ${work}
    await useEngine("wasm"); const squares = [...(await tf.square(x).data())];
    await useEngine("tensorflow"); const cubes = [...(await tf.pow(x, 3).data())];
    const failed = await useEngine("tensorflow-gpu").catch((error) => error.message);
    show({ squares, cubes, failed, now: engines.currentEngine().name });`);
  assert.deepEqual(found, {
    squares: [1, 4, 9, 16],
    cubes: [1, 8, 27, 64],
    failed: "tensorflow-gpu: this process already runs tensorflow; start a new one to change",
    now: "tensorflow",
  });
});

test("runs on a Node without the functions that Node 23 removed, and without Node 22's warnings of them", async () => {
  const remove = `import util from "node:util"; delete util.isNullOrUndefined; delete util.isArray;`;
  const warn = `import util from "node:util"; const warned = () => { throw new Error("deprecated"); };
    util.isNullOrUndefined = warned; util.isArray = warned;`;
  for (const prepare of [remove, warn]) {
    const code = `${prepare} await useEngine("tensorflow"); ${work}
      const { indices } = tf.topk(tf.tensor1d([1, 3, 2]), 2); show([...(await indices.data())]);`;
    assert.deepEqual(await shown(code), [1, 2]);
  }
});

test("errors in a program stay its own on wasm", async () => {
  const found = await shown(`
    const before = process.listenerCount("unhandledRejection") + process.listenerCount("uncaughtException");
    await useEngine("wasm");
    show(process.listenerCount("unhandledRejection") + process.listenerCount("uncaughtException") - before);`);
  assert.equal(found, 0);
});

test("memory settings are for glibc, and the user's own win", { skip: glibcVersion() === undefined }, () => {
  assert.deepEqual(Object.keys(mallocEnvironment({})), [
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
  ]);
  assert.equal(mallocEnvironment({ MALLOC_TOP_PAD_: "1" }).MALLOC_TOP_PAD_, undefined);
  assert.deepEqual(mallocEnvironment({ ...mallocEnvironment({}) }), {});
});
