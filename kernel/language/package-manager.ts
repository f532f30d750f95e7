/** Which package manager a project is installed with. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { upwards } from "./resolve.js";

/** Files of each, besides the `packageManager` of package.json. */
const SIGNS = {
  pnpm: ["pnpm-lock.yaml", "pnpm-workspace.yaml"],
  yarn: ["yarn.lock", ".yarnrc.yml"],
  bun: ["bun.lock", "bun.lockb"],
  npm: ["package-lock.json", "npm-shrinkwrap.json"],
} as const;
export type PackageManagerName = keyof typeof SIGNS;

export interface PackageManager {
  readonly name: PackageManagerName;
  /** The file that says so; undefined if none does, and npm is taken. */
  readonly because?: string;
}

/** The nearest folder's from `folder` upwards that says it. */
export function packageManagerOf(folder: string): PackageManager {
  const names = Object.keys(SIGNS) as PackageManagerName[];
  for (const place of upwards(folder)) {
    const named = namedIn(join(place, "package.json"));
    if (named !== undefined) return { name: named, because: join(place, "package.json") };
    for (const name of names) {
      const sign = SIGNS[name].map((file) => join(place, file)).find(existsSync);
      if (sign !== undefined) return { name, because: sign };
    }
  }
  return { name: "npm" };
}

/** "pnpm@10.20.0+sha512..." (https://nodejs.org/api/packages.html#packagemanager). */
function namedIn(file: string): PackageManagerName | undefined {
  try {
    const { packageManager } = JSON.parse(readFileSync(file, "utf8")) as { packageManager?: unknown };
    const name = String(packageManager).split("@")[0]!;
    return Object.hasOwn(SIGNS, name) ? (name as PackageManagerName) : undefined;
  } catch {
    return undefined;
  }
}

/** Yarn's map of packages that lie in archives, if the project has no node_modules because of it. */
export function plugAndPlay(folder: string): string | undefined {
  for (const place of upwards(folder)) {
    if (existsSync(join(place, "node_modules"))) return undefined;
    const map = join(place, ".pnp.cjs");
    if (existsSync(map)) return map;
  }
  return undefined;
}
