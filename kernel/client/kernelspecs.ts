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
    const kernels = join(folder, "kernels");
    if (!existsSync(kernels)) continue;
    for (const name of readdirSync(kernels)) {
      if (existsSync(join(kernels, name, "kernel.json"))) names.add(name.toLowerCase());
    }
  }
  return [...names].sort();
}

/** Throws an error that says where it looked and what else there is. */
export function findKernelspec(name: string, env: NodeJS.ProcessEnv = process.env): FoundKernelspec {
  for (const folder of dataFolders(env)) {
    const file = join(folder, "kernels", name, "kernel.json");
    if (existsSync(file)) return readKernelspec(file);
  }
  const others = kernelspecNames(env);
  const found = others.length > 0 ? `found: ${others.join(", ")}` : "found none";
  throw new Error(`no kernelspec named ${name} in ${dataFolders(env).join(delimiter)} (${found})`);
}

/** Reads a kernel.json. Throws an error that names the file and the key that is wrong. */
export function readKernelspec(file: string): FoundKernelspec {
  let spec: Record<string, unknown>;
  try {
    spec = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`kernelspec ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { argv } = spec;
  if (!Array.isArray(argv) || argv.length === 0 || argv.some((part) => typeof part !== "string")) {
    throw new Error(`kernelspec ${file}: argv: expected a list of strings, found ${JSON.stringify(argv)}`);
  }
  const folder = dirname(file);
  return {
    name: folder.slice(dirname(folder).length + 1),
    folder,
    argv: argv as string[],
    displayName: String(spec.display_name ?? ""),
    language: String(spec.language ?? ""),
    interruptMode: spec.interrupt_mode === "message" ? "message" : "signal",
    env: (spec.env ?? {}) as Record<string, string>,
  };
}
