import { readFileSync } from "node:fs";
import path from "node:path";
import { parseSync } from "oxc-parser";
import type { UserConfig } from "./config.js";
import { deepest, isShallow } from "./depth.js";
import { isNotebook, notebookModule } from "./notebook-module.js";
import { isPath, resolveFile, stampOf } from "./resolve.js";

interface Known {
  readonly stamp: string;
  /** What the file imports from the user's other files. */
  readonly imports: readonly string[];
}

/**
 * The user's own modules that cells import, directly or indirectly. The compiler does not watch files; this says which of
 * them are new or have changed since the last call.
 */
export class LocalFiles {
  private readonly known = new Map<string, Known>();

  constructor(private readonly cwd: string) {}

  changes(code: string, config: UserConfig): { file: string; change: "created" | "changed" | "deleted" }[] {
    const changes: { file: string; change: "created" | "changed" | "deleted" }[] = [];
    const queue = importedBy(code, this.cwd, config);
    const seen = new Set<string>();
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      if (seen.has(file)) continue;
      seen.add(file);
      const stamp = stampOf(file);
      const before = this.known.get(file);
      if (before?.stamp === stamp) {
        queue.push(...before.imports);
        continue;
      }
      const imports =
        stamp && (isNotebook(file) || /\.[cm]?[jt]sx?$/.test(file))
          ? importedBy(codeOf(file), path.dirname(file), config)
          : [];
      this.known.set(file, { stamp, imports });
      queue.push(...imports);
      if (stamp === "") {
        if (before?.stamp) changes.push({ file, change: "deleted" });
      } else {
        changes.push({ file, change: before?.stamp ? "changed" : "created" });
      }
    }
    return changes;
  }
}

/** A module's code; a notebook that is none has no code, and says why when it is imported. */
export function codeOf(file: string): string {
  const text = readFileSync(file, "utf8");
  if (!isNotebook(file)) return text;
  try {
    return notebookModule(text);
  } catch {
    return "export {};";
  }
}

/** Files that a module's imports may mean, including those that don't exist, since they may appear later. */
function importedBy(code: string, folder: string, config: UserConfig): string[] {
  if (!/\b(?:import|export|require)\b/.test(code) || !isShallow(code, deepest)) return [];
  const specifiers = new Set<string>();
  const { module, errors } = parseSync("module.tsx", code, { lang: "tsx", sourceType: "module" });
  if (errors.length === 0) {
    for (const { moduleRequest } of module.staticImports) specifiers.add(moduleRequest.value);
    for (const { entries } of module.staticExports) {
      for (const { moduleRequest } of entries) if (moduleRequest) specifiers.add(moduleRequest.value);
    }
  }
  for (const [, specifier] of code.matchAll(
    /(?:\bfrom|\bimport|\bimport\s*\(|\brequire\s*\()\s*["']([^"'\n]+)["']/g,
  )) {
    if (specifier) specifiers.add(specifier);
  }
  return [...specifiers].flatMap((specifier) => {
    const paths = isPath(specifier)
      ? [path.resolve(folder, specifier)]
      : (config.matchPaths?.(specifier) ?? []);
    return paths.map((file) => resolveFile(file) ?? file);
  });
}
