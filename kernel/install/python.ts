import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import lockfile from "proper-lockfile";

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
  /** The folder with requirements.txt and constraints.txt; the kernel's own unless given. */
  readonly requirements?: string;
  /** Called with what is being done and how far it is, in packages; only when the environment has to be made. */
  readonly onProgress?: (step: string, done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

const here = dirname(fileURLToPath(import.meta.url));
const ownRequirements = join(here, "../../../kernel/install");
const oldest = [3, 10] as const;

/**
 * The project's own Python environment with pinned versions (`requirements.txt`), made where it is not there yet, is
 * half made, was made from other versions or has lost its Python. A stamp written last says that it is whole.
 * @throws PythonError when there is no usable Python or pip can't install.
 */
export async function ensurePython({
  folder,
  requirements = ownRequirements,
  onProgress,
  signal,
}: EnsureOptions): Promise<PythonEnvironment> {
  const environment = pythonEnvironment(folder);
  const wanted = await stampText(folder, requirements);
  if (await isWhole(environment, wanted)) return environment;
  await mkdir(dirname(folder), { recursive: true });
  const release = await lockfile.lock(dirname(folder), {
    lockfilePath: `${folder}.lock`,
    stale: 20_000,
    update: 4_000,
    retries: { forever: true, minTimeout: 500, maxTimeout: 2_000 },
  });
  try {
    if (await isWhole(environment, wanted)) return environment;
    await make(environment, requirements, onProgress ?? (() => {}), signal);
    await writeFile(`${stamp(folder)}.tmp`, wanted);
    await rename(`${stamp(folder)}.tmp`, stamp(folder));
    return environment;
  } finally {
    await release().catch(() => {});
  }
}

/** The environment in `folder`, whether or not it is there. */
export function pythonEnvironment(folder: string): PythonEnvironment {
  const windows = process.platform === "win32";
  const bin = (name: string) => join(folder, windows ? "Scripts" : "bin", windows ? `${name}.exe` : name);
  return { folder, bin };
}

const stamp = (folder: string) => join(folder, "firstframe.json");

/** The folder is part of it: the scripts of an environment that was moved point to where it was made. */
async function stampText(folder: string, sources: string): Promise<string> {
  const files = ["requirements.txt", "constraints.txt"].map((name) => readFile(join(sources, name)));
  const hash = createHash("sha256");
  for (const file of await Promise.all(files)) hash.update(file);
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
  signal: AbortSignal | undefined,
): Promise<void> {
  const python = await findPython();
  const pinned = (await readFile(join(sources, "constraints.txt"), "utf8")).match(/^[\w.-]+(?===)/gm);
  const total = new Set(pinned).size;
  onProgress("python3 -m venv", 0, total);
  await rm(environment.folder, { recursive: true, force: true });
  try {
    await run(python, ["-m", "venv", environment.folder], signal);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new PythonError(
      `${python} -m venv failed (${(error as Error).message}); on Debian and Ubuntu install python3-venv`,
    );
  }
  const done = new Set<string>();
  const requirements = join(sources, "requirements.txt");
  const pip = [
    "-m",
    "pip",
    "install",
    "--progress-bar",
    "off",
    "--disable-pip-version-check",
    "-r",
    requirements,
  ];
  try {
    await run(environment.bin("python"), pip, signal, (line) => {
      const name = /^Collecting ([\w.-]+)/.exec(line)?.[1];
      if (name !== undefined) done.add(name.toLowerCase());
      if (name !== undefined) onProgress(`fetching ${name}`, Math.min(done.size, total), total);
      if (line.startsWith("Installing collected")) onProgress("installing", total, total);
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new PythonError(`pip could not install ${requirements}: ${(error as Error).message}`);
  }
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

/** Runs a program to its end; the error carries the last line that it wrote to standard error. */
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
  let last = "";
  createInterface(child.stdout).on("line", onLine);
  createInterface(child.stderr).on("line", (line) => {
    if (line.trim() !== "") last = line.trim();
  });
  const code = await promisify((done: (error: Error | null, code?: number | null) => void) => {
    child.on("error", done);
    child.on("close", (exit) => done(null, exit));
  })();
  if (code !== 0) throw new Error(last || `exit code ${code}`);
}
