/**
 * The kernelspec: how Jupyter finds and starts the kernel.
 */
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { homedir, platform } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { capability } from "zeromq";
import { replaceFolderAtomic } from "../../src/files/atomic.js";
import { serverAllocatorSettings } from "./allocator.js";
import { kernelName } from "./names.js";

export const packageRoot = fileURLToPath(new URL("../../../", import.meta.url));

export interface Kernelspec {
  readonly argv: readonly string[];
  readonly display_name: string;
  readonly language: string;
  readonly interrupt_mode: "message" | "signal";
  readonly env: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** The kernelspec of this installation, with absolute paths. */
export function kernelspec(): Kernelspec {
  return {
    argv: [process.execPath, join(packageRoot, "dist/kernel/main.js"), "{connection_file}"],
    display_name: "TypeScript (firstframe)",
    ...commonFields,
  };
}

/** What holds wherever the kernel runs. */
export const commonFields: Omit<Kernelspec, "argv" | "display_name"> = {
  language: "typescript",
  // A signal takes a client no connection first, as a message does in jupyter_client; both are understood.
  interrupt_mode: "signal",
  env: { ...serverAllocatorSettings },
  // What jupyter_client asks before it encrypts.
  metadata: { debugger: true, ...(capability.curve && { supported_encryption: ["curve"] }) },
};

/** Jupyter's data folder of the user, which it searches by itself. */
export function userDataFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.JUPYTER_DATA_DIR) return env.JUPYTER_DATA_DIR;
  if (platform() === "darwin") return join(homedir(), "Library/Jupyter");
  return join(env.XDG_DATA_HOME || join(homedir(), ".local/share"), "jupyter");
}

/** `share/jupyter` below a prefix, or without one the user's data folder. */
export function dataFolder(prefix?: string): string {
  return prefix === undefined ? userDataFolder() : join(resolve(prefix), "share/jupyter");
}

export interface InstallOptions {
  /** Installs to `share/jupyter/kernels` below it, as a Python environment has it; else to the user's data folder. */
  readonly prefix?: string | undefined;
}

/**
 * Writes the kernelspec and its logos, replacing an older one as a whole.
 * @returns the folder of the kernelspec.
 */
export function installKernelspec({ prefix }: InstallOptions = {}): Promise<string> {
  return writeKernelspec(join(dataFolder(prefix), "kernels", kernelName), kernelspec());
}

/**
 * Writes a kernelspec with the logos and other files into a folder, replacing what is there as a whole.
 * @returns the folder
 */
export async function writeKernelspec(
  folder: string,
  spec: Kernelspec,
  files: Readonly<Record<string, string>> = {},
): Promise<string> {
  const logo = readFileSync(join(packageRoot, "kernel/install/logo-svg.svg"));
  await replaceFolderAtomic(folder, async (made) => {
    await writeFile(join(made, "logo-svg.svg"), logo);
    for (const size of [32, 64]) {
      const png = await sharp(logo, { density: (72 * size) / 16 })
        .resize(size, size)
        .png()
        .toBuffer();
      await writeFile(join(made, `logo-${size}x${size}.png`), png);
    }
    for (const [name, text] of Object.entries(files)) await writeFile(join(made, name), text);
    // Last, since Jupyter takes every folder with such a file for a kernel.
    await writeFile(join(made, "kernel.json"), `${JSON.stringify(spec, null, 2)}\n`);
  });
  return folder;
}
