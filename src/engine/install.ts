import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { replaceFolder, syncTree, temporaryBeside, writeFileAtomic } from "../files/atomic.js";
import { type Lock, withLock } from "../files/lock.js";
import {
  bindingFault,
  bindingKey,
  buildBinding,
  buildOperations,
  type Library,
  libraryFiles,
  nodePackage,
  operationsFault,
  removeOperations,
} from "./binding.js";
import { cacheDirectory, megabytes, readJson } from "./cache.js";
import { DownloadError, download, type OnProgress, removePart } from "./download.js";
import { asEngineError, EngineError, firstLine } from "./errors.js";
import { nvidiaDevices } from "./hardware.js";
import { checkFiles, describeFiles, type InstalledFile, installedFiles } from "./integrity.js";
import { fetchPackage, packageFault } from "./npm-package.js";
import {
  downloadByPip,
  findWheels,
  type PinnedWheel,
  platformTags,
  runsOn,
  type Wheel,
} from "./package-index.js";
import { engineSources } from "./package-root.js";
import { unpackWheel } from "./wheel.js";

/** The engines that need an installation: TensorFlow on the processor, and on NVIDIA's GPUs. */
export type TensorflowName = "tensorflow" | "tensorflow-gpu";

/** An installed libtensorflow with its binding. */
export interface Tensorflow extends Library {
  /** Such as "2.21.0"; undefined for the user's own (FIRSTFRAME_LIBTENSORFLOW). */
  version: string | undefined;
}

/** Options of {@link installTensorflow}. */
export interface InstallOptions {
  /** Fetches and builds again even what is already there. */
  force?: boolean;
  /** Called with a line for each thing that is done. */
  log?: (line: string) => void;
  /** Called with a step's progress, in bytes. */
  progress?: (step: string) => OnProgress;
}

/** What a finished installation contains; its file is written last. */
interface Manifest {
  version: string;
  files: InstalledFile[];
}

const manifestName = "installed.json";

/** The wheels of an engine, for each platform that has a build: "linux-x64" and so on. */
export type Builds = Readonly<Record<string, Partial<Record<TensorflowName, readonly PinnedWheel[]>>>>;

/** The TensorFlow that is installed, and the wheels that it comes in; written by .ci/pin-python.mjs. */
export const { version: tensorflowVersion, builds: pinnedBuilds } = JSON.parse(
  readFileSync(join(engineSources, "wheels.json"), "utf8"),
) as { version: string; builds: Builds };

/**
 * Puts libtensorflow and TensorFlow.js's binding for it into the cache. What is already there and intact stays, without
 * any need for a network; what is damaged is fetched or built again. An interrupted installation continues where it
 * stopped; a second installer waits for the first.
 *
 * @returns where it is.
 * @throws EngineError, one line, when the platform has no build, the network or the disk fails, or nothing can compile.
 */
export function installTensorflow(name: TensorflowName, options: InstallOptions = {}): Promise<Tensorflow> {
  return installFrom(pinnedBuilds, name, options);
}

/** {@link installTensorflow} from other wheels. */
export async function installFrom(
  builds: Builds,
  name: TensorflowName,
  options: InstallOptions = {},
): Promise<Tensorflow> {
  const log = options.log ?? (() => {});
  const progress = options.progress ?? (() => () => {});
  const cache = cacheDirectory();
  try {
    const own = ownLibrary();
    // No need to wait for the lock if everything is there: another process may be compiling for another library.
    const there = options.force ? undefined : (own ?? (await intactLibrary(name)));
    const packaged = options.force ? false : !(await packageFault(nodePackage, true));
    // Trying the operations loads the binding first.
    if (
      packaged &&
      there !== undefined &&
      !(await bindingFault(there, false)) &&
      !(await operationsFault(there, true))
    ) {
      log(`${name} is installed in ${there.libraries}`);
      return there;
    }
    await mkdir(cache, { recursive: true });
    return await withLock(cache, { busy: `installs into ${cache}`, log }, async (lock) => {
      await removeLeftovers(
        cache,
        ...["downloads", "own", "packages"].map((folder) => join(cache, folder)),
        ...folders(name),
      );
      const library =
        own ??
        (options.force ? undefined : await intactLibrary(name, log)) ??
        (await installLibrary(builds, name, { cache, lock, log, progress }));
      if (options.force || (await packageFault(nodePackage, true)))
        await fetchPackage(nodePackage, lock, log);
      const unbound = await bindingFault(library, true);
      if (options.force || unbound !== undefined) {
        if (unbound?.damaged) log(unbound.reason);
        log("compiling the binding between Node and libtensorflow (about half a minute)");
        await buildBinding(library, lock);
      }
      const unfused = await operationsFault(library, true);
      if (options.force || unfused !== undefined) {
        if (unfused?.damaged) log(unfused.reason);
        log("compiling the fused operations");
        // Everything runs without them, only more slowly.
        try {
          await buildOperations(library, lock);
        } catch (error) {
          lock.assertHeld();
          await removeOperations(library);
          log(`${firstLine(error)}; they are left out`);
          log(`${name} is installed in ${library.libraries}, without its fused operations`);
          return library;
        }
      }
      log(`${name} is installed in ${library.libraries}`);
      return library;
    });
  } catch (error) {
    throw failure(name, error);
  }
}

/**
 * The library that an engine runs on, and its binding.
 *
 * @param all compares every file with what was installed, which takes a second or more, not only those written since.
 * @throws EngineError that says what to type when there is no libtensorflow or no binding for it, or they are damaged.
 */
export async function findTensorflow(name: TensorflowName, all = false): Promise<Tensorflow> {
  const hint = `run \`firstframe engine install ${name}\``;
  let library = ownLibrary();
  let reason = "libtensorflow is not installed";
  for (const root of library === undefined ? folders(name) : []) {
    const fault = await libraryFault(root, all);
    if (fault === undefined) library = describe(root);
    else if (existsSync(root)) reason = `${root} is not whole: ${fault}`;
    if (library !== undefined) break;
  }
  if (library === undefined) throw new EngineError(reason, { subject: name, hint });
  const unpackaged = await packageFault(nodePackage, all);
  if (unpackaged !== undefined) throw new EngineError(unpackaged, { subject: name, hint });
  const fault = await bindingFault(library, false);
  if (fault !== undefined) throw new EngineError(fault.reason, { subject: name, hint });
  return library;
}

/** Whether {@link findTensorflow} finds an intact libtensorflow and its binding. Only a start shows whether the device is there. */
export async function isInstalled(name: TensorflowName): Promise<boolean> {
  return findTensorflow(name).then(
    () => true,
    () => false,
  );
}

/** Whether the user installed or named a libtensorflow, intact or not: then it should run, or a line should say why not. */
export function isWanted(name: TensorflowName): boolean {
  // The user's own may be either build; without a GPU it is taken to be the one for the processor.
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

/** A library that is known to be exactly as it was installed; `log` is told about any other. */
async function intactLibrary(
  name: TensorflowName,
  log: (line: string) => void = () => {},
): Promise<Tensorflow | undefined> {
  for (const root of folders(name)) {
    const files = installedFiles(await readJson(join(root, manifestName)));
    const unknown = files?.every(({ sha256 }) => sha256 !== undefined) ? undefined : "it has no checksums";
    const fault = (await libraryFault(root, true)) ?? unknown;
    if (fault === undefined) return describe(root);
    if (existsSync(root)) log(`${root} is not whole: ${fault}`);
  }
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

/** Why an installation is unusable, if it is. @param all as in {@link findTensorflow}. */
async function libraryFault(root: string, all: boolean): Promise<string | undefined> {
  const manifest = await readJson<Manifest>(join(root, manifestName));
  const files = installedFiles(manifest);
  if (manifest?.version !== tensorflowVersion || files === undefined) return `it has no ${manifestName}`;
  const { libraries } = describe(root);
  const listed = (file: string) => files.some(({ path }) => path === `tensorflow/${file}`);
  if (!libraryFiles(libraries)?.every(listed)) return "it has no libtensorflow";
  const { damage, moved } = await checkFiles(root, files, all);
  if (damage === undefined && moved) {
    // The same bytes with another time: it was copied from elsewhere.
    const noted = files.map(({ path, ...file }) => {
      const modified = Math.floor(statSync(join(root, path)).mtimeMs / 1000);
      return { path, ...file, modified };
    });
    await writeManifest(root, noted).catch(() => {});
  }
  return damage;
}

async function writeManifest(root: string, files: InstalledFile[]): Promise<void> {
  const manifest: Manifest = { version: tensorflowVersion, files };
  await writeFileAtomic(join(root, manifestName), JSON.stringify(manifest));
}

interface Job {
  cache: string;
  lock: Lock;
  log: (line: string) => void;
  progress: (step: string) => OnProgress;
}

async function installLibrary(builds: Builds, name: TensorflowName, job: Job): Promise<Tensorflow> {
  const wheels = builds[`${process.platform}-${process.arch}`]?.[name];
  const tags = platformTags();
  if (wheels === undefined || tags === undefined) {
    throw new EngineError(
      `TensorFlow has no ${name === "tensorflow-gpu" ? "CUDA " : ""}build for ${process.platform} ${process.arch}`,
    );
  }
  const other = wheels.find((wheel) => !runsOn(wheel, tags));
  if (other !== undefined) {
    throw new EngineError(`expected a system that ${other.filename} runs on, found ${tags[0]} at most`);
  }
  const root = libraryFolder(job.cache, name);
  const staging = temporaryBeside(root);
  await mkdir(staging, { recursive: true });
  try {
    const paths: string[] = [];
    for (const wheel of await findWheels(wheels)) paths.push(...(await installWheel(wheel, staging, job)));
    await writeManifest(staging, await describeFiles(staging, paths));
    await syncTree(staging);
    job.lock.assertHeld();
    await replaceFolder(staging, root);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return describe(root);
}

/** Fetches a wheel and unpacks what is needed of it. @returns the paths of the files. */
async function installWheel(wheel: Wheel, staging: string, job: Job): Promise<string[]> {
  const part = join(job.cache, "downloads", `${wheel.filename}.part`);
  job.log(`downloading ${wheel.filename} (${megabytes(wheel.size)})`);
  const file = await fetchWheel(wheel, part, job);
  try {
    const unpacking = job.progress(`unpacking ${wheel.filename}`);
    const paths = await unpackWheel(file, wheel.filename, staging, isNeeded, unpacking);
    job.lock.assertHeld();
    await removePart(part);
    return paths;
  } finally {
    await file.close();
  }
}

async function fetchWheel(wheel: Wheel, part: string, job: Job) {
  const { signal } = job.lock;
  try {
    return await download(wheel, part, job.progress(wheel.filename), { signal });
  } catch (error) {
    // The index may want credentials or certificates that only pip knows, or there is a proxy, which Node's fetch ignores.
    const proxy = Object.keys(process.env).some((name) => /^(all|https?)_proxy$/i.test(name));
    if (!(error instanceof DownloadError)) throw error;
    const { failure, status } = error;
    const pipKnows = failure === "certificate" || [401, 403, 407].includes(status ?? 0);
    if (!pipKnows && !(proxy && failure === "connection")) throw error;
    const folder = temporaryBeside(part);
    try {
      if (!(await downloadByPip(wheel, folder))) throw error;
      const url = pathToFileURL(join(folder, wheel.filename)).href;
      return await download({ ...wheel, url }, part, () => {}, { signal });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
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

/**
 * Removes what installers that were killed or fell asleep left behind. The lock is held, so nobody else is at work here;
 * a sleeper that wakes up finds its files gone and its turn over.
 */
async function removeLeftovers(...places: string[]): Promise<void> {
  for (const place of places) {
    for (const name of await readdir(place).catch(() => [])) {
      if (name.endsWith(".tmp")) await rm(join(place, name), { recursive: true, force: true });
    }
  }
}

function failure(name: TensorflowName, error: unknown): EngineError {
  if (error instanceof EngineError) return asEngineError(name, error);
  const code = (error as { code?: string }).code;
  if (code === "ENOSPC" || code === "EDQUOT") {
    const cache = cacheDirectory();
    const hint = "free some space or set XDG_CACHE_HOME";
    return new EngineError(`the disk that holds ${cache} is full`, { subject: name, hint });
  }
  const { syscall } = error as { syscall?: string };
  if (syscall === "mkdir" || code === "EROFS" || code === "EACCES") {
    const cache = cacheDirectory();
    const hint = "set XDG_CACHE_HOME to a folder that can";
    return new EngineError(`${cache} can't be written (${firstLine(error)})`, { subject: name, hint });
  }
  return asEngineError(name, error);
}
