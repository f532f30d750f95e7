/**
 * A notebook's folder and the compiler that knows it, for tests.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import { type Cell, type Diagnostic, TypeScriptLanguage } from "../../../kernel/language/index.js";

/** A folder of its own, removed after the tests of the file. */
export class Folder {
  constructor(
    files: Record<string, string> = {},
    readonly path = realpathSync(mkdtempSync(join(tmpdir(), "firstframe-language-"))),
  ) {
    after(() => rmSync(this.path, { recursive: true, force: true }));
    for (const [file, text] of Object.entries(files)) this.write(file, text);
  }

  /** A folder in it, which exists. */
  below(name: string): Folder {
    return new Folder({}, join(this.path, name));
  }

  write(file: string, text: string): void {
    const full = join(this.path, file);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, text);
  }
}

/** The cells of a notebook in one text, in which `//%%` begins a cell. */
export const cellsOf = (notebook: string): string[] => notebook.split("//%%").map((cell) => cell.trim());

const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));

/** What the compiler says of notebooks whose cells are a file each. */
export function compiledAsFiles(
  folder: Folder,
  notebooks: readonly string[],
  compilerOptions: object,
): string {
  const files = notebooks.map((notebook, i) => {
    const file = `as-file-${i}.tsx`;
    folder.write(file, `${cellsOf(notebook).join("\n")}\nexport {};\n`);
    return file;
  });
  const modules = { target: "ESNext", module: "ESNext", moduleResolution: "Bundler", types: ["node"] };
  const options = { ...compilerOptions, ...modules, noEmit: true, skipLibCheck: true };
  folder.write("as-files.json", JSON.stringify({ compilerOptions: options, files }));
  return spawnSync(process.execPath, [join(typescript, "bin", "tsc"), "-p", "as-files.json"], {
    cwd: folder.path,
    encoding: "utf8",
  }).stdout;
}

/** Cells one after the other, as the kernel hands them on. */
export class Notebook {
  readonly language: TypeScriptLanguage;
  private count = 0;

  private constructor(
    readonly folder: Folder,
    options: { nodeVersion?: string },
  ) {
    this.language = new TypeScriptLanguage({ cwd: folder.path, ...options });
    after(() => this.language.dispose());
  }

  static async open(
    folder: Folder = new Folder(),
    options: { nodeVersion?: string } = {},
  ): Promise<Notebook> {
    const notebook = new Notebook(folder, options);
    await notebook.language.start();
    return notebook;
  }

  cell(code: string): Cell {
    this.count += 1;
    return { id: String(this.count), count: this.count, code };
  }

  /** Checks a cell, and accepts it unless that finds errors. */
  async run(code: string): Promise<Diagnostic[]> {
    const cell = this.cell(code);
    const diagnostics = await this.language.check(cell);
    if (!diagnostics.some(({ severity }) => severity === "error")) this.language.accept(cell);
    return diagnostics;
  }

  /** Checks and accepts cells that have no errors. */
  async ok(...cells: string[]): Promise<void> {
    for (const code of cells) {
      const diagnostics = await this.run(code);
      if (diagnostics.length > 0) throw new Error(`${code}: ${JSON.stringify(diagnostics)}`);
    }
  }

  /** Runs cells, each of which must have exactly the errors that its comments name: `// error 2322`. */
  async expect(...cells: string[]): Promise<void> {
    for (const code of cells) {
      const expected = [...code.matchAll(/\/\/ error (\d+)/g)].map(([, number]) => Number(number));
      const errors = (await this.run(code)).filter(({ severity }) => severity === "error");
      const found = errors.map((error) => error.code);
      assert.deepEqual(found, expected, `${code}: ${errors.map(({ message }) => message).join("; ")}`);
    }
  }

  /** The error numbers of a cell. */
  async codes(code: string): Promise<number[]> {
    return (await this.run(code)).map((diagnostic) => diagnostic.code);
  }
}
