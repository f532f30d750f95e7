import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { cacheDirectory } from "../../src/engine/index.js";

export const projectRoot = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "");

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The TypeScript of a project that uses the package: not the one that the package brings. */
export const typescriptVersion = "5.9.3";

/** The package manager beside npm. */
const pnpm = "pnpm@10.20.0";

/** A person with a home of their own, and an empty folder in it that is to become a project. */
export class Consumer {
  readonly home = mkdtempSync(join(tmpdir(), "firstframe-package-"));
  readonly folder = join(this.home, "project");
  readonly env: NodeJS.ProcessEnv;

  constructor() {
    mkdirSync(this.folder);
    // no word of the `npm test` around us, nor of this clone's programs and settings
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(npm_|INIT_CWD|NODE_|JUPYTER|FIRSTFRAME|MALLOC_)/i.test(name),
    );
    const path = (process.env.PATH ?? "").split(delimiter).filter((place) => !place.startsWith(projectRoot));
    this.env = {
      ...Object.fromEntries(inherited),
      PATH: path.join(delimiter),
      HOME: this.home,
      XDG_CACHE_HOME: join(this.home, "cache"),
      XDG_CONFIG_HOME: join(this.home, "config"),
      JUPYTER_DATA_DIR: join(this.home, "jupyter"),
      // npm's settings and downloads are the machine's
      npm_config_userconfig: process.env.NPM_CONFIG_USERCONFIG ?? join(process.env.HOME ?? "", ".npmrc"),
      npm_config_cache: process.env.npm_config_cache ?? join(process.env.HOME ?? "", ".npm"),
      npm_config_prefer_offline: "true",
    };
    this.write("package.json", { name: "project", private: true, type: "module" });
  }

  write(name: string, content: string | object): void {
    writeFileSync(join(this.folder, name), typeof content === "string" ? content : JSON.stringify(content));
  }

  run(program: string, ...args: string[]): Promise<Ended> {
    return new Promise((done) => {
      const options = { cwd: this.folder, env: this.env, maxBuffer: 1 << 26 };
      execFile(program, args, options, (error, stdout, stderr) => {
        done({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
      });
    });
  }

  /** Packs the package of this clone as a release does. @returns the tarball. */
  async pack(): Promise<string> {
    const destination = join(this.home, "packed");
    mkdirSync(destination);
    const options = { cwd: projectRoot, env: this.env, maxBuffer: 1 << 26 };
    await new Promise<void>((done, failed) => {
      execFile("npm", ["pack", "--pack-destination", destination], options, (error, _, stderr) =>
        error === null ? done() : failed(new Error(stderr)),
      );
    });
    return join(destination, readdirSync(destination)[0]!);
  }

  install(manager: "npm" | "pnpm", ...specs: string[]): Promise<Ended> {
    if (manager === "npm") return this.run("npm", "install", "--no-audit", "--no-fund", ...specs);
    return this.run("npm", "exec", "--yes", `--package=${pnpm}`, "--", "pnpm", "add", ...specs);
  }

  firstframe(...args: string[]): Promise<Ended> {
    return this.run(join(this.folder, "node_modules", ".bin", "firstframe"), ...args);
  }

  /** Lends the person's cache the libtensorflow of this machine, but nothing of npm's. @returns whether there is one. */
  lendLibrary(): boolean {
    const from = cacheDirectory();
    const to = cacheDirectory(this.env);
    mkdirSync(to, { recursive: true });
    const libraries = existsSync(from)
      ? readdirSync(from).filter((name) => /^tensorflow-[\d.]+-\w+-\w+$/.test(name))
      : [];
    for (const name of libraries) symlinkSync(join(from, name), join(to, name));
    return libraries.length > 0;
  }

  dispose(): void {
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** A program of the Python that the tests run against. */
export function python(name: string): string {
  return join(projectRoot, ".venv", "bin", name);
}

/** A program of a package of this clone's. */
export function binary(name: string, _package: string): string {
  return join(projectRoot, "node_modules", ".bin", name);
}
