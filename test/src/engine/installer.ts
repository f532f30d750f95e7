/** Runs the installer's own program against an index on this machine, on wheels in which nothing runs. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { chmod, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { fileURLToPath } from "node:url";
import type { Builds } from "../../../src/engine/install.js";
import type { PinnedWheel } from "../../../src/engine/package-index.js";
import { PackageIndex, type Release, sha256Of, wheel } from "./package-index.js";
import { linkPackages } from "./packages.js";

export const program = fileURLToPath(new URL("../../../src/cli/main.js", import.meta.url));
const withOtherPins = fileURLToPath(new URL("./install-program.js", import.meta.url));
export const filename = "tensorflow_cpu-2.21.0-cp312-cp312-manylinux_2_17_x86_64.whl";
export const content = Buffer.alloc(3_000_000, "libtensorflow");

/** A folder of the test, which holds the cache. */
export let folder: string;
/** Folders for PATH: with everything that a shell finds but Python, and with nothing but Python. */
export let withoutPython: string;
export let onlyPython: string;
export let index: PackageIndex | undefined;
/** What the installer may take. */
export let pin: PinnedWheel;
/** All that a test started. */
export const children = new Set<ChildProcess>();

/** Has all of this set up before the tests of a file, and cleared after them. */
export function setUpInstaller(): void {
  before(async () => {
    withoutPython = await mkdtemp(join(tmpdir(), "firstframe-path-"));
    onlyPython = await mkdtemp(join(tmpdir(), "firstframe-path-"));
    for (const tool of [
      "g++",
      "make",
      "cc",
      "c++",
      "gcc",
      "sh",
      "uname",
      "ld",
      "as",
      "touch",
      "ln",
      "rm",
      "mkdir",
      "cp",
      "printf",
      "echo",
    ]) {
      const found = which(tool);
      if (found !== undefined) await symlink(found, join(withoutPython, tool));
    }
    await symlink(pythonItself(), join(onlyPython, "python3"));
  });
  after(() => Promise.all([withoutPython, onlyPython].map((path) => rm(path, { recursive: true }))));

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "firstframe-install-"));
    linkPackages(folder);
  });
  afterEach(async () => {
    // a test that failed may leave one asleep
    for (const child of children) child.kill("SIGKILL");
    children.clear();
    await closeIndex();
    await chmod(folder, 0o755);
    await rm(folder, { recursive: true, force: true });
  });
}

/** Takes the index from the network. */
export async function closeIndex(): Promise<void> {
  await index?.close();
  index = undefined;
}

function which(tool: string): string | undefined {
  return process.env
    .PATH!.split(delimiter)
    .map((directory) => join(directory, tool))
    .find((path) => existsSync(path));
}

/** The interpreter, not a launcher that needs a shell. */
function pythonItself(): string {
  return execFileSync("python3", ["-c", "import os, sys; print(os.path.realpath(sys.executable))"], {
    encoding: "utf8",
  }).trim();
}

export interface Ended {
  code: number | null;
  output: string;
}

/** Starts `firstframe engine install tensorflow`, from the wheel of the test, with a cache of its own. */
export function install(
  env: NodeJS.ProcessEnv = {},
  nodeOptions: string[] = [],
): { child: ChildProcess; ended: Promise<Ended> } {
  const builds: Builds = { "linux-x64": { tensorflow: [pin] } };
  return start([...nodeOptions, withOtherPins, JSON.stringify(builds)], env);
}

/** The same from the wheels that the package pins. */
export function installPinned(env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return start([program, "engine", "install", "tensorflow"], env).ended;
}

function start(argv: string[], env: NodeJS.ProcessEnv): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, argv, {
    env: {
      PATH: withoutPython,
      HOME: folder,
      XDG_CACHE_HOME: folder,
      PIP_INDEX_URL: index?.url ?? "http://127.0.0.1:9/simple",
      PIP_CONFIG_FILE: "/dev/null",
      PIP_RETRIES: "0",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let output = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, output }))) };
}

export const pause = () => new Promise((wake) => setTimeout(wake, 20));
export const lastLine = ({ output }: Ended): string => output.trim().split("\n").at(-1)!;

/** A wheel of TensorFlow in which nothing runs. */
export function smallWheel(library: Buffer = content): Promise<Buffer> {
  return wheel({
    "tensorflow/libtensorflow_cc.so.2": library,
    "tensorflow/libtensorflow_framework.so.2": "no library",
    "tensorflow/include/tensorflow/c/c_api.h": "#error no header",
    "tensorflow/python/not_needed.py": "",
    "tensorflow_cpu-2.21.0.dist-info/METADATA":
      "Metadata-Version: 2.1\nName: tensorflow-cpu\nVersion: 2.21.0\n",
    "tensorflow_cpu-2.21.0.dist-info/WHEEL": "Wheel-Version: 1.0\n",
    "tensorflow_cpu-2.21.0.dist-info/RECORD": "",
  });
}

/** Serves the wheel that may be taken, or what a release puts in its place. */
export async function serve(release: Partial<Release> = {}): Promise<PackageIndex> {
  const honest = await smallWheel();
  pin = {
    name: "tensorflow-cpu",
    version: "2.21.0",
    filename,
    sha256: sha256Of(honest),
    size: honest.length,
  };
  index = await PackageIndex.start([{ name: pin.name, filename, content: honest, ...release }]);
  return index;
}

export const cached = () =>
  join(folder, "firstframe", `tensorflow-2.21.0-${process.platform}-${process.arch}`);
export const partial = () => join(folder, "firstframe", "downloads", `${filename}.part`);
/** How many bytes of the wheel are there. */
export const havePartly = () => statSync(partial(), { throwIfNoEntry: false })?.size ?? 0;
export const linux = process.platform === "linux" && process.arch === "x64";
