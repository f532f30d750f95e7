import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { fetchSafely, isCertificateError, type Sha256Remote } from "./download.js";
import { glibcVersion } from "./environment.js";
import { EngineError, firstLine } from "./errors.js";

const run = promisify(execFile);

/** One file of a distribution, and what its bytes must be, wherever it comes from. */
export interface PinnedWheel {
  /** Of the distribution, as in its page's address. */
  name: string;
  version: string;
  filename: string;
  /** In hexadecimal. */
  sha256: string;
  /** In bytes. */
  size: number;
}

/** A pinned wheel and where it is. */
export type Wheel = PinnedWheel & Sha256Remote;

/** The platform tags of wheels that run here, the newest first (PEP 600), or undefined where TensorFlow has none. */
export function platformTags(
  platform: string = process.platform,
  arch: string = process.arch,
  glibc: string | null = glibcVersion() ?? null,
): string[] | undefined {
  if (platform === "darwin" && arch === "arm64") return ["macosx_12_0_arm64", "macosx_11_0_arm64"];
  const machine = { x64: "x86_64", arm64: "aarch64" }[arch];
  if (platform !== "linux" || machine === undefined || glibc === null) return undefined;
  const [major, minor] = glibc.split(".").map(Number);
  if (major !== 2 || minor === undefined || minor < 17) return undefined;
  const tags = Array.from({ length: minor - 16 }, (_, i) => `manylinux_2_${minor - i}_${machine}`);
  return [
    ...tags,
    `manylinux2014_${machine}`,
    ...(arch === "x64" ? ["manylinux2010_x86_64", "manylinux1_x86_64"] : []),
  ];
}

/** The platform tags of a wheel, from its file name (PEP 427). */
function platformsOf(filename: string): string[] {
  return filename.slice(0, -".whl".length).split("-").at(-1)!.split(".");
}

/** Whether a wheel runs where these tags do. */
export function runsOn(wheel: PinnedWheel, tags: string[]): boolean {
  return platformsOf(wheel.filename).some((platform) => platform === "any" || tags.includes(platform));
}

/**
 * Finds out where the wheels are: through pip if there is one, since it knows the user's mirrors, proxies and certificates,
 * else from the index's JSON (PEP 691). If pip refuses, nothing else is tried.
 *
 * @throws EngineError when pip refuses, the index can't be reached, or it has other wheels.
 */
export async function findWheels(pins: readonly PinnedWheel[]): Promise<Wheel[]> {
  const pip = await findPip();
  const found = pip && (await askPip(pip, pins));
  return found ?? Promise.all(pins.map(askIndex));
}

/**
 * Has pip fetch a wheel itself, for an index that only pip has the credentials or certificates for.
 * @throws EngineError with pip's reason. @returns false where there is no pip.
 */
export async function downloadByPip(wheel: PinnedWheel, directory: string): Promise<boolean> {
  const pip = await findPip();
  if (pip === undefined) return false;
  try {
    await runPip(pip, ["download", "--dest", directory], [wheel]);
  } catch (error) {
    throw new EngineError(`pip: ${pipReason(error)}`);
  }
  return true;
}

let pip: Promise<string[] | undefined> | undefined;

function findPip(): Promise<string[] | undefined> {
  pip ??= (async () => {
    for (const command of [["python3", "-m", "pip"], ["pip3"], ["pip"], ["python", "-m", "pip"]]) {
      try {
        await run(command[0]!, [...command.slice(1), "--version"], { timeout: 20_000 });
        return command;
      } catch {
        // the next one
      }
    }
    return undefined;
  })();
  return pip;
}

/** Runs a pip command on the pinned wheels and nothing else. @returns what it prints. */
async function runPip(pip: string[], options: string[], pins: readonly PinnedWheel[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "firstframe-pip-"));
  try {
    const list = join(folder, "requirements.txt");
    await writeFile(
      list,
      pins.map(({ name, version, sha256 }) => `${name}==${version} --hash=sha256:${sha256}\n`).join(""),
    );
    const platforms = new Set(pins.flatMap(({ filename }) => platformsOf(filename)));
    // A wheel for a Python other than pip's has the same C libraries.
    const target = [
      "--only-binary=:all:",
      "--implementation=cp",
      `--python-version=${pythonOf(pins)}`,
      ...Array.from(platforms, (tag) => `--platform=${tag}`),
    ];
    const [command, ...first] = pip;
    const { stdout } = await run(
      command!,
      [...first, ...options, "--quiet", "--no-deps", ...target, "--require-hashes", "-r", list],
      { maxBuffer: 64 << 20 },
    );
    return stdout;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Such as "312": the Python that pinned wheels are built for. */
function pythonOf(pins: readonly PinnedWheel[]): string {
  return (
    pins.map(({ filename }) => /-cp(\d+)-/.exec(filename)?.[1]).find((found) => found !== undefined) ?? "3"
  );
}

interface PipReport {
  install: { download_info: { url: string } }[];
}

/** @returns undefined if this pip is too old to say where wheels are. @throws EngineError saying why pip refuses. */
async function askPip(pip: string[], pins: readonly PinnedWheel[]): Promise<Wheel[] | undefined> {
  // Nothing is installed: --target only keeps pip from looking at the environment's packages.
  const options = ["install", "--dry-run", "--report", "-", "--target", "unused"];
  let report: PipReport;
  try {
    report = JSON.parse(await runPip(pip, options, pins)) as PipReport;
  } catch (error) {
    if (/^no such option: --(dry-run|report)/m.test((error as { stderr?: string }).stderr ?? ""))
      return undefined;
    throw new EngineError(`pip: ${pipReason(error)}`);
  }
  const urls = report.install.map(({ download_info: { url } }) => url);
  return pins.map((pin) => {
    const url = urls.find((one) => decodeURIComponent(new URL(one).pathname).endsWith(`/${pin.filename}`));
    if (url === undefined) throw new EngineError(`pip: found no ${pin.filename}`);
    return { ...pin, url };
  });
}

/** Why pip refused, in one line. */
function pipReason(error: unknown): string {
  const text = (error as { stderr?: string }).stderr || firstLine(error);
  const hashes = /^ +(\S+==\S+)[^\n]*\n(?: +Expected[^\n]*\n)+ +Got +(\w+)/m.exec(text);
  if (hashes !== null) return `expected another SHA-256 of ${hashes[1]}, found ${hashes[2]}`;
  const lines = text.split("\n");
  const reason =
    lines.find((line) => line.includes("is not a trusted or secure host")) ??
    lines.findLast((line) => line.startsWith("ERROR:")) ??
    lines[0]!;
  return reason.replace(/^(ERROR|WARNING):\s*| and is being ignored.*/g, "").slice(0, 300);
}

interface IndexFile {
  filename: string;
  url: string;
  hashes?: { sha256?: string };
}

async function askIndex(pin: PinnedWheel): Promise<Wheel> {
  const index = (process.env.PIP_INDEX_URL || "https://pypi.org/simple").replace(/\/+$/, "");
  const page = `${index}/${pin.name}/`;
  let files: IndexFile[];
  try {
    const response = await fetchSafely(page, { headers: { accept: "application/vnd.pypi.simple.v1+json" } });
    if (!response.ok) throw new EngineError(`${page}: the package index answered ${response.status}`);
    files = ((await response.json()) as { files: IndexFile[] }).files;
  } catch (error) {
    if (error instanceof EngineError) throw error;
    const cause = (error as { cause?: unknown }).cause ?? error;
    throw new EngineError(`${page}: the package index can't be reached (${firstLine(cause)})`, {
      hint: isCertificateError(cause) ? "NODE_EXTRA_CA_CERTS=FILE names a certificate to trust" : undefined,
    });
  }
  const file = files.find(({ filename }) => filename === pin.filename);
  if (file === undefined)
    throw new EngineError(`${page}: expected ${pin.filename}, which the index does not have`);
  const offered = file.hashes?.sha256;
  if (offered !== undefined && offered !== pin.sha256) {
    throw new EngineError(
      `${page}: expected ${pin.filename} with SHA-256 ${pin.sha256}, the index offers ${offered}`,
    );
  }
  const { href, protocol } = new URL(file.url, page);
  if (protocol === "file:") throw new EngineError(`${page}: expected a web address, found ${href}`);
  return { ...pin, url: href };
}
