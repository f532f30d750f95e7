import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Compiler, CompilerError, uriOf } from "./compiler.js";
import { completenessOf } from "./completeness.js";
import {
  type CompletionItem,
  type CompletionList,
  keywordKind,
  kindName,
  toCompletions,
} from "./completions.js";
import { configStamp, readUserConfig, type UserConfig } from "./config.js";
import { type LspDiagnostic, toDiagnostics } from "./diagnostics.js";
import { codeOf, LocalFiles } from "./files.js";
import {
  type ImportableModule,
  importableModules,
  importableWithinMs,
  mostImports,
  shortestImportable,
} from "./importable.js";
import { isInText } from "./in-text.js";
import {
  type Definition,
  type Hover,
  hoverText,
  type SignatureHelp,
  sourceOf,
  toInspection,
} from "./inspection.js";
import {
  type Cell,
  CellSyntaxError,
  type Completeness,
  type Completions,
  type Diagnostic,
  type Inspection,
  type Place,
  syntaxErrors,
  type TransformedCell,
} from "./language.js";
import { isUseful, lost, type Probe, probeOf, type Reference } from "./narrowing.js";
import { isNotebook } from "./notebook-module.js";
import { Lines, type Position } from "./positions.js";
import { problemsOf, projectConfig } from "./project.js";
import { type AcceptedCell, closureOf, type Learned, ownNames, Session, type View } from "./session.js";
import { type Declaration, parseCell, type Source } from "./source.js";
import { transformCell } from "./transform.js";
import { evidentTypes, plainFunctionOf, plainTypeOf, shownType } from "./types.js";
import {
  declarationAmong,
  declaredByLine,
  inCells,
  mayComeFromUnknown,
  mentions,
  unrunNames,
} from "./unrun.js";
import { blanksStart, isName, nameEnd, nameStart } from "./words.js";

export * from "./language.js";

/** The document in which code is examined, preceded by what earlier cells declared. */
interface Query {
  readonly file: string;
  readonly text: string;
  /** Where the cell's code begins in `text`. */
  readonly offset: number;
  /** Whether variables have types there that they may not have any more. */
  readonly narrows: boolean;
  /** Where a name of the library is, to see where that is declared. */
  readonly library?: number;
}

/** How code is shown to the compiler. */
interface Showing extends View {
  /** What is put after it. */
  readonly probe?: Probe;
  /** Whether it may bring in packages, and with them files of the compiler's own library. */
  readonly bringsIn?: boolean;
}

/** How long the compiler may work on a cell, unless FIRSTFRAME_CHECK_TIMEOUT says so in seconds. */
const checkAtMostMs = 60_000;
/** How many accepted cells stay open in the compiler; each one makes every request slightly slower. */
const openAtMost = 200;
/** The maximum number of a cell's variables whose types are requested. */
const learnedAtMost = 100;
/** The cell with which the compiler begins. */
const warmUp = "start";
/** How many cells may have been checked without being accepted. */
const uncertainAtMost = 10;
/** How many names from earlier cells are declared for a completion that does not mention them. */
const offeredWithTypes = 500;
/** Errors that say that a module, or its types, could not be found. */
const unresolved = new Set([2307, 2732, 2792, 2875, 2882, 7016]);
const currentFile = ".firstframe-current";
/** A name of the library, as it is put before code. */
const libraryName = "Array";

export interface LanguageOptions {
  readonly cwd: string;
  /** The Node that cells run on; by default the one that runs this. */
  readonly nodeVersion?: string;
  /** Called with each new compiler process. */
  readonly onCompiler?: (pid: number | undefined) => void;
}

/**
 * TypeScript for notebooks in a folder. Cells are checked as modules of that folder that exist only in the compiler's
 * memory, so that their imports resolve as in a file there; nothing is written.
 */
export class TypeScriptLanguage {
  private readonly cwd: string;
  /** What modules export, by their names. */
  private readonly exports = new Map<
    string,
    { readonly stamp: string; readonly items: readonly CompletionItem[] }
  >();
  private readonly nodeVersion: string;
  private readonly compiler: Compiler;
  private readonly files: LocalFiles;
  private readonly session = new Session();
  private readonly open = new Set<AcceptedCell>();
  private config: UserConfig;
  private stamp: string;
  private queue: Promise<unknown> = Promise.resolve();
  private waiting = 0;
  /** Calls off the check of code that is only being written. */
  private linting: AbortController | undefined;
  /** The compiler's own library is needed, since packages refer to parts of it. */
  private separate = false;
  /** It is known whether the project itself brings in packages that do. */
  private surveyed = false;
  /** What the next cell is to say about the project. */
  private notices: Diagnostic[] = [];
  /** About cells that were checked and may be accepted. */
  private readonly learned = new Map<string, Learned>();

  constructor({ cwd, nodeVersion = process.versions.node, onCompiler }: LanguageOptions) {
    this.cwd = path.resolve(cwd);
    this.nodeVersion = nodeVersion;
    this.compiler = new Compiler(this.cwd, {
      limitMs: checkLimitMs(),
      ...(onCompiler && { onProcess: onCompiler }),
    });
    this.files = new LocalFiles(this.cwd);
    this.config = readUserConfig(this.cwd);
    this.stamp = configStamp(this.cwd, this.config.sources);
    this.writeProject();
  }

  /** Resolves once the compiler can answer, or it is clear that it can't for now. */
  async start(): Promise<void> {
    await this.compiler.start().catch(() => undefined);
    // The first check reads the standard library, which need not wait for the first cell.
    void this.check({ id: warmUp, count: 0, code: "undefined" }).catch(() => undefined);
  }

  /** The compiler's process. */
  get pid(): number | undefined {
    return this.compiler.pid;
  }

  check(cell: Cell, signal?: AbortSignal): Promise<Diagnostic[]> {
    // Whoever runs a cell waits for nobody who is only typing.
    this.linting?.abort();
    return new Promise((resolve, reject) => {
      const work = async () => {
        if (isUnchecked(cell.code)) return resolve([]);
        const source = parseCell(cell.code);
        const references = this.session.narrowableIn(source);
        const probe = probeOf(references);
        const { query, found, wide } = await this.errorsOf(source, cell.code, { probe }, signal);
        const clean = !found.some(isError);
        const about = { types: new Map(), references, ends: new Map(), declared: new Map(), clean, wide };
        this.learned.set(cell.id, about);
        if (this.learned.size > uncertainAtMost) this.learned.delete(this.learned.keys().next().value!);
        resolve([...this.notices, ...found]);
        if (cell.id !== warmUp) this.notices = [];
        // The cell need not wait for this, but the next request has to, because they share the document.
        if (clean) await this.learn(source, query, probe, about);
      };
      this.exclusively(work, signal).catch(reject);
    });
  }

  /** See `lint` in language.ts. */
  async lint(code: string, above: readonly string[], signal?: AbortSignal): Promise<Diagnostic[] | null> {
    const linting = new AbortController();
    const work = async () => {
      if (isUnchecked(code)) return [];
      this.linting = linting;
      const source = parseCell(code);
      const unknown = unrunNames(above, (name, text) => this.session.isInForce(name, text));
      const either = AbortSignal.any([linting.signal, ...(signal ? [signal] : [])]);
      const { found } = await this.errorsOf(source, code, { unknown }, either);
      const parser = this.parserErrors(code, source);
      if (parser.length > 0) return [...syntaxErrors(found, parser)];
      const isUnknown = unknown.size > 0 && mentions(code, unknown);
      return isUnknown ? found.filter((each) => !mayComeFromUnknown(each)) : found;
    };
    try {
      return await this.exclusively(work, signal);
    } catch (error) {
      if (linting.signal.aborted && !signal?.aborted) return null;
      throw error;
    } finally {
      if (this.linting === linting) this.linting = undefined;
    }
  }

  /** Why code would not become JavaScript. */
  private parserErrors(code: string, source: Source): readonly Diagnostic[] {
    if (source.errors.length > 0) return source.errors;
    try {
      this.transform({ id: "lint", count: 0, code });
      return [];
    } catch (error) {
      if (error instanceof CellSyntaxError) return error.diagnostics;
      throw error;
    }
  }

  transform(cell: Cell): TransformedCell {
    return transformCell(cell, this.config.options, this.session.sharedNames());
  }

  accept(cell: Cell): void {
    this.session.accept(cell, this.learned.get(cell.id));
    this.learned.delete(cell.id);
  }

  complete(code: string, cursor: number, signal?: AbortSignal): Promise<Completions> {
    const work = async () => {
      const source = parseCell(code);
      // Opening many cells at once takes long, and names can be offered without types.
      const own = namesOf(code, source);
      const names = this.session.allNames().filter((name) => !own.value.has(name) && !own.type.has(name));
      const also = names
        .filter((name) => this.session.isPlain(name) || this.isOpen(name))
        .slice(-offeredWithTypes);
      const query = this.show(code, 0, source, { also });
      const lines = new Lines(query.text);
      const position = lines.positionAt(query.offset + cursor);
      const list = await this.compiler.request<CompletionList | null>(
        "textDocument/completion",
        { ...this.document(query), position },
        signal,
      );
      const offsetOf = (at: Position) => lines.offsetAt(at) - query.offset;
      const found = await toCompletions(
        list,
        code,
        cursor,
        offsetOf,
        names,
        (item) => this.compiler.request("completionItem/resolve", item, signal),
        (name) => (isMember(code, cursor) ? undefined : shown(this.kindOf(name))),
      );
      return found.items.length > 0 ? found : ((await this.importsFor(code, cursor, signal)) ?? found);
    };
    return unlessInTrouble(this.exclusively(work, signal), { items: [], start: cursor, end: cursor });
  }

  /**
   * What a name that nothing declares may be imported as. Front ends put in one text at one place, so that it is the cell as far
   * as the cursor, with the import before it.
   */
  private async importsFor(
    code: string,
    cursor: number,
    signal: AbortSignal | undefined,
  ): Promise<Completions | undefined> {
    const word = nameStart(code, cursor);
    const typed = code.slice(word, cursor);
    if (typed.length < shortestImportable || isMember(code, cursor) || isInText(code, cursor))
      return undefined;
    // In an import that has not come to its module yet, names are that module's.
    const last = code.slice(0, word).lastIndexOf("import");
    if (last >= 0 && /^import\b[^"'`;]*$/.test(code.slice(last, word))) return undefined;
    const start = code.length - code.trimStart().length;
    const before = code.slice(start, word);
    const items: Completions["items"][number][] = [];
    const since = performance.now();
    for (const module of importableModules(this.cwd, this.session.importedModules())) {
      // Once something was found, or it takes long, only what is known already is looked at.
      const enough = items.length > 0 || performance.now() - since > importableWithinMs;
      if (enough && !this.exports.has(module.name)) continue;
      for (const { label, kind } of await this.exportsOf(module, signal)) {
        if (!label.startsWith(typed)) continue;
        const text = `import { ${label} } from "${module.name}";\n${before}${label}`;
        items.push({ text, type: kindName(kind) });
      }
    }
    const isType = ({ type }: { type: string }) => Number(type === "interface" || type === "type");
    return {
      items: items.sort((a, b) => isType(a) - isType(b)).slice(0, mostImports),
      start,
      end: cursor,
    };
  }

  /** What a module exports; asked for once, until the module changes. */
  private async exportsOf(
    { name, stamp }: ImportableModule,
    signal: AbortSignal | undefined,
  ): Promise<readonly CompletionItem[]> {
    const known = this.exports.get(name);
    if (known?.stamp === stamp) return known.items;
    const code = `import {  } from ${JSON.stringify(name)};`;
    const query = this.show(code, 0, parseCell(code));
    const position = new Lines(query.text).positionAt(query.offset + "import { ".length);
    const list = await this.compiler.request<CompletionList | null>(
      "textDocument/completion",
      { ...this.document(query), position },
      signal,
    );
    const items = (list === null ? [] : "items" in list ? list.items : list).filter(
      ({ label, kind }) => isName(label) && kind !== keywordKind && label !== "type",
    );
    this.exports.set(name, { stamp, items });
    return items;
  }

  inspect(code: string, cursor: number, detail: 0 | 1, signal?: AbortSignal): Promise<Inspection | null> {
    const work = async () => {
      const query = this.show(code, 0, parseCell(code), { documented: true });
      const here = {
        ...this.document(query),
        position: new Lines(query.text).positionAt(query.offset + cursor),
      };
      const there = this.placeOf(query, code, cursor);
      // A cell belongs to the notebook's project only once the code that refers to it was read.
      if (there) await this.compiler.request("textDocument/hover", here, signal);
      const place = there ?? here;
      const hover = await this.compiler.request<Hover | null>("textDocument/hover", place, signal);
      const help = hover
        ? null
        : await this.compiler.request<SignatureHelp | null>("textDocument/signatureHelp", place, signal);
      if (!hover && !help) return null;
      if (detail === 0) return toInspection(hover, help);
      const definitions = await this.compiler.request<Definition[] | null>(
        "textDocument/definition",
        place,
        signal,
      );
      const source = sourceOf(definitions ?? [], (file) => this.textOf(file, query));
      return toInspection(hover, help, source);
    };
    return unlessInTrouble(this.exclusively(work, signal), null);
  }

  /** See `definition` in language.ts. */
  definition(
    cells: readonly string[],
    index: number,
    cursor: number,
    signal?: AbortSignal,
  ): Promise<Place | null> {
    const work = async () => {
      const code = cells[index]!;
      const query = this.show(code, 0, parseCell(code), { documented: true });
      const found = await this.compiler.request<Definition | readonly Definition[] | null>(
        "textDocument/definition",
        { ...this.document(query), position: new Lines(query.text).positionAt(query.offset + cursor) },
        signal,
      );
      for (const each of found === null ? [] : [found].flat()) {
        const place = this.placeOfDefinition(each, query, cells, index);
        if (place) return place;
      }
      const name = identifierAt(code, cursor);
      return name && !isMember(code, name.start) && !isInText(code, cursor)
        ? declarationAmong(cells, index, name.text)
        : null;
    };
    return unlessInTrouble(this.exclusively(work, signal), null);
  }

  private placeOfDefinition(
    definition: Definition,
    query: Query,
    cells: readonly string[],
    index: number,
  ): Place | null {
    const uri = definition.targetUri ?? definition.uri;
    const range = definition.targetSelectionRange ?? definition.range;
    if (!uri?.startsWith("file:") || !range) return null;
    const file = fileURLToPath(uri);
    if (file === query.file) {
      const lines = new Lines(query.text);
      const [start, end] = [lines.offsetAt(range.start), lines.offsetAt(range.end)];
      if (start >= query.offset) return { cell: index, start: start - query.offset, end: end - query.offset };
      // What precedes the cell declares what earlier ones do.
      const name = query.text.slice(start, end);
      const cell = this.session.declaredIn(name);
      const declaration = this.session.declarationOf(name);
      return cell && declaration ? inCells(cells, index, cell.code, declaration.start, name) : null;
    }
    for (const cell of this.open) {
      if (this.fileOf(cell) !== file) continue;
      const lines = new Lines(cell.text);
      const [start, end] = [lines.offsetAt(range.start), lines.offsetAt(range.end)];
      return inCells(cells, index, cell.code, start - cell.offset, cell.text.slice(start, end));
    }
    const onDisk = file.replace(/\.ipynb\.ts$/, ".ipynb");
    if (!existsSync(onDisk)) return null;
    const { line, character: column } = onDisk === file ? range.start : { line: 0, character: 0 };
    const relative = path.relative(this.cwd, onDisk).replaceAll(path.sep, "/");
    return { file: onDisk, path: relative, line, column };
  }

  imports(): readonly string[] {
    return this.session.importedNames();
  }

  isComplete(code: string): Completeness {
    return completenessOf(code);
  }

  reset(): void {
    this.session.reset();
  }

  async dispose(): Promise<void> {
    await this.compiler.dispose();
  }

  /** One request at a time: they share the document that holds the code in question. */
  private exclusively<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const start = () => (signal?.aborted ? Promise.reject(new Error("called off")) : work());
    // At once if nothing else is running, so that the compiler works while the caller continues.
    const result = this.waiting === 0 ? start() : this.queue.then(start);
    this.waiting += 1;
    const done = () => {
      this.waiting -= 1;
    };
    this.queue = result.then(done, done);
    return result;
  }

  /** What is wrong with code, and the document in which it was found. */
  private async errorsOf(source: Source, code: string, showing: Showing, signal?: AbortSignal) {
    const bringsIn =
      !this.separate &&
      (!this.surveyed || source.lang === "tsx" || /\b(?:import|require|reference)\b/.test(code));
    const view = async (wide: boolean) => {
      const query = this.show(source.code, source.shift, source, { ...showing, wide, bringsIn });
      return { query, found: await this.findErrors(query, code, signal) };
    };
    let { query, found } = await view(false);
    const wide = query.narrows && found.some(isError);
    if (wide) {
      // Between two cells, a variable may have got another value of its declared type. Only what is wrong either way is.
      const narrow = found;
      ({ query, found } = await view(true));
      found = wrongEitherWay(narrow, found, code);
    }
    return { query, found, wide };
  }

  private async findErrors(query: Query, code: string, signal?: AbortSignal): Promise<Diagnostic[]> {
    let found = await this.diagnose(query, signal);
    if (query.library !== undefined && (await this.needsSeparateLibrary(query, query.library, signal))) {
      this.separate = true;
      this.configure();
      found = await this.diagnose(query, signal);
    }
    if (found.some(({ code }) => unresolved.has(Number(code)))) {
      // It may exist by now; the compiler looks again when a file's imports change.
      this.compiler.write(query.file, `${query.text}\nimport {} from "node:process";`);
      found = await this.diagnose(query, signal);
    }
    return toDiagnostics(found, query.text, query.offset, code.length, (name) => this.kindOf(name), this.cwd);
  }

  /** Whether a package refers to the compiler's own library, which declares once more what the library in one file does. */
  private async needsSeparateLibrary(query: Query, at: number, signal?: AbortSignal): Promise<boolean> {
    const position = new Lines(query.text).positionAt(at);
    const found = await this.compiler.request<Definition | readonly Definition[] | null>(
      "textDocument/definition",
      { ...this.document(query), position },
      signal,
    );
    this.surveyed = true;
    return (found === null ? [] : [found].flat()).some(({ targetUri, uri }) =>
      /\/lib\.[^/]*\.d\.ts$/.test(targetUri ?? uri ?? ""),
    );
  }

  /**
   * Requests the types of a cell's variables, and those at its end of what it narrowed. Later references to them then need
   * not look into this cell, so that chains of cells stay short.
   */
  private async learn(source: Source, query: Query, probe: Probe, about: Learned): Promise<void> {
    const { types, references, ends } = about;
    for (const [name, type] of evidentTypes(source.program)) types.set(name, type);
    const { declarations, code } = source;
    const variables = declarations.filter(
      ({ kind, name }) =>
        ((kind === "let" || kind === "const") && !types.has(name)) ||
        // Without overloads, a namespace, or properties of its own.
        (kind === "function" &&
          declarations.filter((other) => other.name === name).length === 1 &&
          !code.includes(`${name}.`)),
    );
    const lines = new Lines(query.text);
    const hover = async (at: number) => {
      const params = { ...this.document(query), position: lines.positionAt(at) };
      const shown = await this.compiler.request<Hover | null>("textDocument/hover", params);
      return shown ? hoverText(shown) : "";
    };
    const learnOne = async ({ name, kind, start }: Declaration) => {
      const shown = await hover(query.offset - source.shift + start);
      const plain = kind === "function" ? plainFunctionOf(shown, name) : plainTypeOf(shown, name);
      if (plain) types.set(name, plain);
    };
    const after = query.offset - source.shift + source.code.length;
    const own = new Map(source.declarations.map((declaration) => [declaration.name, declaration]));
    const learnEnd = async ({ text, root }: Reference, i: number) => {
      const { name, at } = probe.ends[i]!;
      const end = await hover(after + at);
      const type = shownType(end, name)?.type;
      const known = own.has(root) ? about : this.session.declaredIn(root)?.learned;
      const before =
        known?.declared.get(text) ?? shownType(await hover(after + probe.declared[i]!.at), name)?.type;
      const assignable = (own.get(root) ?? this.session.declarationOf(root))?.kind === "let";
      if (assignable && before !== undefined) known?.declared.set(text, before);
      if (type === undefined || before === undefined || type === before) return;
      const variable = own.get(text) ?? this.session.declarationOf(text);
      const firm = variable?.kind === "const" && variable.annotated === false;
      if (!isUseful(type, firm)) return;
      const plain = plainTypeOf(end, name);
      const without = firm && this.session.isFirm(text) ? undefined : lost(before, type, text);
      ends.set(text, { ...(plain && { plain }), ...(without && { without }), name, firm });
    };
    // One after the other: the compiler would start from the beginning for each that it answers at the same time.
    for (const variable of variables.slice(0, learnedAtMost)) await learnOne(variable);
    for (const [i, reference] of references.entries()) await learnEnd(reference, i);
  }

  /** Shows code to the compiler, together with everything it refers to. */
  private show(
    code: string,
    shift: number,
    source: Source,
    { probe, bringsIn, ...view }: Showing = {},
  ): Query {
    this.refreshConfig();
    const own = namesOf(code, source);
    const {
      header: context,
      needs,
      narrows,
    } = this.session.contextOf(code, own, {
      ...view,
      also: [...(view.also ?? []), ...this.factories(source)],
    });
    const header = bringsIn ? `${context.slice(0, -1)};${libraryName};\n` : context;
    const closure = closureOf(needs);
    if (this.open.size > openAtMost) {
      for (const cell of this.open) {
        if (closure.has(cell)) continue;
        this.open.delete(cell);
        this.compiler.close(this.fileOf(cell));
      }
    }
    for (const cell of closure) {
      if (this.open.has(cell)) continue;
      this.open.add(cell);
      this.compiler.write(this.fileOf(cell), cell.text);
    }
    const query = {
      file: path.join(this.cwd, `${currentFile}.${source.lang}`),
      text: `${header}${code}${probe?.text ?? ""}`,
      offset: header.length + shift,
      narrows,
      ...(bringsIn && { library: header.length - `${libraryName};\n`.length }),
    };
    this.compiler.write(query.file, query.text);
    const changes = this.files.changes(query.text, this.config);
    for (const { file, change } of changes.filter((each) => isNotebook(each.file))) {
      // What `./a.ipynb` means to the compiler, since it looks for `./a.ipynb.ts`.
      if (change === "deleted") this.compiler.close(`${file}.ts`);
      else this.compiler.write(`${file}.ts`, codeOf(file));
    }
    this.compiler.touch(changes);
    return query;
  }

  /** Names that JSX refers to without naming them. */
  private factories({ lang }: Source): string[] {
    const { jsx, jsxFactory = "React", jsxFragmentFactory = "React" } = this.config.options;
    if (lang !== "tsx" || jsx !== "react") return [];
    return [jsxFactory, jsxFragmentFactory].map((factory) => factory.split(".")[0] ?? "");
  }

  private isOpen(name: string): boolean {
    const cell = this.session.declaredIn(name);
    return cell !== undefined && this.open.has(cell);
  }

  private fileOf(cell: AcceptedCell): string {
    return path.join(this.cwd, `${cell.name}.${cell.extension}`);
  }

  private document(query: Query) {
    return { textDocument: { uri: uriOf(query.file) } };
  }

  private refreshConfig(): void {
    if (configStamp(this.cwd, this.config.sources) === this.stamp) return;
    this.config = readUserConfig(this.cwd);
    this.stamp = configStamp(this.cwd, this.config.sources);
    this.surveyed = false;
    this.writeProject();
  }

  private writeProject(): void {
    this.notices = problemsOf(this.config).map((message) => ({
      severity: "notice",
      code: 0,
      message,
      start: 0,
      end: 0,
    }));
    for (const file of this.configure()) this.compiler.write(file, "export {};\n");
  }

  /** Tells the compiler the project's configuration, and returns the files for code in question. */
  private configure(): string[] {
    const files = ["ts", "tsx"].map((extension) => path.join(this.cwd, `${currentFile}.${extension}`));
    const config = projectConfig(this.config, this.cwd, files, this.nodeVersion, this.separate);
    // Replaces any tsconfig.json in the folder itself, since the compiler takes the nearest one.
    this.compiler.write(path.join(this.cwd, "tsconfig.json"), config);
    return files;
  }

  private async diagnose(query: Query, signal?: AbortSignal): Promise<LspDiagnostic[]> {
    const report = await this.compiler.request<{ items?: LspDiagnostic[] }>(
      "textDocument/diagnostic",
      this.document(query),
      signal,
    );
    return report.items ?? [];
  }

  /**
   * Where a variable of an earlier cell was declared, which is where its documentation is, or was narrowed; or a type, which
   * by itself is not an expression.
   */
  private placeOf(query: Query, code: string, cursor: number) {
    const name = identifierAt(code, cursor);
    if (!name || isMember(code, name.start)) return undefined;
    const last = this.session.lastReference(name.text);
    if (last && this.open.has(last.cell)) {
      const position = new Lines(last.cell.text).positionAt(last.offset);
      return { textDocument: { uri: uriOf(this.fileOf(last.cell)) }, position };
    }
    const cell = this.session.declaredIn(name.text);
    const declaration = this.session.declarationOf(name.text);
    if (!cell || !declaration || !this.open.has(cell)) return undefined;
    const header = query.text.slice(0, query.offset);
    const variable = declaration.kind === "let" && header.includes(`declare let ${name.text}:`);
    const type = declaration.kind === "type" && code.trim() === name.text;
    if (!variable && !type) return undefined;
    const position = new Lines(cell.text).positionAt(cell.offset + declaration.start);
    return { textDocument: { uri: uriOf(this.fileOf(cell)) }, position };
  }

  private kindOf(name: string): Declaration["kind"] | undefined {
    const kind = this.session.declarationOf(name)?.kind;
    return kind === "import" ? undefined : kind;
  }

  private textOf(file: string, query: Query): string | null {
    if (file === query.file) return query.text;
    for (const cell of this.open) if (this.fileOf(cell) === file) return cell.text;
    return null;
  }
}

function checkLimitMs(): number {
  const seconds = Number(process.env.FIRSTFRAME_CHECK_TIMEOUT);
  return seconds > 0 ? seconds * 1000 : checkAtMostMs;
}

/** Help that may be missing without notice: the next cell says what is wrong with the compiler. */
async function unlessInTrouble<T>(answer: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof CompilerError) return otherwise;
    throw error;
  }
}

/** Whether the comments at the top of a cell say `@ts-nocheck`. */
function isUnchecked(code: string): boolean {
  for (let at = 0; at < code.length; ) {
    if (/\s/.test(code[at]!)) {
      at += 1;
      continue;
    }
    const line = code.startsWith("//", at);
    if (!line && !code.startsWith("/*", at)) return false;
    const end = code.indexOf(line ? "\n" : "*/", at + 2);
    const comment = code.slice(at + 2, end < 0 ? code.length : end);
    if (/^\/?\s*@ts-nocheck\b/.test(comment)) return true;
    if (end < 0) return false;
    at = end + (line ? 1 : 2);
  }
  return false;
}

function isError({ severity }: Diagnostic): boolean {
  return severity === "error";
}

/** What is found at the same place whichever types variables have, in words that do not speak of impossible types. */
function wrongEitherWay(
  narrow: readonly Diagnostic[],
  wide: readonly Diagnostic[],
  code: string,
): Diagnostic[] {
  return narrow.flatMap((diagnostic) => {
    // Of `value.name`, one of them may reject the name, and the other one the value.
    const other = wide.find(
      ({ start, end }) =>
        start === diagnostic.start ||
        (end < diagnostic.start && /^[?!]?\.?[\s["']*$/.test(code.slice(end, diagnostic.start))),
    );
    if (!other || (isError(diagnostic) && !isError(other))) return [];
    return /\bnever\b/.test(diagnostic.message) ? [other] : [diagnostic];
  });
}

/** The names that code itself declares. */
function namesOf(code: string, source: Source): ReturnType<typeof ownNames> {
  const own = ownNames(source.declarations);
  if (source.errors.length > 0) {
    for (const { name } of declaredByLine(code)) {
      own.value.add(name);
      own.type.add(name);
    }
  }
  return own;
}

/** The word that completions use for a kind of declaration. */
function shown(kind: Declaration["kind"] | undefined): string | undefined {
  return kind === "let" || kind === "const" ? "variable" : kind;
}

/** Whether the text before the cursor is a property of something. */
function isMember(code: string, cursor: number): boolean {
  return code[blanksStart(code, nameStart(code, cursor)) - 1] === ".";
}

function identifierAt(code: string, cursor: number): { text: string; start: number } | null {
  const start = nameStart(code, cursor);
  const text = code.slice(start, nameEnd(code, cursor));
  return text === "" ? null : { text, start };
}
