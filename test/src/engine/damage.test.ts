import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { operationsFault, operationsFolder } from "../../../src/engine/binding.js";
import { findTensorflow } from "../../../src/engine/index.js";
import { describeFiles, type InstalledFile } from "../../../src/engine/integrity.js";
import { whyWithout } from "./available.js";
import { linkPackages } from "./packages.js";

// Installations that a disk, a copy or a killed program damaged: real processes start on copies of the real one.

const program = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));
const engineModule = new URL("../../../src/engine/index.js", import.meta.url).href;
const tfModule = new URL("../../../src/engine/tf.js", import.meta.url).href;

let folder: string;
/** A folder with an installation that is whole; its library's files are the real ones, and must not be written to. */
let whole: string;
/** The installation's folder inside of a cache. */
let inside: string;
/** The folders of addons in an installation. */
let binding: string;
let operations: string;

/** Copies a folder; files for which `shared` holds share their bytes with the original. */
function copyTree(from: string, to: string, shared: (path: string) => boolean): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) copyTree(source, target, shared);
    else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    else if (!shared(source)) cpSync(source, target, { preserveTimestamps: true });
    else {
      try {
        linkSync(source, target);
      } catch {
        cpSync(source, target, { preserveTimestamps: true }); // another disk
      }
    }
  }
}

const isLibrary = (path: string) => !path.endsWith(".node") && !path.endsWith(".json");

/** A cache of its own, with a whole installation in it. */
function copy(): { cache: string; root: string } {
  const cache = mkdtempSync(join(folder, "cache-"));
  copyTree(whole, cache, isLibrary);
  return { cache, root: join(cache, inside) };
}

const skip = process.platform === "linux" && whyWithout("tensorflow");

before(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), "firstframe-damage-"));
  const found = await findTensorflow("tensorflow");
  const { libraries } = found;
  [binding, operations] = [basename(found.binding), basename(operationsFolder(found))];
  inside = join("firstframe", basename(dirname(libraries)));
  whole = join(folder, "whole");
  copyTree(dirname(libraries), join(whole, inside), isLibrary);
  const earlier = join(whole, inside, `${binding}-operations-00000000`);
  cpSync(join(whole, inside, operations), earlier, { recursive: true, verbatimSymlinks: true });
  linkPackages(whole);
  // as this version writes it, whichever version installed it
  const file = join(whole, inside, "installed.json");
  const manifest = JSON.parse(readFileSync(file, "utf8")) as { version: string; files: InstalledFile[] };
  const paths = manifest.files.map(({ path }) => path);
  const files = await describeFiles(join(whole, inside), paths);
  writeFileSync(file, JSON.stringify({ ...manifest, files }));
  const ended = await compute(whole);
  assert.match(ended.stdout, /with fused operations/, "and its addons were tried");
});
after(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

function start(argv: string[], cache: string, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const { FIRSTFRAME_ENGINE, FIRSTFRAME_LIBTENSORFLOW, ...inherited } = process.env;
  const child = spawn(process.execPath, argv, {
    env: {
      ...inherited,
      XDG_CACHE_HOME: cache,
      XDG_CONFIG_HOME: join(folder, "config"),
      PIP_INDEX_URL: "http://127.0.0.1:9/simple",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  return new Promise((done) => child.on("close", (code, signal) => done({ code, signal, stdout, stderr })));
}

/** A program that computes on whatever runs. */
function compute(cache: string): Promise<Ended> {
  const code = `import { useEngine } from ${JSON.stringify(engineModule)};
    import * as tf from ${JSON.stringify(tfModule)};
    const { name, version } = await useEngine();
    const sum = (await tf.sum(tf.matMul(tf.ones([8, 8]), tf.ones([8, 8]))).data())[0];
    console.log(JSON.stringify({ name, version, sum }));`;
  return start(["--input-type=module", "--eval", code], cache);
}

const firstframe = (cache: string, ...argv: string[]) => start([program, ...argv], cache);
/** Where nothing can be compiled. */
const installWithoutTools = (cache: string) =>
  start([program, "engine", "install", "tensorflow"], cache, { PATH: join(folder, "nothing") });

/** An addon that this version loads; an installation may have those of others as well. */
function addonFile(root: string, name: string): string {
  return join(root, name === "operations.node" ? operations : binding, name);
}

/** Replaces a file by bytes of its own, so that nothing else that shares them is damaged. */
function separate(file: string): void {
  copyFileSync(file, `${file}.own`);
  const { atime, mtime } = statSync(file);
  utimesSync(`${file}.own`, atime, mtime);
  renameSync(`${file}.own`, file);
}

function flip(file: string, at: number): void {
  const bytes = readFileSync(file);
  for (let i = 0; i < 64; i++) bytes[Math.floor(at * bytes.length) + i]! ^= 0xff;
  writeFileSync(file, bytes);
}

const damages: Record<string, (file: string) => void> = {
  empty: (file) => truncateSync(file, 0),
  "of one byte": (file) => truncateSync(file, 1),
  "of a page": (file) => truncateSync(file, 4096),
  "half as long": (file) => truncateSync(file, statSync(file).size / 2),
  "a byte short": (file) => truncateSync(file, statSync(file).size - 1),
  "flipped at its start": (file) => flip(file, 0),
  "flipped in its middle": (file) => flip(file, 0.5),
  "zeros in its last half": (file) => {
    const { size } = statSync(file);
    truncateSync(file, size / 2);
    truncateSync(file, size);
  },
  "a text": (file) => writeFileSync(file, "<html>please log in</html>"),
  missing: (file) => rmSync(file),
  "a folder": (file) => {
    rmSync(file);
    mkdirSync(file);
  },
};

describe("a damaged installation", { skip }, () => {
  const library = "libtensorflow_framework.so.2";

  for (const [how, damage] of Object.entries(damages)) {
    test(`is noticed before anything is loaded: files ${how}`, async () => {
      const { cache, root } = copy();
      process.env.XDG_CACHE_HOME = cache;
      const found = await findTensorflow("tensorflow");
      assert.equal(await operationsFault(found, false), undefined);
      damage(addonFile(root, "operations.node"));
      const unfused = await operationsFault(found, false);
      assert.match(unfused!.reason, /^its fused operations are damaged: operations\.node /);
      damage(addonFile(root, "stderr.node"));
      await assert.rejects(findTensorflow("tensorflow"), /: its binding is damaged: stderr\.node .*; run `/);
      damage(addonFile(root, "tfjs_binding.node"));
      await assert.rejects(findTensorflow("tensorflow"), /: its binding is damaged: .*\.node .*; run `/);
      const file = join(root, "tensorflow", library);
      separate(file);
      damage(file);
      await assert.rejects(
        findTensorflow("tensorflow"),
        /^EngineError: tensorflow: .* is not whole: .*; run `firstframe engine install tensorflow`$/,
      );
      rmSync(cache, { recursive: true });
    });
  }

  for (const how of ["half as long", "zeros in its last half"]) {
    test(`a binding that is ${how} ends no program, and is not called installed`, async () => {
      const { cache, root } = copy();
      damages[how]!(addonFile(root, "tfjs_binding.node"));
      const ended = await compute(cache);
      assert.deepEqual([ended.code, ended.signal], [0, null], ended.stderr);
      assert.match(
        ended.stderr,
        /^firstframe: tensorflow: its binding is damaged: tfjs_binding\.node .*; run `firstframe engine install tensorflow`; trying the next engine\n$/,
      );
      assert.match(ended.stdout, /"name":"wasm".*"sum":512/);
      const installed = await installWithoutTools(cache);
      assert.equal(installed.code, 1, installed.stderr);
      assert.match(installed.stderr, /its binding is damaged: .*\ncompiling/);
      assert.doesNotMatch(installed.stderr, /is installed/);
      rmSync(cache, { recursive: true });
    });

    test(`fused operations that are ${how} end no program, and are not called installed`, async () => {
      const { cache, root } = copy();
      damages[how]!(addonFile(root, "operations.node"));
      const ended = await compute(cache);
      assert.deepEqual([ended.code, ended.signal], [0, null], ended.stderr);
      assert.match(
        ended.stderr,
        /^firstframe: tensorflow: its fused operations are damaged: operations\.node .*; it computes without; run `firstframe engine install tensorflow`\n$/,
      );
      assert.match(ended.stdout, /"name":"tensorflow","version":"libtensorflow [\d.]+","sum":512/);
      const installed = await installWithoutTools(cache);
      assert.match(
        installed.stderr,
        /its fused operations are damaged: .*\ncompiling.*\n.*they are left out\n/,
      );
      assert.match(installed.stderr, /is installed in .*, without its fused operations\n$/);
      assert.equal((await compute(cache)).stderr, "", "nothing damaged is left");
      rmSync(cache, { recursive: true });
    });

    test(`a library that is ${how} ends no program, and is not called installed`, async () => {
      const { cache, root } = copy();
      const file = join(root, "tensorflow", library);
      separate(file);
      damages[how]!(file);
      const ended = await compute(cache);
      assert.deepEqual([ended.code, ended.signal], [0, null], ended.stderr);
      assert.match(ended.stderr, /^firstframe: tensorflow: .* is not whole: .*; trying the next engine\n$/);
      assert.match(ended.stdout, /"name":"wasm".*"sum":512/);
      const installed = await installWithoutTools(cache);
      assert.equal(installed.code, 1, installed.stderr);
      assert.match(installed.stderr, /is not whole: .*\n.*the package index can't be reached/);
      assert.doesNotMatch(installed.stderr, /is installed/);
      rmSync(cache, { recursive: true });
    });
  }

  test("bytes that changed and left the time as it was are found by doctor and engine install", async () => {
    const { cache, root } = copy();
    const file = join(root, "tensorflow", library);
    separate(file);
    const { atime, mtime } = statSync(file);
    flip(file, 0.5);
    utimesSync(file, atime, mtime);
    const doctor = await firstframe(cache, "doctor");
    assert.deepEqual([doctor.code, doctor.signal], [0, null], doctor.stderr);
    assert.match(
      doctor.stdout,
      /^ {2}tensorflow +- +.* is not whole: tensorflow\/libtensorflow_framework\.so\.2 has other bytes/m,
    );
    assert.match(doctor.stdout, /^runs: wasm /m);
    assert.match(doctor.stdout, /to get faster, type:\n {2}firstframe engine install tensorflow\n/);
    const asked = await start([program, "doctor"], cache, { FIRSTFRAME_ENGINE: "tensorflow" });
    assert.deepEqual([asked.code, asked.signal], [1, null], asked.stderr);
    assert.match(asked.stdout, /^no engine runs: tensorflow: .* has other bytes/m);
    const installed = await installWithoutTools(cache);
    assert.equal(installed.code, 1);
    assert.match(installed.stderr, /has other bytes\n/);
    assert.doesNotMatch(installed.stderr, /is installed/);
    rmSync(cache, { recursive: true });
  });

  test("doctor and engine list say what is damaged and what to type", async () => {
    const { cache, root } = copy();
    truncateSync(addonFile(root, "operations.node"), 8192);
    const half = await firstframe(cache, "doctor");
    assert.deepEqual([half.code, half.signal], [0, null], half.stderr);
    assert.match(
      half.stdout,
      /^\* tensorflow +ready +.*; its fused operations are damaged: operations\.node has 8192 bytes of \d+$/m,
    );
    assert.match(half.stdout, /^runs: tensorflow /m);
    assert.match(half.stdout, /to get faster, type:\n {2}firstframe engine install tensorflow/);
    truncateSync(addonFile(root, "tfjs_binding.node"), 8192);
    for (const command of [["doctor"], ["engine", "list"]]) {
      const { code, signal, stdout, stderr } = await firstframe(cache, ...command);
      assert.deepEqual([code, signal], [0, null], stderr);
      assert.match(
        stdout,
        /^ {2}tensorflow +- +its binding is damaged: tfjs_binding\.node has 8192 bytes of \d+; run `firstframe engine install tensorflow`$/m,
      );
    }
    rmSync(cache, { recursive: true });
  });

  test("an addon of an earlier version, without checksums, is tried in another process first", async () => {
    const { cache, root } = copy();
    for (const addon of ["tfjs_binding.node", "operations.node"]) {
      rmSync(join(dirname(addonFile(root, addon)), "built.json"));
    }
    assert.match((await compute(cache)).stdout, /with fused operations/);
    rmSync(join(dirname(addonFile(root, "tfjs_binding.node")), "built.json"));
    truncateSync(addonFile(root, "tfjs_binding.node"), 8192);
    const ended = await compute(cache);
    assert.deepEqual([ended.code, ended.signal], [0, null], ended.stderr);
    assert.match(ended.stderr, /its binding is damaged: tfjs_binding\.node does not load \(.+\); run/);
    rmSync(cache, { recursive: true });
  });

  test("a copy with other times is taken once its bytes were compared, and a link that leads elsewhere is not", async () => {
    const { cache, root } = copy();
    const file = join(root, "tensorflow", library);
    separate(file);
    utimesSync(file, 1, 1);
    const ended = await compute(cache);
    assert.equal(ended.stderr, "");
    assert.match(ended.stdout, /with fused operations/);
    const { files } = JSON.parse(readFileSync(join(root, "installed.json"), "utf8")) as {
      files: InstalledFile[];
    };
    assert.equal(files.find(({ path }) => path.endsWith(library))!.modified, 1, "noted");
    const link = join(dirname(addonFile(root, "tfjs_binding.node")), "lib");
    rmSync(link);
    symlinkSync(folder, link);
    assert.match((await compute(cache)).stderr, /its binding is damaged: lib leads elsewhere; run/);
    rmSync(cache, { recursive: true });
  });

  test("records that are damaged, or say too little, count for nothing", async () => {
    const { cache, root } = copy();
    process.env.XDG_CACHE_HOME = cache;
    const manifest = join(root, "installed.json");
    const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
    for (const text of [
      "",
      "null",
      "{",
      "[1]",
      "{}",
      JSON.stringify({ version, files: [null] }),
      JSON.stringify({ version, files: [] }),
    ]) {
      writeFileSync(manifest, text);
      await assert.rejects(
        findTensorflow("tensorflow"),
        /is not whole: it has no .*; run `firstframe engine install tensorflow`/,
      );
    }
    rmSync(cache, { recursive: true });
  });

  test("what can't be read is damaged", {
    skip: process.getuid?.() === 0 && "root reads everything",
  }, async () => {
    const { cache, root } = copy();
    chmodSync(addonFile(root, "tfjs_binding.node"), 0);
    assert.match((await compute(cache)).stderr, /its binding is damaged: tfjs_binding\.node can't be read/);
    rmSync(cache, { recursive: true });
  });

  test("engine install compiles what is damaged again", async () => {
    const { cache, root } = copy();
    truncateSync(addonFile(root, "tfjs_binding.node"), 8192);
    const installed = await firstframe(cache, "engine", "install", "tensorflow");
    assert.equal(installed.code, 0, installed.stderr);
    assert.match(
      installed.stderr,
      /its binding is damaged: .*\ncompiling.*\ntensorflow is installed in \S+\n$/,
    );
    const ended = await compute(cache);
    assert.equal(ended.stderr, "");
    assert.match(ended.stdout, /with fused operations/);
    rmSync(cache, { recursive: true });
  });
});
