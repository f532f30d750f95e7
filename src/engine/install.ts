import { createHash } from "node:crypto";
import { existsSync, realpathSync, statSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import process from "node:process";
import {
  bindingFile,
  bindingKey,
  buildBinding,
  buildOperations,
  type Library,
  libraryFiles,
  operationsFile,
} from "./binding.js";
import { cacheDirectory, megabytes, readJson, temporaryBeside, withLock, writeFileAtomic } from "./cache.js";
import { download, type OnProgress } from "./download.js";
import { EngineError, firstLine } from "./errors.js";
import { nvidiaDevices } from "./hardware.js";
import {
  downloadByPip,
  findWheels,
  platformTags,
  type Requirement,
  requirementsOfExtra,
  type Wheel,
} from "./packageIndex.js";
import { unpackWheel } from "./wheel.js";

/** The TensorFlow that is installed. */
const tensorflowVersion = "2.21.0";

/** The engines that need an installation: TensorFlow on the processor, and on NVIDIA's GPUs. */
export type TensorflowName = "tensorflow" | "tensorflow-gpu";

/** An installed libtensorflow with its binding. */
export interface Tensorflow extends Library {
  /** Such as "2.21.0"; undefined for the user's own (FIRSTFRAME_LIBTENSORFLOW). */
  version: string | undefined;
}

/** What {@link installTensorflow} may be told. */
export interface InstallOptions {
  /** Fetches and builds again what is there already. */
  force?: boolean;
  /** Where lines go that tell what is done. */
  log?: (line: string) => void;
  /** Told how far a step is, in bytes. */
  progress?: (step: string) => OnProgress;
}

/** What a finished installation contains; its file is written last. */
interface Manifest {
  version: string;
  files: { path: string; size: number }[];
}

/**
 * Puts libtensorflow and TensorFlow.js's binding for it into the cache; what is there already stays and needs no
 * network. Interrupted, it goes on where it was; a second installer waits for the first.
 *
 * @returns where it is.
 * @throws EngineError, one line, when the platform has no build, the network or the disk fails, or nothing can compile.
 */
export async function installTensorflow(
  name: TensorflowName,
  options: InstallOptions = {},
): Promise<Tensorflow> {
  const log = options.log ?? (() => {});
  const progress = options.progress ?? (() => () => {});
  const own = ownLibrary();
  const cache = cacheDirectory();
  try {
    // What is all there needs no turn: somebody may be compiling for another library.
    const there = options.force ? undefined : (own ?? (await installedLibrary(name)));
    if (there !== undefined && existsSync(bindingFile(there)) && existsSync(operationsFile(there))) {
      log(`${name} is installed in ${there.libraries}`);
      return there;
    }
    return await withLock(
      cache,
      () => log(`another installer works on ${cache}; waiting for it`),
      async () => {
        const library =
          own ??
          (options.force ? undefined : await installedLibrary(name)) ??
          (await installLibrary(name, cache, log, progress));
        if (options.force || !existsSync(bindingFile(library))) {
          log("compiling the binding between Node and libtensorflow (about half a minute)");
          await buildBinding(library);
        }
        if (options.force || !existsSync(operationsFile(library))) {
          log("compiling the fused operations");
          // everything runs without them, slower
          await buildOperations(library).catch((error) => log(`${firstLine(error)}; they are left out`));
        }
        log(`${name} is installed in ${library.libraries}`);
        return library;
      },
    );
  } catch (error) {
    throw asEngineError(name, error);
  }
}

/** @throws EngineError that says what to type when there is no libtensorflow or no binding for it. */
export async function findTensorflow(name: TensorflowName): Promise<Tensorflow> {
  const library = ownLibrary() ?? (await installedLibrary(name));
  if (library === undefined) {
    const broken = folders(name).find((folder) => existsSync(folder));
    const state = broken === undefined ? "libtensorflow is not installed" : `${broken} is not whole`;
    throw new EngineError(`${name}: ${state}; run \`firstframe engine install ${name}\``);
  }
  if (!existsSync(bindingFile(library))) {
    throw new EngineError(
      `${name}: its binding is not built for this version; run \`firstframe engine install ${name}\``,
    );
  }
  return library;
}

/** Whether {@link findTensorflow} finds a whole libtensorflow and its binding. Whether the device is there shows when it starts. */
export async function isInstalled(name: TensorflowName): Promise<boolean> {
  return findTensorflow(name).then(
    () => true,
    () => false,
  );
}

/** Whether somebody installed or named a libtensorflow, be it whole or not: then it should run, or a line say why not. */
export function isWanted(name: TensorflowName): boolean {
  // one's own may be either build: without a GPU it is taken for the processor's
  if (process.env.FIRSTFRAME_LIBTENSORFLOW) return name === "tensorflow" || nvidiaDevices().length > 0;
  return folders(name).some((folder) => existsSync(folder));
}

/** The library that FIRSTFRAME_LIBTENSORFLOW names: an unpacked libtensorflow, or a Python's `tensorflow` folder. */
function ownLibrary(): Tensorflow | undefined {
  const folder = process.env.FIRSTFRAME_LIBTENSORFLOW;
  if (folder === undefined || folder === "") return undefined;
  const places = [folder, join(folder, "lib"), join(folder, "tensorflow")].map((place) => resolve(place));
  const libraries = places.find((place) => libraryFiles(place) !== undefined);
  const include = [...places, resolve(folder, "..")]
    .map((place) => join(place, "include"))
    .find((place) => existsSync(join(place, "tensorflow", "c", "c_api.h")));
  if (libraries === undefined || include === undefined) {
    const missing =
      libraries === undefined
        ? "libtensorflow_framework and libtensorflow(_cc)"
        : "include/tensorflow/c/c_api.h";
    throw new EngineError(
      `FIRSTFRAME_LIBTENSORFLOW=${folder}: expected libtensorflow and its headers, found no ${missing}`,
    );
  }
  const identity = libraryFiles(libraries)!.map((file) => {
    const path = realpathSync(join(libraries, file));
    const { size, mtimeMs } = statSync(path);
    return [path, size, mtimeMs];
  });
  const key = createHash("sha256").update(JSON.stringify(identity)).digest("hex").slice(0, 16);
  return {
    version: undefined,
    libraries,
    include,
    binding: join(cacheDirectory(), "own", `${key}-${bindingKey()}`),
  };
}

async function installedLibrary(name: TensorflowName): Promise<Tensorflow | undefined> {
  for (const root of folders(name)) if (await isWhole(root)) return describe(root);
  return undefined;
}

/** Where a library for this engine may be: the GPU build serves the CPU too, with the GPU hidden. */
function folders(name: TensorflowName): string[] {
  const builds = name === "tensorflow" ? (["tensorflow", "tensorflow-gpu"] as const) : [name];
  return builds.map((build) => libraryFolder(cacheDirectory(), build));
}

function libraryFolder(cache: string, name: TensorflowName): string {
  return join(cache, `${name}-${tensorflowVersion}-${process.platform}-${process.arch}`);
}

function describe(root: string): Tensorflow {
  return {
    version: tensorflowVersion,
    libraries: join(root, "tensorflow"),
    include: join(root, "tensorflow", "include"),
    binding: join(root, bindingKey()),
  };
}

/** Whether all files of a finished installation are still there, whole. */
async function isWhole(root: string): Promise<boolean> {
  const manifest = await readJson<Manifest>(join(root, "installed.json"));
  if (manifest?.version !== tensorflowVersion) return false;
  return manifest.files.every(({ path, size }) => {
    const found = statSync(join(root, path), { throwIfNoEntry: false });
    return found?.size === size;
  });
}

async function installLibrary(
  name: TensorflowName,
  cache: string,
  log: (line: string) => void,
  progress: (step: string) => OnProgress,
): Promise<Tensorflow> {
  const tags = platformTags();
  // the builds for other processors than x86-64 have no CUDA
  if (tags === undefined || (name === "tensorflow-gpu" && !tags[0]!.endsWith("_x86_64"))) {
    throw new EngineError(
      `TensorFlow has no ${name === "tensorflow-gpu" ? "CUDA " : ""}build for ${process.platform} ${process.arch}`,
    );
  }
  const root = libraryFolder(cache, name);
  const staging = temporaryBeside(root);
  await removeLeftovers(cache);
  await mkdir(staging, { recursive: true });
  try {
    const files = await installWheels([mainRequirement(name)], { cache, staging, tags, log, progress });
    if (name === "tensorflow-gpu") {
      const companions = requirementsOfExtra(await readMetadata(staging, files), "and-cuda");
      files.push(...(await installWheels(companions, { cache, staging, tags, log, progress })));
    }
    await writeFileAtomic(
      join(staging, "installed.json"),
      JSON.stringify({ version: tensorflowVersion, files }),
    );
    await rm(root, { recursive: true, force: true });
    await rename(staging, root);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return describe(root);
}

function mainRequirement(name: TensorflowName): Requirement {
  // only x86-64 has a build without CUDA under a name of its own; elsewhere `tensorflow` is that build
  const cpuOnly = name === "tensorflow" && process.arch === "x64";
  return { name: cpuOnly ? "tensorflow-cpu" : "tensorflow", specifier: `==${tensorflowVersion}` };
}

interface Job {
  cache: string;
  staging: string;
  tags: string[];
  log: (line: string) => void;
  progress: (step: string) => OnProgress;
}

async function installWheels(requirements: Requirement[], job: Job): Promise<Manifest["files"]> {
  const wheels = await findWheels(requirements, job.tags);
  const files: Manifest["files"] = [];
  for (const wheel of wheels) {
    const path = join(job.cache, "downloads", wheel.filename);
    await fetchWheel(wheel, path, requirements, job);
    const unpacked = job.progress(`unpacking ${wheel.filename}`);
    files.push(...(await unpackWheel(path, job.staging, isNeeded, unpacked)));
    await rm(path);
  }
  return files;
}

async function fetchWheel(wheel: Wheel, path: string, requirements: Requirement[], job: Job): Promise<void> {
  await mkdir(join(job.cache, "downloads"), { recursive: true });
  job.log(`downloading ${wheel.filename}${wheel.size === undefined ? "" : ` (${megabytes(wheel.size)})`}`);
  try {
    await download(wheel, path, job.progress(wheel.filename));
  } catch (error) {
    // an index that wants credentials or certificates only pip knows, or a proxy, which Node's fetch passes by
    const proxy = Object.keys(process.env).some((name) => /^(all|https?)_proxy$/i.test(name));
    const pipKnows = /the server answered 40[137]|certificate/.test(firstLine(error));
    if (!pipKnows && !(proxy && /the download failed/.test(firstLine(error)))) throw error;
    const normal = (name: string) => name.toLowerCase().replace(/[-_.]+/g, "-");
    const requirement = requirements.find(({ name }) =>
      normal(wheel.filename).startsWith(`${normal(name)}-`),
    );
    if (
      requirement === undefined ||
      !(await downloadByPip(requirement, job.tags, join(job.cache, "downloads")))
    ) {
      throw error;
    }
    await download(wheel, path, () => {});
  }
}

/** What is unpacked: the C libraries, the C API's headers, CUDA's libraries, and the metadata with the licences. */
function isNeeded(path: string): boolean {
  if (/^[^/]+\.dist-info\//.test(path)) return !path.endsWith("/RECORD");
  if (/^tensorflow\/libtensorflow_(cc|framework)[.\w]*$/.test(path)) return true;
  if (path.startsWith("tensorflow/include/")) {
    const header = path.slice("tensorflow/include/".length);
    return /^(tensorflow\/c|tensorflow\/core\/platform|tensorflow\/core\/common_runtime\/next_pluggable_device\/c|tsl\/platform|xla\/tsl\/c)\/.*\.h$/.test(
      header,
    );
  }
  return /^nvidia\/.*\/(lib\/[^/]+\.so[.\d]*|bin\/ptxas|nvvm\/libdevice\/.*)$/.test(path);
}

async function readMetadata(staging: string, files: Manifest["files"]): Promise<string> {
  const file = files.find(({ path }) => /^tensorflow-[^/]*\.dist-info\/METADATA$/.test(path));
  if (file === undefined) throw new EngineError("the wheel of tensorflow has no METADATA");
  return readFile(join(staging, file.path), "utf8");
}

/** Staging folders of installers that were killed; the lock is held, so nobody works in them. */
async function removeLeftovers(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (name.endsWith(".tmp")) await rm(join(cache, name), { recursive: true, force: true });
  }
}

function asEngineError(name: TensorflowName, error: unknown): EngineError {
  if (error instanceof EngineError) return new EngineError(`${name}: ${error.message}`);
  const code = (error as { code?: string }).code;
  if (code === "ENOSPC" || code === "EDQUOT") {
    const cache = cacheDirectory();
    return new EngineError(
      `${name}: the disk that holds ${cache} is full; free some space or set XDG_CACHE_HOME`,
    );
  }
  const { syscall } = error as { syscall?: string };
  if (syscall === "mkdir" || code === "EROFS" || code === "EACCES") {
    const cache = cacheDirectory();
    return new EngineError(
      `${name}: ${cache} can't be written (${firstLine(error)}); set XDG_CACHE_HOME to a folder that can`,
    );
  }
  return new EngineError(`${name}: ${firstLine(error)}`);
}
