/**
 * What front ends ask while somebody is typing: what is wrong with a cell, what a name is, and where it is declared. They ask
 * over a comm that the server itself answers, so also while a cell is executed. Positions are in UTF-16 code units.
 */
import { isInText } from "../language/in-text.js";
import type { Diagnostic, Language, Place } from "../language/language.js";
import {
  type CheckMode,
  exitWord,
  isQuestion,
  MagicError,
  parseMagics,
  readCell,
  withoutMagics,
} from "../language/magics.js";
import { nameEnd, nameStart } from "../language/words.js";
import type { Header } from "../protocol/messages.js";
import { type CommMessage, type LanguageRequest, ProtocolError, parse } from "../protocol/requests.js";
import type { Request } from "./replier.js";

/** The comms' target. */
export const languageTarget = "firstframe.language";

/** How many cells may wait to be checked; those that have waited longest make room. */
const waitingAtMost = 500;

/** What an answer says beside the request's number. */
type Answer =
  | { readonly status: "ok"; readonly checked: boolean; readonly diagnostics: readonly Diagnostic[] }
  | {
      readonly status: "ok";
      readonly found: boolean;
      readonly data: Readonly<Record<string, string>>;
      readonly start: number;
      readonly end: number;
    }
  | { readonly status: "ok"; readonly place: Place | null }
  /** The same cell was asked about again, with a newer text. */
  | { readonly status: "replaced" }
  | { readonly status: "error"; readonly ename: string; readonly evalue: string };

interface Check {
  readonly comm: string;
  readonly key: string;
  readonly request: LanguageRequest;
  readonly over: AbortController;
  answer(answer: Answer): void;
}

export class Typing {
  private readonly comms = new Set<string>();
  /** By cell, in the order in which they were asked for. */
  private readonly waiting = new Map<string, Check>();
  private checking: Check | undefined;

  constructor(
    private readonly language: Language,
    private readonly checkMode: () => CheckMode,
    private readonly send: (header: Header, commId: string, data: object) => void,
  ) {}

  /** Whether a message is for this, rather than for the executor. */
  takes(type: string, { commId, targetName }: CommMessage): boolean {
    return type === "comm_open" ? targetName === languageTarget : this.comms.has(commId);
  }

  receive(type: string, { commId, data }: CommMessage, { message: { header } }: Request): void {
    if (type === "comm_open") {
      this.comms.add(commId);
    } else if (type === "comm_close") {
      this.comms.delete(commId);
      for (const check of [...this.waiting.values(), this.checking])
        if (check?.comm === commId) this.replace(check);
    } else {
      this.ask(commId, data, header);
    }
  }

  private ask(comm: string, data: unknown, header: Header): void {
    const id = (data as { id?: unknown } | null)?.id ?? null;
    let answered = false;
    const answer = (content: Answer) => {
      if (!answered && this.comms.has(comm)) this.send(header, comm, { id, ...content });
      answered = true;
    };
    let request: LanguageRequest;
    try {
      request = parse.language(data);
    } catch (error) {
      answer(failure(error));
      return;
    }
    if (request.method === "diagnostics") {
      const key = JSON.stringify([comm, request.cellId]);
      this.add({ comm, key, request, answer, over: new AbortController() });
    } else {
      const found = request.method === "hover" ? this.hover(request) : this.definition(request);
      found.then(answer, (error: unknown) => answer(failure(error)));
    }
  }

  private add(check: Check): void {
    const { key } = check;
    for (const before of [this.waiting.get(key), this.checking])
      if (before?.key === key) this.replace(before);
    this.waiting.set(key, check);
    if (this.waiting.size > waitingAtMost) this.replace(this.waiting.values().next().value!);
    void this.work();
  }

  /** Nobody needs this check any more. */
  private replace(check: Check): void {
    if (this.waiting.get(check.key) === check) this.waiting.delete(check.key);
    check.over.abort();
    check.answer({ status: "replaced" });
  }

  /** Makes one check after the other. */
  private async work(): Promise<void> {
    if (this.checking) return;
    for (;;) {
      const [next] = this.waiting.values();
      this.checking = next;
      if (next === undefined) return;
      this.waiting.delete(next.key);
      const replaced: Answer = { status: "replaced" };
      next.answer(
        await this.diagnose(next).catch((error: unknown) =>
          next.over.signal.aborted ? replaced : failure(error),
        ),
      );
    }
  }

  private async diagnose({ request: { cells, cell }, over }: Check): Promise<Answer> {
    const off: Answer = { status: "ok", checked: false, diagnostics: [] };
    if (this.checkMode() === "off" && !cells[cell]!.includes("%check")) return off;
    const none: Answer = { status: "ok", checked: true, diagnostics: [] };
    const code = cells[cell]!;
    try {
      const parsed = await readCell(code, (name) => this.isUnknown(name));
      let mode = this.checkMode();
      for (const magic of parsed.first) if (magic.kind === "check") mode = magic.mode;
      if (mode === "off") return off;
      if (parsed.code.trim() === "" || exitWord(parsed.code) !== undefined) return none;
      const above = cells.slice(0, cell).map(withoutMagics);
      while (!over.signal.aborted) {
        const found = await this.language.lint(parsed.code, above, over.signal);
        if (found === null) continue; // a cell that is to run goes first
        const shown = mode === "warn" ? found.map(asWarning) : found;
        return { ...none, diagnostics: shown };
      }
      return none;
    } catch (error) {
      if (!(error instanceof MagicError)) throw error;
      const { start, end } = wrongMagic(code);
      return { ...none, diagnostics: [{ severity: "error", code: 0, message: error.message, start, end }] };
    }
  }

  /** Whether no cell has declared a name. */
  private async isUnknown(name: string): Promise<boolean> {
    return (await this.language.inspect(name, name.length, 0)) === null;
  }

  private async hover({ cells, cell, cursor }: LanguageRequest): Promise<Answer> {
    const code = cells[cell]!;
    const at = Math.min(cursor, code.length);
    const [start, end] = [nameStart(code, at), nameEnd(code, at)];
    const isName = start !== end && !isQuestion(code) && !isInText(code, at);
    const found = isName ? await this.language.inspect(withoutMagics(code), at, 0) : null;
    const data: Record<string, string> =
      found === null ? {} : { "text/plain": found.plain, "text/markdown": found.markdown };
    return { status: "ok", found: found !== null, data, start, end };
  }

  private async definition({ cells, cell, cursor }: LanguageRequest): Promise<Answer> {
    const texts = cells.map(withoutMagics);
    const at = Math.min(cursor, texts[cell]!.length);
    return { status: "ok", place: await this.language.definition(texts, cell, at) };
  }
}

function asWarning(diagnostic: Diagnostic): Diagnostic {
  return diagnostic.severity === "error" ? { ...diagnostic, severity: "warning" } : diagnostic;
}

/** The first line with which a cell's magics can't be read. */
function wrongMagic(code: string): { start: number; end: number } {
  for (let start = 0, end = 0; ; start = end + 1) {
    end = code.indexOf("\n", start);
    if (end < 0) return { start, end: code.length };
    try {
      parseMagics(code.slice(0, end));
    } catch {
      return { start, end };
    }
  }
}

function failure(error: unknown): Answer {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  if (!(error instanceof ProtocolError) && name !== "CompilerError" && name !== "SyntaxError")
    console.error(`firstframe: ${stack}`);
  return { status: "error", ename: name, evalue: message };
}
