/**
 * What the `paths` of tsconfig.json mean by a specifier: of the one that applies to the folder of whoever imports, else of
 * the notebook's.
 */
import type { PathsMatcher } from "get-tsconfig";
import { configStamp, readUserConfig } from "../language/config.js";
import { resolveFile } from "../language/resolve.js";

export class Aliases {
  private readonly configs = new Map<string, { stamp: string; matchPaths: PathsMatcher | null }>();

  constructor(private readonly cwd: string) {}

  /** The file for a specifier that is no path, or null. */
  file(specifier: string, folder: string): string | null {
    for (const each of folder === this.cwd ? [folder] : [folder, this.cwd]) {
      for (const alias of this.matcher(each)?.(specifier) ?? []) {
        const file = resolveFile(alias);
        if (file !== null) return file;
      }
    }
    return null;
  }

  private matcher(folder: string): PathsMatcher | null {
    const stamp = configStamp(folder);
    let config = this.configs.get(folder);
    if (config?.stamp !== stamp) {
      config = { stamp, matchPaths: stamp === "" ? null : matcherOf(folder) };
      this.configs.set(folder, config);
    }
    return config.matchPaths;
  }
}

function matcherOf(folder: string): PathsMatcher | null {
  try {
    return readUserConfig(folder).matchPaths;
  } catch {
    return null; // the check says what is wrong with it
  }
}
