/**
 * From the text of a cell to its result: conveniences, type check, transform, and the executor's part.
 */
import type { DebugAdapter } from "../debugger/adapter.js";
import type { ErrorContent, MappedSource, RunCommand, Script } from "../executor/frames.js";
import { ownScript, runtimeGlobal } from "../executor/names.js";
import {
  type Cell,
  CellSyntaxError,
  type Diagnostic,
  type Language,
  type TransformedCell,
} from "../language/language.js";
import type { ExecuteRequest } from "../protocol/messages.js";
import {
  type CheckMode,
  type Convenience,
  ConvenienceError,
  checkModes,
  conveniencesHelp,
  type ParsedCell,
  parseConveniences,
} from "./conveniences.js";
import { describeDiagnostics, diagnosticsContent } from "./diagnostics.js";
import type { CellResult, Runner } from "./runner.js";

/** A cell that runs longer (ms) may well be interrupted: its source map is made, and sent, while nobody waits. */
const mapAfter = 50;
/** Of how many cells the JavaScript and its source map are kept. */
const keptTransformed = 50;
/** Ends by itself, too. */
const rehearsed = [
  "for (const start = Date.now(); Date.now() < start + 100; );",
  "await new Promise((resolve) => setTimeout(resolve, 100));",
];
const nothing = { userExpressions: {}, payload: [] };

export class CellExecution {
  /** What scripts are called in stack traces, and their source maps. */
  private readonly scripts = new Map<
    string,
    { readonly cell: Cell; readonly transformed: TransformedCell }
  >();
  private readonly recent: string[] = [];
  private interrupted = false;
  private onInterrupt: () => void = () => undefined;
  private rehearsal = Promise.resolve();
  private check = checkModeOf(process.env.FIRSTFRAME_CHECK);

  /** Sets breakpoints, once there is a debugger. */
  debugger: Pick<DebugAdapter, "cellWillRun"> | undefined;

  constructor(
    private readonly language: Promise<Language>,
    private readonly runner: Runner,
    private readonly print: (stream: "stdout" | "stderr", text: string, id: number) => void,
  ) {}

  /** Interrupts what happens here; the executor hears of it by itself. */
  interrupt(): void {
    this.interrupted = true;
    this.onInterrupt();
  }

  /** Goes the way of an interrupt, in a loop and in an await. Cells wait until this is over, a few milliseconds. */
  rehearse(language: Language): void {
    const scripts = rehearsed.map((code, i) =>
      this.transform(language, { id: `rehearsal-${i}`, count: 0, code }),
    );
    this.rehearsal = (async () => {
      for (const script of scripts) await this.runner.rehearse(script);
    })();
  }

  /** The executor was replaced. */
  forget(): void {
    this.scripts.clear();
    this.recent.length = 0;
  }

  mapOf(url: string): MappedSource | null {
    const script = this.scripts.get(url);
    return script === undefined ? null : { map: script.transformed.map, name: `cell [${script.cell.count}]` };
  }

  /** Never rejects for what is wrong with the cell: that is its result. */
  async run(id: number, count: number, request: ExecuteRequest): Promise<CellResult> {
    this.interrupted = false;
    let parsed: ParsedCell;
    try {
      parsed = parseConveniences(request.code);
    } catch (error) {
      if (error instanceof ConvenienceError)
        return { error: errorContent(error.name, error.message), ...nothing };
      throw error;
    }
    for (const convenience of parsed.first) {
      const result = await this.convenience(convenience, id, request);
      if (result?.error !== undefined) return result;
    }
    if (parsed.inspect !== undefined) return this.page(parsed.inspect, id);
    if (parsed.bash !== undefined) return this.runScript(call("bash", parsed.bash), id, request);
    return this.runCell(parsed, id, count, request);
  }

  private async runCell(
    parsed: ParsedCell,
    id: number,
    count: number,
    request: ExecuteRequest,
  ): Promise<CellResult> {
    const language = await this.language;
    const cell: Cell = { id: String(id), count, code: parsed.code };
    let script: Script | undefined;
    if (parsed.code.trim() !== "") {
      const prepared = await this.prepare(language, cell, parsed, id, request.code);
      if ("error" in prepared) return { error: prepared.error, ...nothing };
      script = prepared.script;
      if (parsed.timeit === undefined) language.accept(cell);
    }
    await this.rehearsal;
    if (this.interrupted) return interruption;
    const expressions = this.transformExpressions(language, request.userExpressions, cell);
    if (script !== undefined && this.debugger !== undefined) {
      const { transformed } = this.scripts.get(script.url)!;
      await this.debugger.cellWillRun(request.code, transformed, count);
    }
    const timer = setTimeout(() => this.sendMap(script?.url), mapAfter);
    const result = await this.runner.run({
      ...this.command(id, count, request),
      ...(script && { script }),
      ...(parsed.time && { timed: true }),
      ...(parsed.timeit && { repeat: parsed.timeit }),
      userExpressions: expressions.scripts,
    });
    clearTimeout(timer);
    if (result.error !== undefined) return { ...result, userExpressions: {} };
    return { ...result, userExpressions: { ...result.userExpressions, ...expressions.failed } };
  }

  private sendMap(url: string | undefined): void {
    const map = url === undefined ? null : this.mapOf(url);
    if (map !== null) this.runner.knowMap(url!, map);
  }

  /** Checks types while the cell is turned into JavaScript. Nothing runs if either finds an error. */
  private async prepare(
    language: Language,
    cell: Cell,
    { timeit }: ParsedCell,
    id: number,
    code: string,
  ): Promise<{ script: Script } | { error: ErrorContent }> {
    // As its author sees it, conveniences and all; they have the same length.
    const written = { ...cell, code };
    const checked: Promise<readonly Diagnostic[]> =
      this.check === "off" ? Promise.resolve([]) : language.check(cell);
    checked.catch(() => undefined);
    let script: Script;
    try {
      script = timeit === undefined ? this.transform(language, cell) : this.transformRepeated(language, cell);
    } catch (error) {
      if (!(error instanceof CellSyntaxError)) throw error;
      const found = await Promise.race([checked.catch(() => []), this.interruption().then(() => [])]);
      const known = found.filter(isGrammar);
      return {
        error: diagnosticsContent("SyntaxError", written, known.length > 0 ? known : error.diagnostics),
      };
    }
    let found: readonly Diagnostic[] | "interrupted";
    try {
      found = await Promise.race([checked, this.interruption()]);
    } catch (error) {
      // A cell runs even where the compiler is in trouble; but it is said.
      this.print(
        "stderr",
        `types were not checked: ${error instanceof Error ? error.message : String(error)}\n`,
        id,
      );
      return { script };
    }
    if (found === "interrupted") return interruption;
    const errors = found.filter(({ severity }) => severity === "error");
    if (errors.length === 0) return { script };
    if (this.check === "before") return { error: diagnosticsContent("TypeScriptError", written, errors) };
    this.print("stderr", `${describeDiagnostics(written, errors).join("\n")}\n`, id);
    return { script };
  }

  private interruption(): Promise<"interrupted"> {
    return new Promise((resolve) => {
      if (this.interrupted) resolve("interrupted");
      else this.onInterrupt = () => resolve("interrupted");
    });
  }

  private transform(language: Language, cell: Cell): Script {
    const transformed = language.transform(cell);
    this.scripts.set(transformed.url, { cell, transformed });
    this.recent.push(transformed.url);
    if (this.recent.length > keptTransformed) this.slim(this.recent.shift()!, language);
    return { code: transformed.code, url: transformed.url };
  }

  /** Of older cells only the text is kept: what it was transformed to takes ten times as much memory. */
  private slim(url: string, language: Language): void {
    const cell = this.scripts.get(url)?.cell;
    if (cell === undefined) return;
    this.scripts.set(url, {
      cell,
      get transformed() {
        return language.transform(cell);
      },
    });
  }

  /** The cell as a function to be called again and again; an async one only if it has to be. */
  private transformRepeated(language: Language, cell: Cell): Script {
    try {
      return this.transform(language, { ...cell, code: `(() => {${cell.code}\n})` });
    } catch (error) {
      if (!(error instanceof CellSyntaxError)) throw error;
      return this.transform(language, { ...cell, code: `(async () => {${cell.code}\n})` });
    }
  }

  private transformExpressions(
    language: Language,
    expressions: Readonly<Record<string, string>>,
    { id, count }: Cell,
  ) {
    const scripts: Record<string, Script> = {};
    const failed: Record<string, object> = {};
    Object.entries(expressions).forEach(([name, code], i) => {
      try {
        scripts[name] = this.transform(language, { id: `${id}-${i}`, count, code });
      } catch (error) {
        const { name: ename, message } = error instanceof Error ? error : new Error(String(error));
        failed[name] = { status: "error", ...errorContent(ename, message) };
      }
    });
    return { scripts, failed };
  }

  private async convenience(
    convenience: Convenience,
    id: number,
    request: ExecuteRequest,
  ): Promise<CellResult | undefined> {
    switch (convenience.kind) {
      case "check":
        this.check = convenience.mode;
        return undefined;
      case "help":
        this.print("stdout", `${conveniencesHelp}\n`, id);
        return undefined;
      default:
        return this.runScript(call("install", convenience.packages), id, request);
    }
  }

  /** What `name?` shows, in the front end's pager. */
  private async page({ code, detail }: { code: string; detail: 0 | 1 }, id: number): Promise<CellResult> {
    const found = await (await this.language).inspect(code, code.length, detail);
    if (found === null) {
      this.print("stdout", `${code}: nothing is known of it\n`, id);
      return nothing;
    }
    const data = { "text/plain": found.plain, "text/markdown": found.markdown };
    return { userExpressions: {}, payload: [{ source: "page", data, start: 0 }] };
  }

  /** Runs what is JavaScript already. */
  private async runScript(code: string, id: number, request: ExecuteRequest): Promise<CellResult> {
    await this.rehearsal;
    if (this.interrupted) return interruption;
    return this.runner.run({
      ...this.command(id, 0, request),
      script: { code, url: "" },
      userExpressions: {},
    });
  }

  private command(
    id: number,
    count: number,
    { silent, allowStdin }: ExecuteRequest,
  ): Omit<RunCommand, "userExpressions"> {
    return { op: "run", id, count, silent, allowStdin };
  }
}

const interruption = { error: errorContent("KeyboardInterrupt", "interrupted"), ...nothing };

function call(name: string, argument: unknown): string {
  return `await ${runtimeGlobal}.await(${runtimeGlobal}.${name}(${JSON.stringify(argument)})); void 0\n//# sourceURL=${ownScript}`;
}

/** The compiler's numbers from 1000 on are of its grammar; it says more than the parser that found the error. */
function isGrammar({ code, severity }: Diagnostic): boolean {
  return severity === "error" && Number(code) >= 1000 && Number(code) < 2000;
}

function checkModeOf(text: string | undefined): CheckMode {
  return checkModes.find((mode) => mode === text) ?? "before";
}

function errorContent(ename: string, evalue: string): ErrorContent {
  return { ename, evalue, traceback: [`\x1b[31m${ename}\x1b[39m: ${evalue}`] };
}
