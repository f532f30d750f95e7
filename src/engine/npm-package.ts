/**
 * npm packages that only some users need. `firstframe engine install` puts them into the cache without running their
 * scripts, and they are loaded from there. A copy of the same version in the user's node_modules takes precedence.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createRequire, isBuiltin } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { compileFunction } from "node:vm";
import { replaceFolder, syncTree, temporaryBeside, writeFileAtomic } from "../files/atomic.js";
import type { Lock } from "../files/lock.js";
import { cacheDirectory, readJson } from "./cache.js";
import { EngineError, firstLine } from "./errors.js";
import { checkFiles, describeFiles, installedFiles } from "./integrity.js";
import { engineSources } from "./package-root.js";

const require = createRequire(import.meta.url);

interface Pinned {
  readonly version: string;
  /** Of the tarball, as npm writes it: "sha512-" and base64. */
  readonly integrity: string;
}

/** Their versions and checksums; written by .ci/pin-npm.mjs. */
const pinned = JSON.parse(readFileSync(join(engineSources, "packages.json"), "utf8")) as Readonly<
  Record<string, Pinned>
>;

const manifestName = "installed.json";

/** The version of a package that this package works with. */
export function pinnedVersion(name: string): string {
  return pinned[name]!.version;
}

/** Where a package is, or is to be. */
export function packageFolder(name: string): string {
  try {
    const manifest = require.resolve(`${name}/package.json`);
    const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
    if (version === pinnedVersion(name)) return dirname(manifest);
  } catch {
    // not installed, or not visible from here
  }
  return cachedFolder(name);
}

function cachedFolder(name: string): string {
  return join(cacheDirectory(), "packages", `${name.replace("/", "+")}-${pinnedVersion(name)}`);
}

/**
 * Why a package can't be loaded, if it can't.
 *
 * @param all compares every file with what was unpacked, not only those that were written since.
 */
export async function packageFault(name: string, all: boolean): Promise<string | undefined> {
  const folder = packageFolder(name);
  if (folder !== cachedFolder(name)) return undefined;
  if (!existsSync(folder)) return `${name} is not installed`;
  const files = installedFiles(await readJson(join(folder, manifestName)));
  const { damage } =
    files === undefined ? { damage: `it has no ${manifestName}` } : await checkFiles(folder, files, all);
  return damage === undefined ? undefined : `${folder} is not whole: ${damage}`;
}

/**
 * Fetches a package with npm, using its registry and settings here, and unpacks it into the cache.
 *
 * @param needed whether a file of it is kept; its path begins below the package.
 * @throws EngineError when npm can't fetch it or what came is something else.
 */
export async function fetchPackage(
  name: string,
  lock: Lock,
  log: (line: string) => void,
  needed: (path: string) => boolean = () => true,
): Promise<void> {
  const spec = `${name}@${pinnedVersion(name)}`;
  log(`downloading ${spec} from npm's registry`);
  const folder = cachedFolder(name);
  const staging = temporaryBeside(folder);
  const download = await mkdtemp(join(tmpdir(), "firstframe-"));
  try {
    await npmPack(spec, download, lock.signal);
    const [tarball] = await readdir(download);
    if (tarball === undefined) throw new EngineError(`npm brought no ${spec}`);
    const file = join(download, tarball);
    const { integrity } = pinned[name]!;
    const found = createHash("sha512")
      .update(await readFile(file))
      .digest("base64");
    if (`sha512-${found}` !== integrity) {
      throw new EngineError(`${spec}: expected ${integrity}, found sha512-${found}`);
    }
    await mkdir(staging, { recursive: true });
    const paths: string[] = [];
    const tar = await import("tar"); // loaded late, since only the installer needs it
    await tar.extract({
      file,
      cwd: staging,
      strip: 1,
      strict: true,
      filter(path, entry) {
        if (!("type" in entry) || entry.type !== "File") return false;
        const below = path.slice(path.indexOf("/") + 1);
        if (!needed(below)) return false;
        paths.push(below);
        return true;
      },
    });
    const files = await describeFiles(staging, paths);
    await writeFileAtomic(join(staging, manifestName), JSON.stringify({ files }));
    await syncTree(staging);
    lock.assertHeld();
    await replaceFolder(staging, folder);
  } finally {
    await rm(staging, { recursive: true, force: true });
    await rm(download, { recursive: true, force: true });
  }
}

/** Runs `npm pack` for a package from the registry, which runs no scripts. */
async function npmPack(spec: string, folder: string, signal: AbortSignal): Promise<void> {
  const args = ["pack", spec, "--pack-destination", folder, "--ignore-scripts", "--silent"];
  try {
    // npm's settings of the current folder apply, as for `npm install`, not those of an npm script that started us.
    const env = { ...process.env, npm_config_dry_run: "false", npm_config_json: "false" };
    await promisify(execFile)("npm", args, { signal, env, maxBuffer: 1 << 26, windowsHide: true });
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (code === "ENOENT") throw new EngineError(`there is no npm on PATH, which fetches ${spec}`);
    const said = /^npm (?:ERR!|error) (?!code )(.*)$/m.exec(`${stderr}\n${stdout}`)?.[1];
    throw new EngineError(`npm can't fetch ${spec} (${said ?? firstLine(stderr || error)})`);
  }
}

/**
 * Loads CommonJS files of a folder that has no node_modules of its own.
 *
 * @param provided what `require` gives for packages, so that they share this package's instances.
 */
export function commonJsLoader(
  folder: string,
  provided: Readonly<Record<string, unknown>>,
): (file: string) => unknown {
  const modules = new Map<string, { exports: unknown }>();
  const load = (file: string): unknown => {
    const known = modules.get(file);
    if (known !== undefined) return known.exports;
    const module = { exports: {} as unknown };
    modules.set(file, module);
    const native = createRequire(file);
    const requireFrom = (id: string): unknown => {
      if (Object.hasOwn(provided, id)) return provided[id];
      if (isBuiltin(id)) return native(id);
      if (!id.startsWith(".")) throw new EngineError(`${file} requires ${id}, which is not provided`);
      return load(native.resolve(id));
    };
    const body = compileFunction(
      readFileSync(file, "utf8"),
      ["exports", "require", "module", "__filename", "__dirname"],
      { filename: file },
    ) as (...scope: unknown[]) => void;
    body.call(module.exports, module.exports, requireFrom, module, file, dirname(file));
    return module.exports;
  };
  return (file) => load(join(folder, file));
}
