import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { installKernelspec } from "../../../kernel/install/kernelspec.js";
import { projectRoot } from "./project.js";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command line in a folder of its own, with a kernelspec of its own. */
export class Cli {
  readonly #env: NodeJS.ProcessEnv;

  private constructor(readonly folder: string) {
    this.#env = {
      ...process.env,
      JUPYTER_PATH: join(folder, "prefix/share/jupyter"),
      JUPYTER_DATA_DIR: join(folder, "data"),
    };
  }

  static async make(): Promise<Cli> {
    const cli = new Cli(mkdtempSync(join(tmpdir(), "firstframe-cli-")));
    await installKernelspec({ prefix: join(cli.folder, "prefix") });
    return cli;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, content: string | object): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    writeFileSync(this.path(name), typeof content === "string" ? content : JSON.stringify(content));
  }

  start(
    argv: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): { child: ChildProcess; ended: Promise<Ended> } {
    return this.program(process.execPath, [join(projectRoot, "dist/src/cli/main.js"), ...argv], env);
  }

  program(
    program: string,
    argv: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): { child: ChildProcess; ended: Promise<Ended> } {
    const child = spawn(program, argv, { cwd: this.folder, env: { ...this.#env, ...env } });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk);
    });
    child.stderr.on("data", (chunk) => {
      stderr += String(chunk);
    });
    const ended = new Promise<Ended>((done, failed) => {
      child.on("error", failed);
      child.on("close", (code, signal) => done({ code, signal, stdout, stderr }));
    });
    return { child, ended };
  }

  run(...argv: string[]): Promise<Ended> {
    return this.start(argv).ended;
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

type CellSource = string | { source: string; tags?: string[]; metadata?: object };

/** A notebook of code cells for our kernel; a source that starts with `#` is Markdown. */
export function notebook(cells: readonly CellSource[], kernel = "firstframe"): object {
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: { kernelspec: { name: kernel, display_name: "TypeScript", language: "typescript" } },
    cells: cells.map((cell, i) => {
      const { source, tags, metadata }: Exclude<CellSource, string> =
        typeof cell === "string" ? { source: cell } : cell;
      const all = { ...metadata, ...(tags ? { tags } : {}) };
      if (source.startsWith("#")) return { cell_type: "markdown", id: `cell-${i}`, metadata: all, source };
      return {
        cell_type: "code",
        id: `cell-${i}`,
        metadata: all,
        source,
        outputs: [],
        execution_count: null,
      };
    }),
  };
}
