import { execFile } from "node:child_process";
import process from "node:process";
import { promisify } from "node:util";
import type { Remote } from "./download.js";
import { glibcVersion } from "./environment.js";
import { EngineError, firstLine } from "./errors.js";

const run = promisify(execFile);

/** A wheel on a package index. */
export interface Wheel extends Remote {
  filename: string;
}

/** A distribution and which versions of it will do, such as "==2.21.0" or "<13.0,>=12.5.3.2". */
export interface Requirement {
  name: string;
  specifier: string;
}

/** Wheels are built per Python; the C libraries in them are the same, so one Python that all versions serve is asked for. */
const pythonVersion = "3.12";

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

/**
 * Finds one wheel for each requirement: by pip where it is there, since it knows the user's mirrors, proxies and
 * certificates, else by the index's JSON (PEP 691).
 *
 * @throws EngineError when neither way reaches an index, or it has no such wheel.
 */
export async function findWheels(requirements: Requirement[], tags: string[]): Promise<Wheel[]> {
  const pip = await findPip();
  if (pip === undefined) return Promise.all(requirements.map((one) => askIndex(one, tags)));
  try {
    return await askPip(pip, requirements, tags);
  } catch (error) {
    try {
      return await Promise.all(requirements.map((one) => askIndex(one, tags)));
    } catch (second) {
      throw new EngineError(`${firstLine(second)} (pip: ${pipReason(error)})`);
    }
  }
}

/** Lets pip itself fetch a wheel, for indexes that only it has the credentials or certificates for. */
export async function downloadByPip(
  requirement: Requirement,
  tags: string[],
  directory: string,
): Promise<boolean> {
  const pip = await findPip();
  if (pip === undefined) return false;
  const [command, ...first] = pip;
  const options = ["download", "--quiet", "--no-deps", "--dest", directory, ...targetOptions(tags)];
  try {
    await run(command!, [...first, ...options, `${requirement.name}${requirement.specifier}`]);
    return true;
  } catch {
    return false;
  }
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

function targetOptions(tags: string[]): string[] {
  return [
    "--only-binary=:all:",
    "--python-version",
    pythonVersion,
    ...tags.flatMap((tag) => ["--platform", tag]),
  ];
}

interface PipReport {
  install: {
    download_info: { url: string; archive_info?: { hash?: string; hashes?: { sha256?: string } } };
  }[];
}

async function askPip(pip: string[], requirements: Requirement[], tags: string[]): Promise<Wheel[]> {
  const [command, ...first] = pip;
  // nothing is installed: --target only keeps pip from looking at what the environment has
  const options = ["install", "--dry-run", "--quiet", "--report", "-", "--no-deps", "--target", "unused"];
  const names = requirements.map((one) => `${one.name}${one.specifier}`);
  const { stdout } = await run(command!, [...first, ...options, ...targetOptions(tags), ...names], {
    maxBuffer: 64 << 20,
  });
  return (JSON.parse(stdout) as PipReport).install.map(
    ({ download_info: { url, archive_info: archive } }) => {
      const sha256 = archive?.hashes?.sha256 ?? /^sha256=(.+)$/.exec(archive?.hash ?? "")?.[1];
      if (sha256 === undefined) throw new Error(`pip reports no SHA-256 of ${url}`);
      return { url, sha256, filename: decodeURIComponent(new URL(url).pathname.split("/").at(-1)!) };
    },
  );
}

function pipReason(error: unknown): string {
  const text = (error as { stderr?: string }).stderr ?? firstLine(error);
  const lines = text.split("\n").filter((line) => line.startsWith("ERROR:"));
  return (lines.at(-1) ?? text.split("\n", 1)[0] ?? "").replace(/^ERROR:\s*/, "").slice(0, 300);
}

interface IndexFile {
  filename: string;
  url: string;
  hashes: { sha256?: string };
  size?: number;
  yanked?: boolean | string;
}

async function askIndex(requirement: Requirement, tags: string[]): Promise<Wheel> {
  const index = (process.env.PIP_INDEX_URL || "https://pypi.org/simple").replace(/\/+$/, "");
  const page = `${index}/${requirement.name}/`;
  let files: IndexFile[];
  try {
    const response = await fetch(page, { headers: { accept: "application/vnd.pypi.simple.v1+json" } });
    if (!response.ok) throw new EngineError(`${page}: the package index answered ${response.status}`);
    files = ((await response.json()) as { files: IndexFile[] }).files;
  } catch (error) {
    if (error instanceof EngineError) throw error;
    const reason = firstLine((error as { cause?: unknown }).cause ?? error);
    const hint = /certificate/.test(reason) ? "; NODE_EXTRA_CA_CERTS=FILE names a certificate to trust" : "";
    throw new EngineError(`${page}: the package index can't be reached (${reason})${hint}`);
  }
  const fitting = files
    .filter((file) => file.filename.endsWith(".whl") && !file.yanked && file.hashes.sha256 !== undefined)
    .map((file) => ({ file, ...wheelName(file.filename) }))
    .filter(({ platforms }) => platforms.some((tag) => tag === "any" || tags.includes(tag)))
    .filter(({ version }) => satisfies(version, requirement.specifier))
    .sort(
      (a, b) =>
        compareVersions(b.version, a.version) || Number(b.python === wanted) - Number(a.python === wanted),
    );
  const best = fitting[0]?.file;
  if (best === undefined) {
    throw new EngineError(`${page}: no wheel of ${requirement.name}${requirement.specifier} for ${tags[0]}`);
  }
  const { url, filename, size, hashes } = best;
  return {
    url: new URL(url, page).href,
    filename,
    sha256: hashes.sha256!,
    ...(size === undefined ? {} : { size }),
  };
}

const wanted = `cp${pythonVersion.replace(".", "")}`;

/** The parts of a wheel's file name (PEP 427). */
function wheelName(filename: string): { version: string; python: string; platforms: string[] } {
  const parts = filename.slice(0, -".whl".length).split("-");
  return { version: parts[1] ?? "", python: parts.at(-3) ?? "", platforms: (parts.at(-1) ?? "").split(".") };
}

/** Whether a final release satisfies a version specifier (PEP 440, without wildcards and pre-releases). */
export function satisfies(version: string, specifier: string): boolean {
  if (!/^\d+(\.\d+)*(\.post\d+)?$/.test(version)) return false;
  return specifier
    .split(",")
    .map((clause) => /^\s*(==|!=|<=|>=|<|>|~=)\s*([\d.]+?)(?:\.post\d+)?\s*$/.exec(clause))
    .every((clause) => {
      if (clause === null) return specifier.trim() === "";
      const order = compareVersions(version, clause[2]!);
      switch (clause[1]) {
        case "==":
          return order === 0;
        case "!=":
          return order !== 0;
        case "<=":
          return order <= 0;
        case ">=":
          return order >= 0;
        case "<":
          return order < 0;
        case ">":
          return order > 0;
        default: {
          const prefix = clause[2]!.split(".").slice(0, -1);
          return order >= 0 && version.split(".").slice(0, prefix.length).join(".") === prefix.join(".");
        }
      }
    });
}

function compareVersions(a: string, b: string): number {
  const left = a
    .replace(/\.post\d+$/, "")
    .split(".")
    .map(Number);
  const right = b
    .replace(/\.post\d+$/, "")
    .split(".")
    .map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const order = (left[i] ?? 0) - (right[i] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

/** The distributions that an extra of a wheel asks for, from its METADATA (core metadata 2.1). */
export function requirementsOfExtra(metadata: string, extra: string): Requirement[] {
  const list: Requirement[] = [];
  for (const line of metadata.split("\n")) {
    const found = /^Requires-Dist:\s*([\w.-]+)\s*\(?([^;)]*)\)?\s*;.*extra\s*==\s*["']([\w-]+)["']/.exec(
      line,
    );
    if (found?.[3] === extra) list.push({ name: found[1]!, specifier: found[2]!.replace(/\s+/g, "") });
  }
  return list;
}
