import { readFile, statfs } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { EngineError } from "./errors.js";

/** Where engines are installed, shared by all projects of a user: $XDG_CACHE_HOME/firstframe or ~/.cache/firstframe. */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "firstframe");
}

/** What `firstframe engine use` remembers lives in $XDG_CONFIG_HOME/firstframe or ~/.config/firstframe. */
export function configFile(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CONFIG_HOME || join(homedir(), ".config"), "firstframe", "engine.json");
}

/** Reads JSON; undefined when the file is not there or is not JSON. */
export async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as T;
  } catch {
    return undefined;
  }
}

/**
 * Throws when the disk that holds `directory` has less than `bytes` free.
 * @param setting the environment variable that names another disk.
 */
export async function assertSpace(
  directory: string,
  bytes: number,
  what: string,
  setting = "XDG_CACHE_HOME",
): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free < bytes) {
    throw new EngineError(
      `${what} needs ${megabytes(bytes)} in ${directory}, where ${megabytes(free)} are free`,
      { hint: `free some or set ${setting} to a larger disk` },
    );
  }
}

export function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}
