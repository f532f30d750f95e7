/**
 * Models by their id on the Hugging Face Hub, such as "zai-org/CogVideoX1.5-5B-I2V". They are read from the cache that
 * Python's huggingface_hub keeps, and what is missing there is downloaded into it: only the files that are read.
 */

import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, posix, relative } from "node:path";
import type { ListFileEntry } from "#hub";
import { Progress } from "../display/progress.js";
import { assertSpace, readJson } from "../engine/cache.js";
import { DownloadError, downloadTo, fetchSafely } from "../engine/download.js";
import { EngineError, firstLine, InputError, passedOn } from "../engine/errors.js";
import { packageRoot } from "../engine/package-root.js";
import { writeFileAtomic } from "../files/atomic.js";
import { type Lock, withLock } from "../files/lock.js";
import {
  CheckpointError,
  chooseWeights,
  isIndex,
  readShardIndex,
  WEIGHTS,
  type WeightsLocation,
  weightFiles,
} from "./checkpoint.js";
import { ConfigError, MODEL_CONFIG, MODEL_INDEX } from "./config.js";
import type { ModelDtype, Quantization } from "./dtype.js";
import { isTorchFile } from "./torch-file.js";

/** A model that can't be found or fetched; one line that says what was looked for, where, and what to do. */
export class HubError extends InputError {
  override get kind() {
    return "hub" as const;
  }
}

/** Where a model is, by diffusers' names. */
export interface HubOptions {
  /** A branch, tag or commit of a model on the Hub. Default "main". */
  readonly revision?: string;
  /** The model's folder within a pipeline, such as "vae"; for local folders, too. */
  readonly subfolder?: string;
  /** Default: HF_HUB_CACHE, or "hub" in HF_HOME, or ~/.cache/huggingface/hub. */
  readonly cacheDir?: string;
  /** Uses what the cache has and asks no server. Default: HF_HUB_OFFLINE. */
  readonly localFilesOnly?: boolean;
  /** Default: HF_TOKEN, or what `hf auth login` stored. */
  readonly token?: string;
}

/** Where a model and its weights are. */
export interface LoadModelOptions extends HubOptions, WeightsLocation {
  /**
   * Format of the weights in memory, whatever the file's: diffusers' `torch_dtype`. In bfloat16 they take half the memory, the
   * factors of products are rounded, too, and the model is frozen. Default float32.
   */
  readonly dtype?: ModelDtype | undefined;
  /** Checks the weights' names and shapes, and reads each when it is first used. Default false. */
  readonly lazy?: boolean;
}

/** The same of a model whose linear layers can be quantised: the text encoder and the transformer. */
export interface LoadQuantizedOptions extends LoadModelOptions {
  /**
   * Holds the weights of linear layers as int8 with a float32 scale for each output, max|w| / 127, as torchao's int8 weight-only
   * quantisation ("int8wo" of diffusers' `quantization_config`) does: a byte a weight. Products are computed in `dtype`'s
   * precision, with a few hundred outputs widened at a time. Such weights are frozen; LoRA adapters train on them. Default: none.
   */
  readonly quantization?: Quantization | undefined;
}

/**
 * Which files of a repository's folder are going to be read.
 * @throws MissingFile when the repository lacks what it takes.
 */
export type Needs = (repository: Repository, folder: string) => Promise<string[]> | string[];

/** What a repository lacks; the caller adds where it looked. */
class MissingFile extends InputError {}

/** The files of a model at one commit; paths go from its root, with slashes. */
export class Repository {
  readonly #paths: ReadonlySet<string>;
  readonly #locate: (path: string) => Promise<string>;
  readonly #isWhole: boolean;
  /** Whether it is somebody's own folder, from which nothing is fetched. */
  readonly isLocal: boolean;

  /** @param isWhole whether the paths are all that the repository has, and not only those that were fetched so far. */
  constructor(
    paths: ReadonlySet<string>,
    locate: (path: string) => Promise<string>,
    { isWhole, isLocal = false }: { readonly isWhole: boolean; readonly isLocal?: boolean },
  ) {
    this.isLocal = isLocal;
    this.#paths = paths;
    this.#locate = locate;
    this.#isWhole = isWhole;
  }

  /** The paths of those of the files that the folder has. */
  present(folder: string, names: readonly string[]): string[] {
    return names.map((name) => posix.join(folder, name)).filter((path) => this.#paths.has(path));
  }

  /** The names of all files that lie in the folder itself; none where that is not known. */
  names(folder: string): string[] {
    if (!this.#isWhole) return [];
    return [...this.#paths]
      .filter((path) => posix.dirname(path) === folder)
      .map((path) => posix.basename(path));
  }

  /** The path of the first of these files that the folder has. @throws MissingFile if it has none of them. */
  oneOf(folder: string, names: readonly string[]): string {
    const [first] = this.present(folder, names);
    if (first !== undefined) return first;
    const wanted = names.map((name) => posix.join(folder, name)).join(" nor ");
    const weights = [...this.#paths].filter((path) => posix.dirname(path) === folder && WEIGHTS.test(path));
    const instead = weights.length > 0 ? `, only ${weights.join(", ")}` : "";
    throw new MissingFile(`it has ${names.length > 1 ? "neither" : "no"} ${wanted}${instead}`);
  }

  /** Fetches a file. @returns where it can be read. */
  open(path: string): Promise<string> {
    return this.#locate(path);
  }
}

/** A model's configuration and weights. */
export const modelFiles =
  (location: WeightsLocation = {}): Needs =>
  async (repository, folder) => {
    const config = repository.oneOf(folder, [MODEL_CONFIG]);
    const { single, index } = weightFiles(location);
    const chosen = chooseWeights(repository.names(folder), location)?.file;
    // Torch's own files are read where they are, but none is fetched.
    const others = chosen === undefined || (isTorchFile(chosen) && !repository.isLocal) ? [] : [chosen];
    const weights = repository.oneOf(folder, [index, single, ...others]);
    if (!isIndex(weights)) return [config, weights];
    const shards = new Set((await readShardIndex(await repository.open(weights))).values());
    return [config, weights, ...[...shards].map((shard) => repository.oneOf(folder, [shard]))];
  };

/** Small files, by their names, which must exist. */
export const namedFiles =
  (...names: readonly string[]): Needs =>
  async (repository, folder) => {
    const paths = names.map((name) => repository.oneOf(folder, [name]));
    for (const path of paths) await repository.open(path);
    return paths;
  };

/** Folders of a pipeline, by name. */
export const componentFiles =
  (components: Readonly<Record<string, Needs>>): Needs =>
  async (repository, folder) => {
    const files: string[] = [];
    for (const [name, needs] of Object.entries(components))
      files.push(...(await needs(repository, posix.join(folder, name))));
    return files;
  };

/**
 * The local folder of a pipeline, as {@link resolveModel} finds it, which has all of these parts.
 * @param components what is going to be read of each part's folder.
 * @throws HubError; CheckpointError naming all parts that a folder lacks.
 */
export async function resolvePipeline(
  idOrFolder: string,
  options: HubOptions,
  components: Readonly<Record<string, Needs>>,
): Promise<string> {
  const root = await resolveModel(idOrFolder, options, componentFiles(components));
  const lacks: string[] = [];
  for (const [name, needs] of Object.entries(components)) {
    const files = await readdir(join(root, name)).catch(() => undefined);
    if (files === undefined) {
      lacks.push(`${name}: no such folder`);
      continue;
    }
    const paths = new Set(files.map((file) => posix.join(name, file)));
    const repository = new Repository(paths, async (path) => join(root, path), {
      isWhole: true,
      isLocal: true,
    });
    try {
      await needs(repository, name);
    } catch (error) {
      if (!(error instanceof MissingFile)) throw error;
      lacks.push(`${name}: ${error.message}`);
    }
  }
  if (lacks.length > 0)
    throw new CheckpointError(`parts of the pipeline are missing: ${lacks.join("; ")}`, { file: root });
  return root;
}

/** The folder of a model's configuration: the model's own, or where its single file of weights lies. */
export async function configFolder(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || found.isDirectory()) return path;
  const folder = dirname(path);
  if (existsSync(join(folder, MODEL_CONFIG))) return folder;
  throw new ConfigError(`a single file, without the model's ${MODEL_CONFIG} beside it`, {
    file: path,
    hint: "expected a folder as save_pretrained writes it",
  });
}

/**
 * The local folder of a model, given as a folder or by its id on the Hub ("org/name"). A folder of that name comes first,
 * then this package's small models; for these no server is asked. A complete copy in the cache is used without asking
 * whether the Hub has something newer.
 *
 * @param needs the files that will be read; only they are fetched.
 * @throws HubError, one line.
 */
export async function resolveModel(idOrFolder: string, options: HubOptions, needs: Needs): Promise<string> {
  const { subfolder } = options;
  const within = (folder: string) => (subfolder === undefined ? folder : join(folder, subfolder));
  if (existsSync(idOrFolder)) return within(await snapshotIn(idOrFolder, options.revision));
  // A tutorial that was copied elsewhere still finds the small models.
  const shipped = join(packageRoot, "notebooks", idOrFolder);
  if (SHIPPED.test(idOrFolder) && existsSync(shipped)) return within(shipped);
  // A part that a local pipeline lacks is no model of an organisation that is called like the folder.
  if (existsSync(join(dirname(idOrFolder), MODEL_INDEX)))
    throw new HubError(`${idOrFolder}: no such folder in the pipeline's`);
  if (!MODEL_ID.test(idOrFolder) || NO_MODEL_ID.test(idOrFolder)) {
    throw new HubError(
      `${idOrFolder}: no such file or folder, and not the id of a model on the Hugging Face Hub, such as ${EXAMPLE}`,
    );
  }
  const place = placeOf(idOrFolder, options);
  const folder = posix.normalize(subfolder ?? ".").replace(/(.)\/$/, "$1");
  const cached = await findInCache(place, needs, folder);
  return within(cached.snapshot ?? (await fetchSnapshot(place, needs, folder, cached.lack)));
}

// -- where ---------------------------------------------------------------------------------------------------------

const EXAMPLE = "zai-org/CogVideoX1.5-5B-I2V";
/** The models that come with this package, as its tutorials name them. */
const SHIPPED = /^models\/procedural(?:\/\w+)?$/;
/** The Hub's own rule for "organisation/name". */
const MODEL_ID = /^\w(?:[\w.-]{0,94}\w)?\/\w(?:[\w.-]{0,94}\w)?$/;
/** What that rule excludes besides; and a missing file is no reason to ask a server. */
const NO_MODEL_ID = /\.\.|--|\.(git|safetensors)$/;
const COMMIT = /^[0-9a-f]{40}$/;
/** A Git name that is a path within a folder. */
const REVISION = /^\w[\w.+-]*(?:\/\w[\w.+-]*)*$/;
const DEFAULT_REVISION = "main";
const OTHER_SERVER = "HF_ENDPOINT names another server";

interface Place {
  readonly id: string;
  readonly revision: string;
  readonly endpoint: string;
  readonly cache: string;
  /** The model's folder in the cache: blobs by their hash, refs, and snapshots, which are links to blobs. */
  readonly storage: string;
  readonly offline: boolean;
  readonly token: string | undefined;
  readonly tokenFile: string;
}

function placeOf(id: string, options: HubOptions, env: NodeJS.ProcessEnv = process.env): Place {
  const { revision = DEFAULT_REVISION } = options;
  if (!REVISION.test(revision) || revision.includes(".."))
    throw new HubError(
      `${id}: revision: expected a branch, tag or commit, found ${JSON.stringify(revision)}`,
    );
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  if (!URL.canParse(endpoint)) throw new HubError(`HF_ENDPOINT: expected an address, found ${endpoint}`);
  const home = expandUser(
    env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface"),
  );
  const cache = expandUser(
    options.cacheDir ?? (env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, "hub")),
  );
  return {
    id,
    revision,
    endpoint,
    cache,
    storage: join(cache, `models--${id.replace("/", "--")}`),
    offline: options.localFilesOnly || isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE),
    token: options.token ?? (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN),
    tokenFile: expandUser(env.HF_TOKEN_PATH || join(home, "token")),
  };
}

const isTrue = (value = ""): boolean => ["1", "ON", "YES", "TRUE"].includes(value.toUpperCase());
const expandUser = (path: string): string => path.replace(/^~(?=\/|$)/, homedir());

async function readToken({ token, tokenFile }: Place): Promise<string | undefined> {
  const text = token ?? (await readFile(tokenFile, "utf8").catch(() => ""));
  return text.replace(/[\r\n]/g, "").trim() || undefined;
}

/**
 * The snapshot within a model's folder of the Hugging Face cache ("models--org--name"); any other path as it is.
 * @throws HubError naming the snapshots or models, if it is not clear which is meant.
 */
async function snapshotIn(path: string, revision: string | undefined): Promise<string> {
  const names = await readdir(path).catch(() => [] as string[]);
  if (names.includes("snapshots")) {
    const snapshots = await readdir(join(path, "snapshots"));
    const wanted = revision ?? DEFAULT_REVISION;
    const commit = (await readFile(join(path, "refs", wanted), "utf8").catch(() => wanted)).trim();
    if (snapshots.includes(commit)) return join(path, "snapshots", commit);
    const [only] = snapshots;
    if (revision === undefined && only !== undefined && snapshots.length === 1)
      return join(path, "snapshots", only);
    throw new HubError(
      `${path}: a folder of the Hugging Face cache without revision ${wanted}, with the snapshots ${snapshots.join(", ") || "(none)"}`,
      { hint: "name one of them as the revision" },
    );
  }
  const models = names.filter((name) => STORED_MODEL.test(name));
  if (models.length === 0 || names.includes(MODEL_INDEX) || names.includes(MODEL_CONFIG)) return path;
  const ids = models.map((name) => name.replace(STORED_MODEL, "$1").replace("--", "/"));
  throw new HubError(
    `${path}: expected a model, found the Hugging Face cache itself, with ${ids.join(", ")}`,
    {
      hint: `set HF_HUB_CACHE=${path} and give the model's id`,
    },
  );
}

/** What the cache calls a model's folder. */
const STORED_MODEL = /^models--(.+)$/;

// -- the cache -----------------------------------------------------------------------------------------------------

/** A snapshot that has everything needed; otherwise what the newest one lacks, if there is one. */
async function findInCache(
  { storage, revision }: Place,
  needs: Needs,
  folder: string,
): Promise<{ readonly snapshot?: string; readonly lack?: string }> {
  const ref = await readFile(join(storage, "refs", revision), "utf8").catch(() => revision);
  const commit = ref.trim();
  const snapshot = join(storage, "snapshots", commit);
  if (!COMMIT.test(commit) || !existsSync(snapshot)) return {};
  const files = await readdir(snapshot, { recursive: true });
  // Python's library lists the commit's files there; a snapshot may hold only some of them.
  const tree = await readJson<{ files?: object }>(join(storage, "trees", `${commit}.json`));
  const paths = tree?.files ? Object.keys(tree.files) : files;
  const isWhole = tree?.files !== undefined;
  const repository = new Repository(new Set(paths), async (path) => join(snapshot, path), { isWhole });
  try {
    const missing = (await needs(repository, folder)).filter((path) => !existsSync(join(snapshot, path)));
    return missing.length === 0 ? { snapshot } : { lack: `it has no ${missing.join(", ")}` };
  } catch (error) {
    // An index that is missing or cut off is fetched like any other file.
    if ([MissingFile, ConfigError, CheckpointError].some((known) => error instanceof known))
      return { lack: firstLine(error) };
    throw error;
  }
}

/** Links a snapshot's file to its blob as Python's library does: relatively, so that the cache can be moved. */
async function linkToBlob(blob: string, pointer: string): Promise<void> {
  if (existsSync(pointer)) return;
  await mkdir(dirname(pointer), { recursive: true });
  await rm(pointer, { force: true }); // a link whose blob is gone
  await symlink(relative(dirname(pointer), blob), pointer).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error; // another program made it meanwhile
  });
}

// -- the Hub -------------------------------------------------------------------------------------------------------

/** Downloads what is needed; the snapshot appears once everything is there. */
async function fetchSnapshot(
  place: Place,
  needs: Needs,
  folder: string,
  lack: string | undefined,
): Promise<string> {
  const { id, cache, storage, revision } = place;
  const absence = describeAbsence(place, folder, lack);
  if (place.offline)
    throw new HubError(`${absence}, and HF_HUB_OFFLINE or localFilesOnly forbids asking ${place.endpoint}`, {
      hint: howToFetch(place, folder),
    });
  const token = await readToken(place);
  const server = new HubServer(place, token, `${absence}, and`, howToFetch(place, folder));
  const commit = await server.commit();
  try {
    return await withLock(
      join(cache, ".locks", `models--${id.replace("/", "--")}`),
      { busy: `downloads ${id}`, log: console.error },
      async (lock) => {
        const meanwhile = await findInCache(place, needs, folder);
        if (meanwhile.snapshot !== undefined) return meanwhile.snapshot;
        const entries = await server.files(commit);
        const transfer = new Transfer(place, commit, entries, token, lock);
        const repository = new Repository(new Set(entries.keys()), (path) => transfer.fetch(path), {
          isWhole: true,
        });
        const paths = new Set(await needs(repository, folder));
        await transfer.fetchAll([...paths]);
        const snapshot = join(storage, "snapshots", commit);
        lock.assertHeld();
        // The files that make a snapshot count as present come first in their lists, so they are linked last.
        for (const path of [...paths].reverse()) await linkToBlob(transfer.blob(path), join(snapshot, path));
        if (revision !== commit) await writeFileAtomic(join(storage, "refs", revision), commit);
        return snapshot;
      },
    );
  } catch (error) {
    // The Hub lists a gated model's files to everyone but serves them only to some.
    if (error instanceof DownloadError && (error.status === 401 || error.status === 403))
      throw server.refusal(error.status, "GatedRepo", error.message);
    if (error instanceof MissingFile) throw new HubError(`${id} (revision ${revision}): ${error.message}`);
    if (error instanceof EngineError) throw passedOn(HubError, error, `${id}: `);
    if ((error as NodeJS.ErrnoException).syscall !== undefined)
      throw new HubError(`${id}: the cache can't be written: ${firstLine(error)}`, {
        hint: "HF_HOME names another",
      });
    throw error;
  }
}

function describeAbsence({ id, cache, revision }: Place, folder: string, lack: string | undefined): string {
  const what = folder === "." ? "" : `${folder} of `;
  return lack === undefined
    ? `${id}: no such folder; the Hugging Face cache (${cache}) has no ${what}${id} at revision ${revision}`
    : `${id}: no such folder; the Hugging Face cache (${cache}) has it at revision ${revision} only in part: ${lack}`;
}

function howToFetch({ id, revision }: Place, folder: string): string {
  const at = revision === DEFAULT_REVISION ? "" : ` --revision ${revision}`;
  const some = folder === "." ? "" : ` --include "${folder}/*"`;
  return `where there is a network, \`hf download ${id}${at}${some}\` fetches it`;
}

/** What the Hub says about a model, through its client library. */
class HubServer {
  readonly #place: Place;
  readonly #token: string | undefined;
  readonly #absence: string;
  readonly #advice: string;

  constructor(place: Place, token: string | undefined, absence: string, advice: string) {
    this.#place = place;
    this.#token = token;
    this.#absence = absence;
    this.#advice = advice;
  }

  /** The commit that the revision is. */
  async commit(): Promise<string> {
    const { modelInfo } = await import("#hub");
    const { id: name, revision, endpoint: hubUrl } = this.#place;
    const { sha } = await this.#reading(() =>
      modelInfo({ name, revision, hubUrl, fetch: this.#fetch, additionalFields: ["sha"] }),
    );
    if (!COMMIT.test(sha)) throw this.#unreadable(`no commit, but ${JSON.stringify(sha)}`);
    return sha;
  }

  /** The files of a commit, by path. */
  async files(commit: string): Promise<Map<string, ListFileEntry>> {
    const { listFiles } = await import("#hub");
    const { id: repo, endpoint: hubUrl } = this.#place;
    const entries = new Map<string, ListFileEntry>();
    await this.#reading(async () => {
      const all = listFiles({ repo, revision: commit, recursive: true, hubUrl, fetch: this.#fetch });
      for await (const entry of all)
        if (entry.type === "file" && isSafePath(entry.path)) entries.set(entry.path, entry);
    });
    return entries;
  }

  /** Why the server refuses something, in plain words. */
  refusal(status: number, code: string | null, answer: string): HubError {
    const { id, revision, endpoint } = this.#place;
    const token = this.#token;
    if (code === "RevisionNotFound")
      return new HubError(`${id}: ${endpoint} has no revision ${revision} of it`);
    if (code === "GatedRepo" || status === 403) {
      const then =
        token === undefined ? "set HF_TOKEN or run `hf auth login`" : "the token that was sent has no access";
      return new HubError(`${id} is gated: its conditions have to be accepted at ${endpoint}/${id}`, {
        hint: then,
      });
    }
    if (status === 401 && token !== undefined)
      return new HubError(`${id}: ${endpoint} does not accept the token of HF_TOKEN or \`hf auth login\``);
    if (status === 401 || status === 404) {
      return new HubError(
        `${this.#absence} ${endpoint} has no such model, or only for those who may see it (HF_TOKEN or \`hf auth login\`)`,
      );
    }
    return new HubError(`${this.#absence} ${answer}`, { hint: "try again later" });
  }

  /** Adds the token, for the Hub itself only, and explains a refusal or a missing answer. */
  readonly #fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input));
    const headers = new Headers(init?.headers);
    const { endpoint } = this.#place;
    if (this.#token !== undefined && url.origin === new URL(endpoint).origin)
      headers.set("authorization", `Bearer ${this.#token}`);
    const signal = AbortSignal.timeout(seconds("HF_HUB_ETAG_TIMEOUT", 30) * 1000);
    let response: Response;
    try {
      response = await fetchSafely(url.href, { ...init, headers, signal }, OTHER_SERVER);
    } catch (error) {
      if (error instanceof EngineError) throw passedOn(HubError, error, `${this.#absence} `);
      const reason = firstLine((error as { cause?: unknown }).cause ?? error);
      throw new HubError(`${this.#absence} ${endpoint} can't be reached (${reason})`, { hint: this.#advice });
    }
    if (response.ok) return response;
    await response.body?.cancel();
    const { status, statusText } = response;
    const answer = `${endpoint} answered ${status} ${statusText}`;
    throw this.refusal(status, response.headers.get("x-error-code"), answer);
  };

  async #reading<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw error instanceof HubError ? error : this.#unreadable(firstLine(error));
    }
  }

  #unreadable(found: string): HubError {
    const { endpoint } = this.#place;
    return new HubError(`${this.#absence} the answer of ${endpoint} is not the Hub's (${found})`, {
      hint: this.#advice,
    });
  }
}

/** A positive number of seconds from an environment variable of Python's library. */
function seconds(name: string, otherwise: number): number {
  const value = Number(process.env[name]);
  return value > 0 ? value : otherwise;
}

/** A listing must not reach outside the snapshot's folder. */
const isSafePath = (path: string): boolean =>
  !path.includes("\\") && path.split("/").every((part) => part !== "" && part !== "." && part !== "..");

/** Downloads a commit's files into the cache's blobs. */
class Transfer {
  readonly #place: Place;
  readonly #commit: string;
  readonly #entries: ReadonlyMap<string, ListFileEntry>;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #lock: Lock;

  constructor(
    place: Place,
    commit: string,
    entries: ReadonlyMap<string, ListFileEntry>,
    token: string | undefined,
    lock: Lock,
  ) {
    this.#place = place;
    this.#lock = lock;
    this.#commit = commit;
    this.#entries = entries;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  /** Where a file's bytes are kept: by their SHA-256, or small ones by Git's SHA-1. */
  blob(path: string): string {
    return join(this.#place.storage, "blobs", this.#hash(path));
  }

  #hash(path: string): string {
    const { lfs, oid = "" } = this.#entries.get(path)!;
    const hash = lfs?.oid ?? oid;
    if (!(lfs ? /^[0-9a-f]{64}$/ : COMMIT).test(hash))
      throw new MissingFile(`the Hub gives no checksum of ${path}, but ${JSON.stringify(hash)}`);
    return hash;
  }

  #size(path: string): number {
    const entry = this.#entries.get(path)!;
    const size = entry.lfs?.size ?? entry.size;
    if (!Number.isSafeInteger(size) || size < 0)
      throw new MissingFile(`the Hub gives no size of ${path}, but ${JSON.stringify(size)}`);
    return size;
  }

  /** Downloads a file unless it is already there in full. @returns where it is. */
  async fetch(path: string, onProgress: (done: number) => void = () => {}): Promise<string> {
    const { id, endpoint } = this.#place;
    const blob = this.blob(path);
    const size = this.#size(path);
    const there = await stat(blob).catch(() => undefined);
    if (there?.size === size) return blob;
    const hash = this.#hash(path);
    const encoded = path.split("/").map(encodeURIComponent).join("/");
    const url = `${endpoint}/${id}/resolve/${this.#commit}/${encoded}`;
    await downloadTo(
      hash.length === 64 ? { url, size, sha256: hash } : { url, size, gitSha1: hash },
      blob,
      onProgress,
      {
        signal: this.#lock.signal,
        name: path,
        headers: this.#headers,
        alternative: OTHER_SERVER,
        cacheSetting: "HF_HOME",
        stallMs: seconds("HF_HUB_DOWNLOAD_TIMEOUT", 60) * 1000,
      },
    );
    return blob;
  }

  /** Downloads all files, with a line that shows the progress. */
  async fetchAll(paths: readonly string[]): Promise<void> {
    const { id, cache } = this.#place;
    const left = new Map<string, number>();
    const different = new Map(paths.map((path) => [this.blob(path), path])).values();
    for (const path of different) {
      const size = this.#size(path);
      const there = await stat(this.blob(path)).catch(() => undefined);
      if (there?.size === size) continue;
      const part = await stat(`${this.blob(path)}.part`).catch(() => undefined);
      left.set(path, Math.max(0, size - (part?.size ?? 0)));
    }
    if (left.size === 0) return;
    const total = [...left.values()].reduce((sum, bytes) => sum + bytes, 0);
    await assertSpace(cache, total, "downloading", "HF_HOME");
    using bar = isTrue(process.env.HF_HUB_DISABLE_PROGRESS_BARS)
      ? undefined
      : new Progress({ desc: id, total, unit: "B", unitScale: true, file: process.stderr });
    let count = 0;
    for (const path of left.keys()) {
      bar?.setPostfix({ file: `${++count} of ${left.size}` });
      let before: number | undefined;
      await this.fetch(path, (done) => {
        bar?.update(done - (before ?? done));
        before = done;
      });
    }
  }
}
