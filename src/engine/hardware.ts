import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Names of the NVIDIA GPUs that the kernel driver serves; empty where there is none. */
export function nvidiaDevices(root = "/proc/driver/nvidia/gpus"): string[] {
  try {
    return readdirSync(root).map((gpu) => {
      const text = readFileSync(join(root, gpu, "information"), "utf8");
      return /^Model:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? "NVIDIA GPU";
    });
  } catch {
    // containers hide /proc/driver but pass the device nodes
    return existsSync("/dev/nvidia0") ? ["NVIDIA GPU"] : [];
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
