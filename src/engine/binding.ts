import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm, statfs, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { replaceFolder, syncTree, temporaryBeside, writeFileAtomic } from "../files/atomic.js";
import type { Lock } from "../files/lock.js";
import { readJson } from "./cache.js";
import { EngineError, firstLine } from "./errors.js";
import { checkFiles, describeFiles, installedFiles } from "./integrity.js";
import type { OperationsAddon } from "./native/kernels.js";
import { packageFolder, pinnedVersion } from "./npm-package.js";
import { engineSources } from "./package-root.js";

const require = createRequire(import.meta.url);

/** TensorFlow.js's backend on libtensorflow, in JavaScript and C++. */
export const nodePackage = "@tensorflow/tfjs-node-gpu";

/** What TensorFlow.js's C++ binding exports, as far as it is used here. */
export interface Binding {
  TF_Version: string;
  isUsingGpuDevice(): boolean;
}

/** A libtensorflow on disk. */
export interface Library {
  /** Folder of the shared libraries. */
  libraries: string;
  /** Folder with `tensorflow/c/c_api.h`. */
  include: string;
  /** Where the binding for it is built, or will be. */
  binding: string;
}

/** N-API is stable across Node's releases, so one binding serves Node 20, 22 and 24. */
const napiVersion = 8;

const nativeSources = join(engineSources, "native");

/** Names the binding after everything that its code depends on, except the library. */
export function bindingKey(): string {
  const own = createHash("sha256")
    .update(readFileSync(join(nativeSources, "stderr.cc")))
    .digest("hex")
    .slice(0, 8);
  return `tfjs${pinnedVersion(nodePackage)}-napi${napiVersion}-${own}`;
}

function bindingFile(library: Library): string {
  return join(library.binding, "tfjs_binding.node");
}

/** In the order in which they are loaded. */
const bindingAddons = ["stderr.node", "tfjs_binding.node"];
const operationsAddons = ["operations.node"];

/** Written beside addons that were loaded once, in another process, when they were built. */
const builtFile = "built.json";

/** Why addons can't be loaded. */
export interface Fault {
  reason: string;
  /** Whether they were built once. */
  damaged: boolean;
}

/**
 * Why the binding can't be loaded, if it can't. A damaged addon may end the process instead of failing to load.
 *
 * @param tried loads it in another process even if every byte is as it was built.
 */
export async function bindingFault(library: Library, tried: boolean): Promise<Fault | undefined> {
  if (!existsSync(library.binding)) {
    return { reason: "its binding is not built for this version", damaged: false };
  }
  const fault = await addonsFault(library, library.binding, bindingAddons, [], tried);
  return fault === undefined ? undefined : { reason: `its binding is damaged: ${fault}`, damaged: true };
}

/** Why the fused operations can't be loaded after the binding, if they can't; see {@link bindingFault}. */
export async function operationsFault(library: Library, tried: boolean): Promise<Fault | undefined> {
  const folder = operationsFolder(library);
  if (!existsSync(folder)) return { reason: "its fused operations are not compiled", damaged: false };
  const fault = await addonsFault(library, folder, operationsAddons, [bindingFile(library)], tried);
  if (fault === undefined) return undefined;
  return { reason: `its fused operations are damaged: ${fault}`, damaged: true };
}

async function addonsFault(
  library: Library,
  folder: string,
  names: readonly string[],
  before: readonly string[],
  tried: boolean,
): Promise<string | undefined> {
  try {
    if (realpathSync(join(folder, "lib")) !== realpathSync(library.libraries)) return "lib leads elsewhere";
  } catch {
    return "lib leads nowhere";
  }
  const files = installedFiles(await readJson(join(folder, builtFile)));
  const known = files !== undefined && names.every((name) => files.some(({ path }) => path === name));
  if (known) {
    const { damage } = await checkFiles(folder, files, true);
    if (damage !== undefined || !tried) return damage;
  }
  const failure = await tryAddons([...before, ...names.map((name) => join(folder, name))]);
  if (failure === undefined && !known) {
    // If the cache can't be written, the next start tries them again.
    await writeBuilt(folder, names).catch(() => {});
  }
  return failure;
}

async function writeBuilt(folder: string, names: readonly string[]): Promise<void> {
  await writeFileAtomic(
    join(folder, builtFile),
    JSON.stringify({ files: await describeFiles(folder, names) }),
  );
}

/** Loads addons in another process, one after the other. @returns what went wrong, in one line, or undefined. */
async function tryAddons(files: readonly string[]): Promise<string | undefined> {
  const script = `for (const file of process.argv.slice(1)) {
    console.log(require("node:path").basename(file));
    process.dlopen({ exports: {} }, file, require("node:os").constants.dlopen.RTLD_NOW);
  }`;
  try {
    await promisify(execFile)(process.execPath, ["--eval", script, "--", ...files], {
      // This tries the library, not the graphics card.
      env: { ...process.env, CUDA_VISIBLE_DEVICES: "-1", TF_CPP_MIN_LOG_LEVEL: "3" },
      timeout: 300_000,
      killSignal: "SIGKILL",
    });
    return undefined;
  } catch (error) {
    const {
      stdout = "",
      stderr = "",
      signal,
    } = error as {
      stdout?: string;
      stderr?: string;
      signal?: NodeJS.Signals | null;
    };
    const name = stdout.trim().split("\n").at(-1) || "it";
    const said = /^(?:Error: )(.*)$/m.exec(stderr)?.[1] ?? stderr.trim().split("\n").at(-1);
    return `${name} does not load (${signal ?? (said || firstLine(error))})`;
  }
}

/**
 * Loads the binding, and the library with it, from the cache. Nothing is written to node_modules, so `npm ci` removes
 * nothing.
 *
 * @param silent throws away what the library prints while it loads.
 *
 * @throws EngineError when it was built for another machine or a library that it needs is gone.
 */
export function loadBinding(library: Library, silent: boolean): Binding {
  const file = bindingFile(library);
  try {
    const stderr = silent ? loadAddon<Stderr>(join(library.binding, "stderr.node")) : undefined;
    stderr?.silence();
    try {
      return loadAddon<Binding>(file);
    } finally {
      stderr?.restore();
    }
  } catch (error) {
    throw new EngineError(`${file} does not load (${firstLine(error)})`, {
      hint: "run `firstframe engine install` again",
    });
  }
}

/** The addon built from native/stderr.cc. */
interface Stderr {
  silence(): void;
  restore(): void;
}

function loadAddon<T>(file: string): T {
  const module = { exports: {} as T };
  process.dlopen(module, file, constants.dlopen.RTLD_NOW);
  return module.exports;
}

/** The library's file names: the wheel's C++ library exports the whole C API and stands in for libtensorflow. */
export function libraryFiles(folder: string): string[] | undefined {
  const suffix = process.platform === "darwin" ? ".2.dylib" : ".so.2";
  const framework = `libtensorflow_framework${suffix}`;
  if (!existsSync(join(folder, framework))) return undefined;
  const main = [`libtensorflow_cc${suffix}`, `libtensorflow${suffix}`].find((name) =>
    existsSync(join(folder, name)),
  );
  return main === undefined ? undefined : [main, framework];
}

/**
 * Compiles TensorFlow.js's binding against `library` with node-gyp, in a temporary folder, and moves it into place once
 * it is complete.
 *
 * @throws EngineError that names what is missing (compiler, make, Python, Node's headers), or the compiler's first error.
 */
export async function buildBinding(library: Library, lock: Lock): Promise<void> {
  const binding = join(packageFolder(nodePackage), "binding");
  await buildAddons({
    what: "the binding",
    library,
    lock,
    target: library.binding,
    sources: [binding, nativeSources],
    targets: (files) => [
      addon("tfjs_binding", ["tfjs_backend.cc", "tfjs_binding.cc"], files),
      addon("stderr", ["stderr.cc"], []),
    ],
    names: bindingAddons,
    before: [],
  });
}

/** Where the fused operations for a library are built, named by all their sources. */
export function operationsFolder(library: Library): string {
  const hash = createHash("sha256");
  for (const file of operationSources(true)) hash.update(basename(file)).update(readFileSync(file));
  const key = `${basename(library.binding)}-operations-${hash.digest("hex").slice(0, 8)}`;
  return join(dirname(library.binding), key);
}

/** Compiles the fused operations of `native/`. @throws EngineError as {@link buildBinding}. */
export async function buildOperations(library: Library, lock: Lock): Promise<void> {
  await buildAddons({
    what: "fused operations",
    library,
    lock,
    target: operationsFolder(library),
    sources: [nativeSources, ...operationFolders()],
    targets: (files) => [
      addon(
        "operations",
        operationSources(false).map((file) => basename(file)),
        files,
      ),
    ],
    names: operationsAddons,
    before: [bindingFile(library)],
  });
}

/** Removes fused operations that are unusable. */
export async function removeOperations(library: Library): Promise<void> {
  await rm(operationsFolder(library), { recursive: true, force: true });
}

type LoadedOperations =
  | { readonly addon: OperationsAddon; readonly fault?: undefined }
  | { readonly addon?: undefined; readonly fault: Fault };

/**
 * The fused operations for the library that {@link loadBinding} loaded, or why there are none. Without them the
 * composites compute the same results more slowly.
 */
export async function loadOperations(library: Library): Promise<LoadedOperations> {
  const fault = await operationsFault(library, false);
  if (fault !== undefined) return { fault };
  try {
    return { addon: loadAddon<OperationsAddon>(join(operationsFolder(library), "operations.node")) };
  } catch (error) {
    return { fault: { reason: `its fused operations do not load (${firstLine(error)})`, damaged: true } };
  }
}

/** Each operation's folder: kernels live beside their composites. */
function operationFolders(): string[] {
  return readdirSync(join(engineSources, "ops"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(engineSources, "ops", name));
}

function operationSources(headers: boolean): string[] {
  return [nativeSources, ...operationFolders()]
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter(
      (file) => (file.endsWith(".cc") && basename(file) !== "stderr.cc") || (headers && file.endsWith(".h")),
    )
    .sort();
}

interface Addons {
  /** What is built, for errors. */
  what: string;
  library: Library;
  lock: Lock;
  /** The folder that they end up in. */
  target: string;
  /** Folders of C++ sources. */
  sources: readonly string[];
  targets: (libraries: string[]) => ReturnType<typeof addon>[];
  /** The addons' file names, in the order in which they are loaded. */
  names: readonly string[];
  /** Files of addons that are loaded before them. */
  before: readonly string[];
}

/** Compiles addons in a folder beside `target`, tries them, and moves them to `target` once all of them work. */
async function buildAddons(addons: Addons): Promise<void> {
  const { what, library, lock, target, names } = addons;
  const files = libraryFiles(library.libraries);
  if (files === undefined) throw new EngineError("no libtensorflow in it", { file: library.libraries });

  await mkdir(dirname(target), { recursive: true });
  const staging = temporaryBeside(target);
  const output = temporaryBeside(target);
  try {
    await mkdir(staging);
    for (const folder of addons.sources) {
      for (const name of await readdir(folder)) {
        if (/\.(cc|h)$/.test(name)) await copyFile(join(folder, name), join(staging, name));
      }
    }
    await symlink(library.libraries, join(staging, "lib"));
    await symlink(library.include, join(staging, "include"));
    await writeFile(join(staging, "package.json"), "{}");
    await writeFile(join(staging, "binding.gyp"), JSON.stringify({ targets: addons.targets(files) }));
    const failure = await nodeGyp(staging, lock.signal);
    if (failure !== undefined) {
      const [problem, hint] = failure;
      throw new EngineError(`${what} can't be compiled: ${problem}`, { hint });
    }

    await mkdir(output);
    await symlink(relative(target, library.libraries), join(output, "lib"));
    for (const name of names) await rename(join(staging, "build", "Release", name), join(output, name));
    const fault = await tryAddons([...addons.before, ...names.map((name) => join(output, name))]);
    if (fault !== undefined) throw new EngineError(`${what} can't be used: ${fault}`);
    await writeBuilt(output, names);
    await syncTree(output);
    lock.assertHeld();
    await replaceFolder(output, target);
  } finally {
    await rm(staging, { recursive: true, force: true });
    await rm(output, { recursive: true, force: true });
  }
}

/** A gyp target for an addon that finds `libraries` through the symbolic link `lib` beside it. */
function addon(name: string, sources: string[], libraries: string[]) {
  return {
    target_name: name,
    sources,
    include_dirs: [".", "include"],
    library_dirs: ["lib"],
    defines: [`NAPI_VERSION=${napiVersion}`],
    cflags_cc: ["-std=c++17", "-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"],
    conditions: [
      ["target_arch=='x64' and OS=='linux'", { cflags_cc: ["-mprefer-vector-width=512"] }],
      [
        "OS=='mac'",
        {
          libraries: [
            ...libraries.map((file) => `<(module_root_dir)/lib/${file}`),
            "-Wl,-rpath,@loader_path/lib",
          ],
          xcode_settings: {
            CLANG_CXX_LANGUAGE_STANDARD: "c++17",
            GCC_OPTIMIZATION_LEVEL: "3",
            OTHER_CPLUSPLUSFLAGS: ["-fopenmp-simd", "-fno-math-errno"],
          },
        },
        { libraries: [...libraries.map((file) => `-l:${file}`), "-Wl,-rpath,\\$$ORIGIN/lib"] },
      ],
    ],
  };
}

/** Runs `node-gyp rebuild` in `directory`. @returns what went wrong, in one line, or undefined. */
async function nodeGyp(directory: string, signal: AbortSignal): Promise<Failure | undefined> {
  const tool = join(dirname(require.resolve("node-gyp/package.json")), "bin", "node-gyp.js");
  const headers = nodeHeaders();
  const options = [
    "rebuild",
    "--release",
    "-j",
    "max",
    ...(headers === undefined ? [] : [`--nodedir=${headers}`]),
  ];
  const { code, output } = await new Promise<{ code: number | null; output: string }>((resolve, reject) => {
    const child = spawn(process.execPath, [tool, ...options], {
      cwd: directory,
      stdio: ["ignore", "pipe", "pipe"],
      signal,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += chunk;
      });
    }
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
  if (code === 0) return undefined;
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize < 1e6 ? ["the disk is full"] : buildFailure(output);
}

/** The folder above the running Node's `include/node`, if Node was installed with its headers. */
function nodeHeaders(): string | undefined {
  const prefix = dirname(dirname(process.execPath));
  try {
    const text = readFileSync(join(prefix, "include", "node", "node_version.h"), "utf8");
    const part = (name: string) => new RegExp(`#define NODE_${name}_VERSION (\\d+)`).exec(text)?.[1];
    const found = `${part("MAJOR")}.${part("MINOR")}.${part("PATCH")}`;
    return found === process.versions.node ? prefix : undefined;
  } catch {
    return undefined;
  }
}

/** What went wrong, and what to do about it where that is known. */
type Failure = readonly [problem: string, hint?: string];

/** The one line of node-gyp's output that matters. */
function buildFailure(output: string): Failure {
  const known: [RegExp, ...Failure][] = [
    [/find Python.*not/i, "node-gyp finds no Python 3", "install python3"],
    [
      /(g\+\+|c\+\+|clang\+\+|\bCXX\b).*(not found|No such file)/i,
      "there is no C++ compiler",
      "install g++ and make",
    ],
    [/not found: make|make.*ENOENT|`make` failed.*ENOENT/i, "there is no make", "install g++ and make"],
    [/No space left on device/i, "the disk is full"],
    [
      /(getaddrinfo|ECONN|ENOTFOUND|EAI_AGAIN|network).*(nodejs\.org|headers)?/i,
      "Node's headers are not installed and can't be fetched from nodejs.org",
    ],
  ];
  for (const [pattern, ...failure] of known) if (pattern.test(output)) return failure;
  const error = /^.*\berror\b:?.*$/im.exec(output)?.[0] ?? output.trim().split("\n").at(-1) ?? "";
  return [error.trim().slice(0, 300)];
}
