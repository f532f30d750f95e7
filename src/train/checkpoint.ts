/**
 * Checkpoints of a training run: folders `checkpoint-STEP`, as the recipe names them. A checkpoint is written beside its
 * place and renamed when it is whole, so a folder of that name is always complete.
 */
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

export interface CheckpointPlace {
  readonly path: string;
  /** Optimizer steps taken. */
  readonly step: number;
}

/** A checkpoint that can't be found or read; the message names the folder. */
export class ResumeError extends Error {
  override name = "ResumeError";
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
 * Writes a checkpoint, then removes the oldest beyond `limit`. If writing fails, what was there before is untouched.
 *
 * @param write fills the folder it is given.
 */
export async function saveCheckpoint(
  outputDir: string,
  step: number,
  write: (folder: string) => Promise<void>,
  { limit = Number.POSITIVE_INFINITY }: { limit?: number } = {},
): Promise<CheckpointPlace> {
  await mkdir(outputDir, { recursive: true });
  await removeUnfinished(outputDir);
  const path = join(outputDir, `checkpoint-${step}`);
  const temporary = join(outputDir, `.checkpoint-${step}.tmp`);
  try {
    await mkdir(temporary);
    await write(temporary);
    await syncFolder(temporary);
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
    await syncFolder(outputDir);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  const all = await listCheckpoints(outputDir);
  for (const { path: old } of all.slice(0, Math.max(0, all.length - Math.max(1, limit)))) {
    await rm(old, { recursive: true, force: true });
  }
  return { path, step };
}

/** What a process left that died while it wrote. */
async function removeUnfinished(outputDir: string): Promise<void> {
  for (const name of await readdir(outputDir)) {
    if (/^\.checkpoint-\d+\.tmp$/.test(name))
      await rm(join(outputDir, name), { recursive: true, force: true });
  }
}

/** Makes names and renames in a folder last through a power cut. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * The checkpoint to go on from: "latest" is the newest of the run (undefined if there is none yet), anything else a
 * checkpoint's folder.
 *
 * @throws ResumeError if a named folder is no checkpoint.
 */
export async function findCheckpoint(
  outputDir: string,
  resume: string,
): Promise<CheckpointPlace | undefined> {
  if (resume === "latest") return (await listCheckpoints(outputDir)).at(-1);
  const step = /(?:^|\/)checkpoint-(\d+)\/?$/.exec(resume)?.[1];
  if (step === undefined) {
    throw new ResumeError(`${resume}: expected "latest" or a folder named checkpoint-STEP`);
  }
  await readdir(resume).catch(() => {
    throw new ResumeError(`${resume}: no such checkpoint`);
  });
  return { path: resume, step: Number(step) };
}
