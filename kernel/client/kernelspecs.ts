/**
 * Finds installed kernelspecs where Jupyter looks for them.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { userDataFolder } from "../install/kernelspec.js";

export interface FoundKernelspec {
  readonly name: string;
  /** The folder of kernel.json. */
  readonly folder: string;
  readonly argv: readonly string[];
  readonly displayName: string;
  readonly language: string;
  readonly interruptMode: "message" | "signal";
  readonly env: Readonly<Record<string, string>>;
  /** How it can encrypt its messages, in lower case; `curve` is the one there is. */
  readonly supportedEncryption?: readonly string[];
}

/** Data folders in Jupyter's order: JUPYTER_PATH, the user's, the environment's, the system's. */
export function dataFolders(env: NodeJS.ProcessEnv = process.env): string[] {
  const given = env.JUPYTER_PATH?.split(delimiter).filter((folder) => folder !== "") ?? [];
  const environment = env.VIRTUAL_ENV ?? env.CONDA_PREFIX;
  return [
    ...given,
    userDataFolder(env),
    ...(environment ? [join(environment, "share/jupyter")] : []),
    "/usr/local/share/jupyter",
    "/usr/share/jupyter",
  ];
}

/** Names of all kernelspecs that can be found. */
export function kernelspecNames(env: NodeJS.ProcessEnv = process.env): string[] {
  const names = new Set<string>();
  for (const folder of dataFolders(env)) {
    for (const name of namesIn(join(folder, "kernels"))) names.add(name.toLowerCase());
  }
  return [...names].sort();
}

/** jupyter_client's rule for names: a name of anything else could lead out of the folders of kernels. */
const validName = /^[a-z0-9._-]+$/i;

/** No folder of kernels has one of this name. */
export class NoKernelspecError extends Error {}

/**
 * Finds a kernelspec by its name; capitals and small letters are the same, as they are to jupyter_client.
 * @throws Error that says where it looked and what else there is, or why there can't be such a kernel
 */
export function findKernelspec(name: string, env: NodeJS.ProcessEnv = process.env): FoundKernelspec {
  if (!validName.test(name)) {
    throw new Error(
      `${JSON.stringify(name)} can't be a kernel's name: expected letters A to Z, digits and - . _ only`,
    );
  }
  for (const folder of dataFolders(env)) {
    const kernels = join(folder, "kernels");
    // Names are looked up in the list, so that . and .. are names like any other.
    const names = namesIn(kernels);
    const found = names.includes(name)
      ? name
      : names.find((other) => other.toLowerCase() === name.toLowerCase());
    if (found !== undefined) return readKernelspec(join(kernels, found, "kernel.json"));
  }
  const others = kernelspecNames(env);
  const found = others.length > 0 ? `found: ${others.join(", ")}` : "found none";
  throw new NoKernelspecError(
    `no kernelspec named ${name} in ${dataFolders(env).join(delimiter)} (${found})`,
  );
}

/** The folders that hold a kernel.json, in a folder of kernels. */
function namesIn(kernels: string): string[] {
  let names: string[];
  try {
    names = readdirSync(kernels);
  } catch {
    return [];
  }
  return names.filter((name) => validName.test(name) && existsSync(join(kernels, name, "kernel.json")));
}

/** Reads a kernel.json. Throws an error that names the file and the key that is wrong. */
export function readKernelspec(file: string): FoundKernelspec {
  let spec: Record<string, unknown>;
  try {
    spec = (JSON.parse(readFileSync(file, "utf8")) ?? {}) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`kernelspec ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { argv } = spec;
  if (!Array.isArray(argv) || argv.length === 0 || argv.some((part) => typeof part !== "string")) {
    throw new Error(`kernelspec ${file}: argv: expected a list of strings, found ${JSON.stringify(argv)}`);
  }
  const env = spec.env ?? {};
  if (typeof env !== "object" || Object.values(env).some((value) => typeof value !== "string")) {
    throw new Error(`kernelspec ${file}: env: expected strings by name, found ${JSON.stringify(env)}`);
  }
  const folder = dirname(file);
  return {
    name: folder.slice(dirname(folder).length + 1),
    folder,
    argv: argv as string[],
    displayName: String(spec.display_name ?? ""),
    language: String(spec.language ?? ""),
    interruptMode: spec.interrupt_mode === "message" ? "message" : "signal",
    env: env as Record<string, string>,
    supportedEncryption: encryptionOf(spec.metadata),
  };
}

/** One name or a list of them, in any case: as jupyter_client reads it. */
function encryptionOf(metadata: unknown): string[] {
  const given = (metadata as { supported_encryption?: unknown } | null | undefined)?.supported_encryption;
  const names = Array.isArray(given) ? given : given === undefined ? [] : [given];
  return names.map((name) => String(name).trim().toLowerCase());
}
