/**
 * Checkpoints of a training run: folders `checkpoint-STEP`, as the recipe names them. A checkpoint is written under a temporary
 * name and renamed once it is whole. Its `trainer_state.json` has the hashes of all its files and its own, so that damaged, lost
 * or swapped files are noticed.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileProblem, InputError } from "../engine/errors.js";
import { syncFolder, writeAtomically } from "../files/atomic.js";
import { readHeaderBytes, SafetensorsError } from "../weights/safetensors.js";
import type { Spelling } from "./arguments.js";

export interface CheckpointPlace {
  readonly path: string;
  /** Optimizer steps taken. */
  readonly step: number;
}

/** A checkpoint that can't be found, read, or resumed from; the message names the folder. */
export class ResumeError extends InputError {
  override get kind() {
    return "resume" as const;
  }
}

/** A checkpoint whose files are not what was written; the message names the file. */
export class DamagedCheckpointError extends ResumeError {}

const STATE_FILE = "trainer_state.json";
/** Format 1 had neither hashes nor fingerprint. */
const FORMAT = 2;

interface FileRecord {
  readonly bytes: number;
  /** For a safetensors file, of its header only, which holds checksums of the rest. */
  readonly sha256: string;
}

/** What every checkpoint's `trainer_state.json` says, besides what its writer adds. */
interface CheckpointState {
  readonly format: number;
  readonly step: number;
  /** By path within the checkpoint. Absent in format 1. */
  readonly files?: Readonly<Record<string, FileRecord>>;
}

/** The checkpoints in a run's folder, oldest first. */
export async function listCheckpoints(outputDir: string): Promise<CheckpointPlace[]> {
  const names = await readdir(outputDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return names
    .flatMap((name) => {
      const step = /^checkpoint-(\d+)$/.exec(name)?.[1];
      return step === undefined ? [] : [{ path: join(outputDir, name), step: Number(step) }];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * Writes a checkpoint, then removes those beyond `limit`, but never the one just written: first those with higher numbers,
 * left by an earlier run, then the oldest. If writing fails, what was there before is untouched.
 *
 * @param state goes into `trainer_state.json`.
 * @param write fills the folder it is given.
 */
export async function saveCheckpoint(
  outputDir: string,
  step: number,
  state: object,
  write: (folder: string) => Promise<void>,
  { limit = Number.POSITIVE_INFINITY }: { limit?: number } = {},
): Promise<CheckpointPlace> {
  await mkdir(outputDir, { recursive: true });
  await tidyCheckpoints(outputDir);
  const path = join(outputDir, `checkpoint-${step}`);
  const temporary = join(outputDir, `.checkpoint-${step}.tmp`);
  const replaced = join(outputDir, `.checkpoint-${step}.old`);
  try {
    await mkdir(temporary);
    await write(temporary);
    const files = await recordFiles(temporary);
    await writeState(join(temporary, STATE_FILE), { ...state, format: FORMAT, step, files });
    if (existsSync(path)) await rename(path, replaced);
    await rename(temporary, path);
    await syncFolder(outputDir);
    await syncFolder(dirname(resolve(outputDir)));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    await tidyCheckpoints(outputDir);
    throw error;
  }
  await rm(replaced, { recursive: true, force: true });
  const others = (await listCheckpoints(outputDir)).filter((other) => other.step !== step);
  const [later, earlier] = [
    others.filter((other) => other.step > step),
    others.filter((other) => other.step < step),
  ];
  const kept = Math.max(0, limit - 1);
  for (const old of [...later, ...earlier].slice(0, Math.max(0, others.length - kept))) {
    await removeCheckpoint(old);
  }
  return { path, step };
}

/** Renames it first, so that a folder with a checkpoint's name is whole even if this is cut short. */
async function removeCheckpoint({ path, step }: CheckpointPlace): Promise<void> {
  const doomed = join(dirname(path), `.checkpoint-${step}.tmp`);
  await rename(path, doomed);
  await rm(doomed, { recursive: true, force: true });
}

/** Removes all checkpoints of a folder. */
export async function removeCheckpoints(outputDir: string): Promise<void> {
  for (const place of await listCheckpoints(outputDir)) await removeCheckpoint(place);
}

/** Clears up after a process that died while saving: half a checkpoint, or one that was being replaced. */
async function tidyCheckpoints(outputDir: string): Promise<void> {
  for (const name of await readdir(outputDir)) {
    const [, step, kind] = /^\.checkpoint-(\d+)\.(tmp|old)$/.exec(name) ?? [];
    if (step === undefined) continue;
    const path = join(outputDir, `checkpoint-${step}`);
    if (kind === "old" && !existsSync(path)) await rename(join(outputDir, name), path);
    else await rm(join(outputDir, name), { recursive: true, force: true });
  }
}

// -- what a checkpoint says of itself ----------------------------------------------------------------------------

async function recordFiles(folder: string): Promise<Record<string, FileRecord>> {
  const files: Record<string, FileRecord> = {};
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const folders = new Set<string>([folder]);
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) folders.add(path);
    else files[relative(folder, path).split(sep).join("/")] = await recordFile(path);
  }
  for (const each of folders) await syncFolder(each);
  return Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function recordFile(path: string): Promise<FileRecord> {
  const { size } = await stat(path);
  const bytes = path.endsWith(".safetensors") ? await readHeaderBytes(path) : await readFile(path);
  return { bytes: size, sha256: createHash("sha256").update(bytes).digest("hex") };
}

const stateText = (state: object): string => {
  const sha256 = createHash("sha256").update(JSON.stringify(state)).digest("hex");
  return `${JSON.stringify({ ...state, sha256 })}\n`;
};

async function writeState(path: string, state: object): Promise<void> {
  await writeAtomically(path, (handle) => handle.writeFile(stateText(state)));
}

/**
 * What `trainer_state.json` says, once it and all files it names are known to be those that were written. Tensors are compared
 * with their checksums as they are loaded.
 *
 * @throws DamagedCheckpointError naming the file; ResumeError for an unknown format.
 */
export async function readCheckpoint<S extends object>(place: CheckpointPlace): Promise<S & CheckpointState> {
  const file = join(place.path, STATE_FILE);
  const damaged = (what: string, problem: string) => new DamagedCheckpointError(problem, { file: what });
  const lost = (what: string) => (error: unknown) => {
    throw isLost(error) ? damaged(what, fileProblem(error)) : error;
  };
  const text = await readFile(file, "utf8").catch(lost(file));
  let state: (S & CheckpointState & { sha256?: string }) | null;
  try {
    state = JSON.parse(text) as typeof state;
  } catch (error) {
    throw damaged(file, `not a trainer's state (${(error as Error).message})`);
  }
  if (typeof state !== "object" || state === null) throw damaged(file, "not a trainer's state");
  const { sha256, ...rest } = state;
  if ((sha256 !== undefined || state.format === FORMAT) && stateText(rest) !== text) {
    throw damaged(file, "does not match its own hash");
  }
  if (state.format !== 1 && state.format !== FORMAT) {
    throw new ResumeError(`expected format ${FORMAT}, found ${state.format}`, { file });
  }
  if (state.step !== place.step) throw damaged(file, `expected step ${place.step}, found ${state.step}`);
  for (const [name, expected] of Object.entries(state.files ?? {})) {
    const path = join(place.path, name);
    const info = await stat(path).catch(lost(path));
    if (!info.isFile()) throw damaged(path, "not a file");
    if (info.size !== expected.bytes)
      throw damaged(path, `expected ${expected.bytes} bytes, found ${info.size}`);
    const found = await recordFile(path).catch((error: unknown) => {
      if (error instanceof SafetensorsError)
        throw new DamagedCheckpointError(error.problem, { file: error.file });
      return lost(path)(error);
    });
    if (found.sha256 !== expected.sha256)
      throw damaged(path, "not the file that was saved with this checkpoint");
  }
  return state;
}

/** Whether a file can't be read because it is missing, is something else, or the disk fails. */
export const isLost = (error: unknown): error is NodeJS.ErrnoException =>
  ["ENOENT", "ENOTDIR", "EISDIR", "EIO"].includes((error as NodeJS.ErrnoException).code ?? "");

// -- a run's folder ----------------------------------------------------------------------------------------------

export interface OutputUse {
  /** "latest", or a checkpoint's folder. */
  readonly resumeFromCheckpoint?: string;
  readonly overwriteOutputDir?: boolean;
}

export interface OutputView {
  /** How errors name options. */
  readonly spelling: Spelling;
  /** Only looks and moves nothing: for a folder that is not locked. */
  readonly readOnly?: boolean;
}

/**
 * The checkpoints that a run may resume from, in the order to try them; none for a run that starts anew. The caller must hold
 * the folder's lock, see `lockOutput`.
 *
 * @throws ResumeError if the folder holds a run and neither resuming nor overwriting was asked for, or if there is no such
 *   checkpoint.
 */
export async function checkpointsToResume(
  outputDir: string | undefined,
  { resumeFromCheckpoint: resume, overwriteOutputDir: overwrite = false }: OutputUse,
  { spelling, readOnly = false }: OutputView,
): Promise<CheckpointPlace[]> {
  const named = resume === undefined || resume === "latest" ? undefined : await findCheckpoint(resume);
  if (outputDir === undefined) return named ? [named] : [];
  if (!readOnly && existsSync(outputDir)) await tidyCheckpoints(outputDir);
  const all = await listCheckpoints(outputDir);
  if (resume === "latest" && !overwrite) return all.reverse();
  const inside = named !== undefined && resolve(dirname(named.path)) === resolve(outputDir);
  if (overwrite && (inside || resume === "latest")) {
    throw new ResumeError("resuming from a checkpoint in it and overwriting it exclude each other", {
      file: outputDir,
    });
  }
  if (all.length > 0 && !overwrite && !inside) {
    throw new ResumeError(
      `holds a run already (checkpoint-${all.map(({ step }) => step).join(", checkpoint-")})`,
      {
        file: outputDir,
        hint: `${spelling.set("resume_from_checkpoint", "latest")} goes on with it, ${spelling.set("overwrite_output_dir")} removes its checkpoints, ${spelling.set("output_dir")} names another folder`,
      },
    );
  }
  return named ? [named] : [];
}

async function findCheckpoint(path: string): Promise<CheckpointPlace> {
  const step = /(?:^|[/\\])checkpoint-(\d+)[/\\]?$/.exec(path)?.[1];
  if (step === undefined) {
    throw new ResumeError(`expected "latest" or a folder named checkpoint-STEP`, { file: path });
  }
  await readdir(path).catch(() => {
    throw new ResumeError("no such checkpoint", { file: path });
  });
  return { path, step: Number(step) };
}
