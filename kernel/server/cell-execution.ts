/**
 * From the text of a cell to its result: magics, type check, transform, and the executor's part.
 */
import type { DebugAdapter } from "../debugger/adapter.js";
import type { EvaluateCommand, MappedSource } from "../ipc/frames.js";
import { ownScript, runtimeGlobal } from "../ipc/names.js";
import {
  type Cell,
  CellSyntaxError,
  type Diagnostic,
  type Language,
  type Script,
  syntaxErrors,
} from "../language/language.js";
import {
  type CheckMode,
  checkModes,
  exitWord,
  type Magic,
  MagicError,
  magicsHelp,
  type ParsedCell,
  readCell,
} from "../language/magics.js";
import type { ErrorContent } from "../protocol/messages.js";
import type { ExpressionResult, Payload } from "../protocol/replies.js";
import type { ExecuteRequest } from "../protocol/requests.js";
import { describeDiagnostics, diagnosticsContent } from "./diagnostics.js";
import type { Evaluated, Executor } from "./executor.js";

/** A cell that runs longer may well be interrupted: its source map is made, and sent, while nobody waits. */
const mapAfterMs = 50;

/** What became of a cell, and what the front end is to do. */
export interface CellResult extends Evaluated {
  readonly payload: readonly Payload[];
}

const nothing: CellResult = { userExpressions: {}, payload: [] };

export class CellExecution {
  /** The cells that scripts were made from, by the scripts' names in stack traces. */
  private readonly scripts = new Map<string, Cell>();
  private interrupted = false;
  private onInterrupt: () => void = () => undefined;
  /** Resolves once the cell that is prepared is interrupted. */
  private interruption: Promise<"interrupted"> = new Promise(() => undefined);
  /** The compiler is in trouble, and the user has been told. */
  private unchecked = false;
  /** The cell that is in the executor. */
  private current: number | undefined;
  private check = checkModeOf(process.env.FIRSTFRAME_CHECK);

  /** What becomes of a cell's type errors. */
  get checkMode(): CheckMode {
    return this.check;
  }

  /** Sets breakpoints, once there is a debugger. */
  debugger: Pick<DebugAdapter, "cellWillRun"> | undefined;

  constructor(
    private readonly language: Language,
    private readonly executor: Executor,
    private readonly print: (stream: "stdout" | "stderr", text: string, id: number) => void,
    /** Resolves when the executor is free for a cell. */
    private readonly whenFree: () => Promise<void>,
  ) {}

  /** Interrupts what happens here; the executor is told separately. */
  interrupt(): void {
    this.interrupted = true;
    this.onInterrupt();
    this.language.interrupt();
  }

  /** The executor was replaced. */
  forget(): void {
    this.scripts.clear();
  }

  /** The source map of a script, and the name of its cell. */
  async mapOf(url: string): Promise<MappedSource | null> {
    const cell = this.scripts.get(url);
    if (cell === undefined) return null;
    try {
      return { map: await this.language.map(cell, url), name: `cell [${cell.count}]` };
    } catch {
      return null; // a stack trace shows positions in the script then
    }
  }

  /** What is wrong with the cell is its result, not a rejection. */
  async execute(id: number, count: number, request: ExecuteRequest): Promise<CellResult> {
    this.interrupted = false;
    this.interruption = new Promise((resolve) => {
      this.onInterrupt = () => resolve("interrupted");
    });
    let parsed: ParsedCell;
    try {
      parsed = await readCell(request.code, (name) => this.isUnknown(name));
    } catch (error) {
      if (error instanceof MagicError) return { error: errorContent(error.name, error.message), ...nothing };
      throw error;
    }
    for (const magic of parsed.first) {
      const result = await this.perform(magic, id, request);
      if (result?.error !== undefined) return result;
    }
    if (parsed.inspect !== undefined) return this.page(parsed.inspect, id);
    const exit = exitWord(parsed.code);
    if (exit !== undefined && (await this.isUnknown(exit)))
      return { userExpressions: {}, payload: [{ source: "ask_exit", keepkernel: false }] };
    return this.executeCode(parsed, id, count, request);
  }

  /** Whether no cell has declared a name. */
  private async isUnknown(name: string): Promise<boolean> {
    return (await this.unlessInterrupted(this.language.inspect(name, name.length, 0))) === null;
  }

  private async executeCode(
    parsed: ParsedCell,
    id: number,
    count: number,
    request: ExecuteRequest,
  ): Promise<CellResult> {
    const cell: Cell = { id: String(id), count, code: parsed.code };
    let script: Script | undefined;
    if (parsed.code.trim() !== "") {
      const prepared = await this.prepare(cell, parsed, id, request.code);
      if ("error" in prepared) return { error: prepared.error, ...nothing };
      script = prepared.script;
    }
    const accepted = script !== undefined && parsed.timeit === undefined;
    // Expressions see what the cell declares; else the cell need not wait for this.
    const first = accepted && Object.keys(request.userExpressions).length > 0;
    if (first) this.language.accept(cell);
    await this.whenFree();
    if (this.interrupted) return interrupted;
    const expressions = await this.unlessInterrupted(
      this.transformExpressions(request.userExpressions, cell),
    );
    if (expressions === "interrupted") return interrupted;
    if (script !== undefined && this.debugger !== undefined) {
      const map = await this.unlessInterrupted(this.language.map(cell, script.url));
      if (map === "interrupted") return interrupted;
      await this.debugger.cellWillRun(request.code, { ...script, map }, count);
    }
    const timer = setTimeout(() => void this.sendMap(id, script?.url), mapAfterMs);
    this.current = id;
    const evaluated = this.executor.evaluate({
      ...this.command(id, count, request),
      ...(script && { script }),
      ...(parsed.time && { timed: true }),
      ...(parsed.timeit && { repeat: parsed.timeit }),
      userExpressions: expressions.scripts,
    });
    if (accepted && !first) this.language.accept(cell);
    const result = await evaluated;
    this.current = undefined;
    clearTimeout(timer);
    if (result.error !== undefined) return { ...nothing, error: result.error };
    return { ...nothing, userExpressions: { ...result.userExpressions, ...expressions.failed } };
  }

  private async sendMap(id: number, url: string | undefined): Promise<void> {
    const map = url === undefined ? null : await this.mapOf(url);
    if (map !== null && this.current === id) this.executor.knowMap(url!, map);
  }

  /** Checks types while the cell is turned into JavaScript. Nothing runs if either finds an error. */
  private async prepare(
    cell: Cell,
    { timeit }: ParsedCell,
    id: number,
    code: string,
  ): Promise<{ script: Script } | { error: ErrorContent }> {
    // As its author sees it, magics included; both texts have the same length.
    const written = { ...cell, code };
    const over = new AbortController();
    const checked: Promise<readonly Diagnostic[]> =
      this.check === "off" ? Promise.resolve([]) : this.language.check(cell, over.signal);
    checked.catch(() => undefined);
    try {
      const script = await this.unlessInterrupted(
        timeit === undefined ? this.transform(cell) : this.transformRepeated(cell),
      );
      if (script === "interrupted") return interrupted;
      const found = await this.unlessInterrupted(this.found(checked, id));
      if (found === "interrupted") return interrupted;
      for (const { message } of found.filter(({ severity }) => severity === "notice"))
        this.print("stderr", `${message}\n`, id);
      const errors = found.filter(({ severity }) => severity === "error");
      if (errors.length === 0) return { script };
      if (this.check === "before") return { error: diagnosticsContent("TypeScriptError", written, errors) };
      this.print("stderr", `${describeDiagnostics(written, errors).join("\n")}\n`, id);
      return { script };
    } catch (error) {
      if (!(error instanceof CellSyntaxError)) throw error;
      const found = await this.unlessInterrupted(checked.catch(() => []));
      const known = found === "interrupted" ? [] : found;
      return {
        error: diagnosticsContent("SyntaxError", written, syntaxErrors(known, error.diagnostics)),
      };
    } finally {
      over.abort();
    }
  }

  /** What the compiler found. A cell runs even if the compiler is in trouble; the user is told once, until that is over. */
  private async found(checked: Promise<readonly Diagnostic[]>, id: number): Promise<readonly Diagnostic[]> {
    try {
      const found = await checked;
      if (this.check !== "off") this.unchecked = false;
      return found;
    } catch (error) {
      if (!this.unchecked)
        this.print(
          "stderr",
          `types were not checked: ${error instanceof Error ? error.message : String(error)}\n`,
          id,
        );
      this.unchecked = true;
      return [];
    }
  }

  private unlessInterrupted<T>(work: Promise<T>): Promise<T | "interrupted"> {
    if (this.interrupted) return Promise.resolve("interrupted");
    return Promise.race([work, this.interruption]);
  }

  /** The JavaScript of a cell; its name leads from stack traces back to the cell. */
  async transform(cell: Cell): Promise<Script> {
    const script = await this.language.transform(cell);
    this.scripts.set(script.url, cell);
    return script;
  }

  /** The cell as a function that can be called repeatedly, async only if it has to be. */
  private async transformRepeated(cell: Cell): Promise<Script> {
    try {
      return await this.transform({ ...cell, code: `(() => {${cell.code}\n})` });
    } catch (error) {
      if (!(error instanceof CellSyntaxError)) throw error;
      return await this.transform({ ...cell, code: `(async () => {${cell.code}\n})` });
    }
  }

  private async transformExpressions(expressions: Readonly<Record<string, string>>, { id, count }: Cell) {
    const scripts: Record<string, Script> = {};
    const failed: Record<string, ExpressionResult> = {};
    for (const [i, [name, code]] of Object.entries(expressions).entries()) {
      try {
        scripts[name] = await this.transform({ id: `${id}-${i}`, count, code });
      } catch (error) {
        const { name: ename, message } = error instanceof Error ? error : new Error(String(error));
        failed[name] = { status: "error", ...errorContent(ename, message) };
      }
    }
    return { scripts, failed };
  }

  private async perform(magic: Magic, id: number, request: ExecuteRequest): Promise<CellResult | undefined> {
    switch (magic.kind) {
      case "check":
        this.check = magic.mode;
        return undefined;
      case "help":
        this.print("stdout", `${magicsHelp}\n`, id);
        return undefined;
      case "install":
        return this.executeScript(call("install", magic.packages), id, request);
      case "bash":
        return this.executeScript(call("bash", magic.script), id, request);
      default: // each has a function of its name
        return this.executeScript(call(magic.kind, magic), id, request);
    }
  }

  /** What `name?` shows, in the front end's pager. */
  private async page({ code, detail }: { code: string; detail: 0 | 1 }, id: number): Promise<CellResult> {
    const found = await this.unlessInterrupted(this.language.inspect(code, code.length, detail));
    if (found === "interrupted") return interrupted;
    if (found === null) {
      this.print("stdout", `${code}: nothing is known of it\n`, id);
      return nothing;
    }
    const data = { "text/plain": found.plain, "text/markdown": found.markdown };
    return { userExpressions: {}, payload: [{ source: "page", data, start: 0 }] };
  }

  /** Executes what is JavaScript already. */
  private async executeScript(code: string, id: number, request: ExecuteRequest): Promise<CellResult> {
    await this.whenFree();
    if (this.interrupted) return interrupted;
    const script = { code, url: "" };
    const result = await this.executor.evaluate({
      ...this.command(id, 0, request),
      script,
      userExpressions: {},
    });
    return { ...nothing, ...result };
  }

  private command(
    id: number,
    count: number,
    { silent, allowStdin }: ExecuteRequest,
  ): Omit<EvaluateCommand, "userExpressions"> {
    return { op: "evaluate", id, count, silent, allowStdin };
  }
}

const interrupted: CellResult & { readonly error: ErrorContent } = {
  ...nothing,
  error: errorContent("KeyboardInterrupt", "interrupted"),
};

function call(name: string, argument: unknown): string {
  return `await ${runtimeGlobal}.await(${runtimeGlobal}.${name}(${JSON.stringify(argument)})); void 0\n//# sourceURL=${ownScript}`;
}

function checkModeOf(text: string | undefined): CheckMode {
  return checkModes.find((mode) => mode === text) ?? "before";
}

function errorContent(ename: string, evalue: string): ErrorContent {
  return { ename, evalue, traceback: [`\x1b[31m${ename}\x1b[39m: ${evalue}`] };
}
