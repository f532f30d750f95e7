import { execFile } from "node:child_process";
import { accessSync, constants, existsSync, realpathSync } from "node:fs";
import { rm } from "node:fs/promises";
import { delimiter, isAbsolute, join, resolve, sep } from "node:path";
import { promisify } from "node:util";
import {
  dataFolders,
  type FoundKernelspec,
  findKernelspec,
  kernelspecNames,
  NoKernelspecError,
} from "../../kernel/client/kernelspecs.js";
import { installGatewayKernelspec } from "../../kernel/install/gateway.js";
import { dataFolder, installKernelspec, userDataFolder } from "../../kernel/install/kernelspec.js";
import { installLabextension, uninstallLabextension } from "../../kernel/install/labextension.js";
import { GATEWAYS, type Gateway, kernelName } from "../../kernel/install/names.js";
import { type Arguments, parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";
import { ownPrefix, packageRoot } from "./home.js";

/** `firstframe kernel install`. */
export async function installCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("kernel install", commands["kernel install"], argv);
  const { for: gateway, image, launcher, name } = values;
  assertName(name);
  const needless = Object.entries({ image, launcher }).filter(([, value]) => value !== undefined);
  if (gateway === undefined || gateway.endsWith("-distributed"))
    for (const [flag] of needless)
      throw new UsageError(`--${flag} is for containers: it needs --for ${containerGateways.join(", ")}`);
  if (gateway === undefined && name !== kernelName)
    throw new UsageError("--name is for a gateway's kernel: it needs --for");
  // A container starts what its image holds, and not this copy.
  if (!containerGateways.some((container) => container === gateway)) assertLasting();
  const searched = await searchedByJupyter();
  const prefix = isChosen(values) ? await chosenPrefix(values) : firstPrefix(searched);
  const folder =
    gateway === undefined
      ? await installKernel(prefix)
      : await written(prefix, () =>
          installGatewayKernelspec({ gateway: gateway as Gateway, image, launcher, name, prefix }),
        );
  console.log(folder);
  sayHowToBeFound(dataFolder(prefix), searched);
}

/** `firstframe kernel uninstall`. */
export async function uninstallCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("kernel uninstall", commands["kernel uninstall"], argv);
  const { name } = values;
  assertName(name);
  if (isChosen(values)) return await uninstallKernel(await chosenPrefix(values), name);
  const prefix = firstPrefix(await searchedByJupyter());
  const where = hasKernelspec(prefix, name) || !hasKernelspec(ownPrefix, name) ? prefix : ownPrefix;
  return await uninstallKernel(where, name);
}

/** `firstframe kernel list`. */
export async function listCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("kernel list", commands["kernel list"], argv);
  listKernels(values.json);
}

const containerGateways = GATEWAYS.filter((name) => !name.endsWith("-distributed"));

/** Jupyter passes over folders with other characters. */
function assertName(name: string): void {
  if (/^[a-z0-9._-]+$/i.test(name)) return;
  throw new UsageError(`--name: expected letters, digits, ".", "-" and "_", found ${JSON.stringify(name)}`);
}

/**
 * Installs the kernelspec and the JupyterLab extension below a prefix, or for the user without one.
 * @returns the kernelspec's folder
 */
export async function installKernel(prefix: string | undefined): Promise<string> {
  return await written(prefix, async () => {
    const folder = await installKernelspec({ prefix });
    await installLabextension({ prefix });
    return folder;
  });
}

async function written(prefix: string | undefined, write: () => Promise<string>): Promise<string> {
  try {
    return await write();
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    throw new CommandFailure(`the kernel can't be installed: ${path ?? prefix}: ${code}`);
  }
}

const hasKernelspec = (prefix: string | undefined, name: string) =>
  existsSync(join(dataFolder(prefix), "kernels", name));

async function uninstallKernel(prefix: string | undefined, name: string): Promise<void> {
  const folder = join(dataFolder(prefix), "kernels", name);
  if (!hasKernelspec(prefix, name)) throw new CommandFailure("no such kernelspec", { file: folder });
  await rm(folder, { recursive: true });
  // The extension belongs to the kernel that is installed without --for.
  if (name === kernelName) await uninstallLabextension({ prefix });
  console.log(`removed ${folder}`);
}

type Values = Pick<
  Arguments<(typeof commands)["kernel install"]>["values"],
  "user" | "prefix" | "sys-prefix"
>;

const isChosen = ({ user, prefix, "sys-prefix": environment }: Values) =>
  user || prefix !== undefined || environment;

/** The prefix that the flags name; undefined is the user's own data folder. */
async function chosenPrefix(values: Values): Promise<string | undefined> {
  const given = [values.user, values.prefix !== undefined, values["sys-prefix"]].filter(Boolean);
  if (given.length > 1) throw new UsageError("--user, --prefix and --sys-prefix exclude each other");
  if (values.user) return undefined;
  return values["sys-prefix"] ? await sysPrefix() : resolve(values.prefix!);
}

/** The data folders that the `jupyter` on PATH says it searches; undefined if there is no `jupyter`. */
async function searchedByJupyter(): Promise<string[] | undefined> {
  try {
    const { stdout } = await promisify(execFile)("jupyter", ["--paths", "--json"]);
    return (JSON.parse(stdout) as { data: string[] }).data;
  } catch {
    return undefined;
  }
}

/**
 * Where a kernel is installed without a flag: the user's data folder or the active Python environment, whichever Jupyter
 * searches first. It prefers an environment that it is started in.
 */
function firstPrefix(searched: readonly string[] = dataFolders()): string | undefined {
  const active = activePrefix();
  const place = (prefix: string | undefined) =>
    searched.findIndex((folder) => isSame(folder, dataFolder(prefix)));
  if (active === undefined || place(active) < 0) return undefined;
  return place(undefined) < 0 || place(active) < place(undefined) ? active : undefined;
}

/** Says what Jupyter needs to find a kernel in a data folder that it does not search by itself. */
function sayHowToBeFound(data: string, searched: readonly string[] | undefined): void {
  if ((searched ?? dataFolders()).some((folder) => isSame(folder, data))) return;
  const who =
    searched === undefined
      ? `Jupyter looks into ${data} only if that is its own environment`
      : `The jupyter on PATH does not look into ${data}`;
  const others = data === userDataFolder() ? "" : ", or install with --user";
  console.error(
    `${who}. To make it look, set this where Jupyter is started${others}:\n  export JUPYTER_PATH="${data}\${JUPYTER_PATH:+:$JUPYTER_PATH}"`,
  );
}

function isSame(a: string, b: string): boolean {
  const real = (path: string) => (existsSync(path) ? realpathSync(path) : resolve(path));
  return real(a) === real(b);
}

/** A kernelspec names files of this package, so it must not point to a copy that a package runner throws away. */
function assertLasting(): void {
  const isRunners = (name: string) => /^(_npx|dlx|dlx-.*|bunx-.*)$/.test(name);
  if (!packageRoot.split(sep).some(isRunners)) return;
  throw new CommandFailure(
    `the kernel is not installed: it would start ${packageRoot}, which is in a cache and can be gone tomorrow`,
    {
      hint: [
        "install the package first:",
        "  npm install firstframe && npx firstframe kernel install      (in a project)",
        "  npm install -g firstframe && firstframe kernel install       (for all of yours)",
      ].join("\n"),
    },
  );
}

const activePrefix = () => process.env.VIRTUAL_ENV || process.env.CONDA_PREFIX || undefined;

async function sysPrefix(): Promise<string> {
  const active = activePrefix();
  if (active) return active;
  try {
    const { stdout } = await promisify(execFile)("python3", ["-c", "import sys; print(sys.prefix)"]);
    return stdout.trim();
  } catch {
    throw new UsageError("--sys-prefix: no Python environment is active and there is no python3 on PATH");
  }
}

/** Where Jupyter looks, with the project's own folder after what JUPYTER_PATH names. */
function searchEnvironment(): NodeJS.ProcessEnv {
  const places = [process.env.JUPYTER_PATH, dataFolder(ownPrefix)].filter(Boolean);
  return { ...process.env, JUPYTER_PATH: places.join(delimiter) };
}

/**
 * Finds a kernel and makes sure that what it starts exists.
 * @throws UsageError with one line that says what is missing and what to type
 */
export function usableKernel(name: string, notebook: string): FoundKernelspec {
  const env = searchEnvironment();
  let spec: FoundKernelspec;
  try {
    spec = findKernelspec(name, env);
  } catch (error) {
    // The errors for a damaged kernel.json and an impossible name already say what is wrong.
    if (!(error instanceof NoKernelspecError))
      throw new UsageError((error as Error).message, { file: notebook });
    const names = kernelspecNames(env);
    const found = names.length > 0 ? `found ${names.join(", ")}` : "found none";
    const hint = name === kernelName ? "install it with `firstframe kernel install`" : undefined;
    throw new UsageError(`no kernel named ${name} is installed (${found})`, { file: notebook, hint });
  }
  const missing = missingProgram(spec);
  if (missing !== undefined) {
    throw new UsageError(`the kernelspec ${spec.folder} starts ${missing}, which is not there`, {
      file: notebook,
      hint: name === kernelName ? "install it again with `firstframe kernel install`" : undefined,
    });
  }
  return spec;
}

/** The first of a kernelspec's files that does not exist. */
function missingProgram({ argv, folder }: FoundKernelspec): string | undefined {
  const paths = argv.map((part) => part.replaceAll("{resource_dir}", folder));
  const gone = paths.find((path) => isAbsolute(path) && !existsSync(path));
  if (gone !== undefined || isAbsolute(paths[0]!)) return gone;
  const places = (process.env.PATH ?? "").split(delimiter);
  return places.some((place) => isExecutable(join(place, paths[0]!))) ? undefined : paths[0];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function listKernels(json: boolean): void {
  const env = searchEnvironment();
  const kernels = kernelspecNames(env).map((name) => {
    try {
      const spec = findKernelspec(name, env);
      const missing = missingProgram(spec);
      const { displayName, language, folder } = spec;
      return { name, displayName, language, folder, ...(missing === undefined ? {} : { missing }) };
    } catch (error) {
      return { name, displayName: "", language: "", folder: "", missing: (error as Error).message };
    }
  });
  if (json) console.log(JSON.stringify(kernels, null, 2));
  else if (kernels.length === 0) console.log(`no kernels in ${dataFolders(env).join(delimiter)}`);
  const width = Math.max(...kernels.map(({ name }) => name.length));
  for (const { name, folder, missing } of json ? [] : kernels) {
    console.log(
      `${name.padEnd(width)}  ${folder}${missing === undefined ? "" : `  (broken: ${missing} is not there)`}`,
    );
  }
}
