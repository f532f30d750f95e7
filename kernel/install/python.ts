import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { syncTree, writeFileAtomic } from "../../src/files/atomic.js";
import { type Lock, withLock } from "../../src/files/lock.js";

/** Why there is no Python environment: one line that says what to do. */
export class PythonError extends Error {
  override name = "PythonError";
}

export interface PythonEnvironment {
  readonly folder: string;
  /** The path of a program in the environment: `bin("jupyter")`. */
  bin(name: string): string;
}

export interface EnsureOptions {
  /** Where the environment is, or is made. */
  readonly folder: string;
  /**
   * The folder with locked.txt, which pins all packages by version and SHA-256; the kernel's own unless given. A folder
   * `papermill` in it is a package that is installed after them.
   */
  readonly requirements?: string;
  /** Called with what is being done and how far it is, in packages; only when the environment has to be made. */
  readonly onProgress?: (step: string, done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

const here = dirname(fileURLToPath(import.meta.url));
const ownRequirements = join(here, "../../../kernel/install");
const oldest = [3, 10] as const;
const locked = "locked.txt";

/**
 * The project's own Python environment with pinned packages (`locked.txt`), made where it is not there yet, is
 * half made, was made from other versions or has lost its Python. A stamp written last says that it is whole.
 * @throws PythonError when there is no usable Python or pip can't install.
 */
export async function ensurePython(options: EnsureOptions): Promise<PythonEnvironment> {
  const { folder, requirements = ownRequirements } = options;
  const environment = pythonEnvironment(folder);
  const wanted = await stampText(folder, requirements);
  if (await isWhole(environment, wanted)) return environment;
  const { signal, onProgress = () => {} } = options;
  const total = await countPackages(requirements);
  // Who waits for another process shows this as its progress.
  const turns = { busy: `makes ${folder}`, log: (line: string) => onProgress(line, 0, total) };
  return await withLock(folder, turns, async (lock) => {
    if (await isWhole(environment, wanted)) return environment;
    const signals = signal ? [signal, lock.signal] : [lock.signal];
    await make(environment, requirements, onProgress, { ...lock, signal: AbortSignal.any(signals) });
    // After a power cut, too, the stamp is there only if all else is.
    await syncTree(folder);
    lock.assertHeld();
    await writeFileAtomic(stamp(folder), wanted);
    return environment;
  });
}

/** The environment in `folder`, whether or not it is there. */
export function pythonEnvironment(folder: string): PythonEnvironment {
  return { folder, bin: (name) => join(folder, "bin", name) };
}

const stamp = (folder: string) => join(folder, "firstframe.json");

async function countPackages(sources: string): Promise<number> {
  const pinned = (await readFile(join(sources, locked), "utf8")).match(/^[\w.-]+(?===)/gm);
  return new Set(pinned).size;
}

/** The folder is part of it: the scripts of an environment that was moved point to where it was made. */
async function stampText(folder: string, sources: string): Promise<string> {
  const hash = createHash("sha256").update(await readFile(join(sources, locked)));
  const translator = join(sources, "papermill");
  const names = existsSync(translator) ? (await readdir(translator)).sort() : [];
  for (const name of names.filter((file) => /\.(py|toml)$/.test(file)))
    hash.update(await readFile(join(translator, name)));
  return `${JSON.stringify({ folder, requirements: hash.digest("hex") })}\n`;
}

async function isWhole(environment: PythonEnvironment, wanted: string): Promise<boolean> {
  const found = await readFile(stamp(environment.folder), "utf8").catch(() => "");
  return found === wanted && existsSync(environment.bin("python"));
}

async function make(
  environment: PythonEnvironment,
  sources: string,
  onProgress: NonNullable<EnsureOptions["onProgress"]>,
  { signal, assertHeld }: Lock,
): Promise<void> {
  const { folder } = environment;
  const python = await findPython();
  const list = join(sources, locked);
  const total = await countPackages(sources);
  onProgress("python3 -m venv", 0, total);
  assertHeld();
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) await rm(folder, { force: true });
  try {
    await run(python, alone(folder, ["-m", "venv", "--clear", folder]), signal);
  } catch (error) {
    if (signal.aborted) throw error;
    throw new PythonError(
      `${python} -m venv failed (${(error as Error).message}); on Debian and Ubuntu install python3-venv`,
    );
  }
  const done = new Set<string>();
  // The list is whole, and may hold what a package would not have asked for by itself.
  const options = [
    "--progress-bar",
    "off",
    "--disable-pip-version-check",
    "--no-deps",
    "--require-hashes",
    "-r",
    list,
  ];
  assertHeld();
  try {
    const pip = alone(folder, ["-m", "pip", "install", ...options]);
    await run(environment.bin("python"), pip, signal, (line) => {
      const name = /^Collecting ([\w.-]+)/.exec(line)?.[1];
      if (name !== undefined) done.add(name.toLowerCase());
      if (name !== undefined) onProgress(`fetching ${name}`, Math.min(done.size, total), total);
      if (line.startsWith("Installing collected")) onProgress("installing", total, total);
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new PythonError(`pip could not install ${list}: ${pipReason(error as ProgramError)}`);
  }
  const translator = join(sources, "papermill");
  if (!existsSync(translator)) return;
  assertHeld();
  // Ours, so there is nothing to fetch for it, and no hash to know it by.
  const own = ["-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--no-deps", translator];
  try {
    await run(environment.bin("python"), alone(folder, own), signal);
  } catch (error) {
    if (signal.aborted) throw error;
    throw new PythonError(`pip could not install ${translator}: ${(error as Error).message}`);
  }
}

/**
 * Arguments for a Python that runs with `args` when no other such Python is at work on `folder`: a pip outlives the process
 * that started it and was killed, and keeps what the system locked for it as long as it lives.
 */
function alone(folder: string, args: string[]): string[] {
  const code = `import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDONLY)
os.set_inheritable(lock, True)
fcntl.flock(lock, fcntl.LOCK_EX)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])`;
  return ["-c", code, dirname(folder), ...args];
}

/** Why pip failed, in one line. */
function pipReason({ message, stderr }: ProgramError): string {
  const hashes = /^ +(\S+==\S+)[^\n]*\n(?: +Expected[^\n]*\n)+ +Got +(\w+)/m.exec(stderr);
  if (hashes === null) return message;
  return `${hashes[1]} has a SHA-256 that is not in the list, ${hashes[2]}: somebody changed the file`;
}

/** The first Python on PATH that is new enough. */
async function findPython(): Promise<string> {
  const names = ["python3", ...[14, 13, 12, 11, 10].map((minor) => `python3.${minor}`), "python"];
  const found: string[] = [];
  for (const name of names) {
    const lines: string[] = [];
    const code = "import sys; print('%d.%d' % sys.version_info[:2])";
    const works = await run(name, ["-c", code], undefined, (line) => lines.push(line)).then(
      () => true,
      () => false,
    );
    const [major = 0, minor = 0] = (lines[0] ?? "").split(".").map(Number);
    if (works && (major > oldest[0] || (major === oldest[0] && minor >= oldest[1]))) return name;
    if (works) found.push(`${name} ${lines[0]}`);
  }
  throw new PythonError(
    `Python ${oldest.join(".")} or newer is needed on PATH, found ${found.length > 0 ? found.join(", ") : "none"}`,
  );
}

/** Why a program failed; the message is the last line that it wrote to standard error. */
class ProgramError extends Error {
  constructor(
    message: string,
    readonly stderr: string,
  ) {
    super(message);
  }
}

/** Runs a program to its end. @throws ProgramError when it fails. */
async function run(
  program: string,
  args: string[],
  signal?: AbortSignal,
  onLine: (line: string) => void = () => {},
): Promise<void> {
  const { PYTHONHOME, PYTHONPATH, ...env } = process.env;
  const child = spawn(program, args, {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    ...(signal ? { signal } : {}),
  });
  const said: string[] = [];
  createInterface(child.stdout).on("line", onLine);
  createInterface(child.stderr).on("line", (line) => said.push(line));
  const code = await promisify((done: (error: Error | null, code?: number | null) => void) => {
    child.on("error", done);
    child.on("close", (exit) => done(null, exit));
  })();
  const last = said.findLast((line) => line.trim() !== "")?.trim();
  if (code !== 0) throw new ProgramError(last ?? `exit code ${code}`, said.join("\n"));
}
