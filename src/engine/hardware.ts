import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Names of the NVIDIA GPUs that the kernel driver serves; empty where there is none. @param root of the file system. */
export function nvidiaDevices(root = "/"): string[] {
  const gpus = join(root, "proc/driver/nvidia/gpus");
  try {
    return readdirSync(gpus).map((gpu) => {
      const text = readFileSync(join(gpus, gpu, "information"), "utf8");
      return /^Model:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? unnamed;
    });
  } catch {
    // Containers hide /proc/driver but show the nodes of the devices they may use.
    const nodes = namesIn(join(root, "dev")).filter((name) => /^nvidia\d+$/.test(name));
    if (nodes.length > 0) return nodes.map(() => unnamed);
    // WSL has one node for all graphics cards, and NVIDIA's library if one of them is NVIDIA's.
    const windows = ["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"].every((path) => existsSync(join(root, path)));
    return windows ? [unnamed] : [];
  }
}

const unnamed = "NVIDIA GPU";

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** The NVIDIA kernel driver's version, such as "550.54.15". */
export function nvidiaDriver(path = "/proc/driver/nvidia/version"): string | undefined {
  try {
    return /Module\s+(?:for \S+\s+)?([\d.]+)/.exec(readFileSync(path, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}
