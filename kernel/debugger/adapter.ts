/**
 * The Debug Adapter Protocol, as Jupyter's front ends speak it, over V8's inspector. It runs in the server, so that it
 * answers while the process that runs cells is paused.
 */
import { readFileSync } from "node:fs";
import { TraceMap } from "@jridgewell/trace-mapping";
import { transformSync } from "oxc-transform";
import { writtenName } from "../ipc/names.js";
import { isShallow } from "../language/depth.js";
import type { TransformedCell } from "../language/language.js";
import { hasLongLines } from "../language/long-lines.js";
import type { PublishedContents } from "../protocol/published.js";
import type { DebugReply } from "../protocol/replies.js";
import type { DebugRequest } from "../protocol/requests.js";
import { Catches } from "./catches.js";
import { hashSeed } from "./hash.js";
import type {
  CallFrame,
  Evaluated,
  Inspector,
  Paused,
  Property,
  RemoteObject,
  ScriptParsed,
} from "./inspector.js";
import {
  blackboxed,
  breakable,
  type Script,
  type SourcePlace,
  Sources,
  sourcePrefix,
  sourceSuffix,
} from "./sources.js";
import { describe, shownAs, toVariables, type Variable } from "./variables.js";

export interface DebugAdapterOptions {
  readonly inspector: Inspector;
  /** Sends a Debug Adapter Protocol event to front ends. */
  readonly emit: (event: PublishedContents["debug_event"]) => void;
  /** The source map of code, as it would be if it ran; null if it can't. */
  readonly mapOf: (code: string) => Promise<string | null>;
  /** The names that cells have imported. */
  readonly imports: () => Promise<readonly string[]>;
  /** An expression of the executor that gives the MIME bundle of a value. */
  readonly bundle: (expression: string) => string;
}

interface Breakpoint {
  readonly line: number;
  readonly condition?: string;
}

/** Cells run on one thread. */
const threadId = 1;
const objectGroup = "firstframe-debugger";
/** How many times a step goes on because it is still on the same line. */
const stepsPerLine = 100;
/** How long a process that is busy, not paused, is asked for its variables. */
const patienceMs = 2000;
const mostVariables = 1000;

const exceptionFilters = [
  { filter: "all", label: "All exceptions", default: false },
  { filter: "uncaught", label: "Uncaught exceptions", default: false },
];

/** Names of scopes, as people look for variables. */
const scopeOrder = ["Local", "Block", "Catch", "Closure", "Session", "Eval", "Module"];
/** How many names stand for a notebook's imports while these are folded. */
const shownImports = 8;

/** What a front end may open: a value's properties, or names of the session. */
type Expandable =
  | { readonly objectId: string; readonly name: string; readonly session: boolean }
  | { readonly names: readonly string[] };

type Body = object | undefined;

export class DebugAdapter {
  private readonly sources = new Sources();
  private readonly catches = new Catches(async (scriptId) => {
    const { scriptSource } = await this.post<{ scriptSource: string }>("Debugger.getScriptSource", {
      scriptId,
    });
    return scriptSource;
  });
  private readonly breakpoints = new Map<string, readonly Breakpoint[]>();
  /** V8's names of the breakpoints that a source has, by where they are. */
  private readonly installed = new Map<string, Map<string, Promise<string>>>();
  private readonly references = new Map<number, Expandable>();
  private lastReference = 0;
  private started = false;
  private attached = false;
  private paused:
    | { readonly frames: { readonly frame: CallFrame; readonly place: SourcePlace }[] }
    | undefined;
  private step: { readonly command: string; readonly from: string; left: number } | undefined;
  private exceptions: "none" | "uncaught" | "all" = "none";
  private seq = 0;

  constructor(private readonly options: DebugAdapterOptions) {
    options.inspector.onEvent((method, params) => this.onEvent(method, params));
  }

  /** Answers a request; never rejects. */
  async handle(request: DebugRequest): Promise<DebugReply> {
    this.seq += 1;
    const { seq: request_seq, command } = request;
    const response = { type: "response", seq: this.seq, request_seq, command } as const;
    try {
      const body = await this.perform(command, request.arguments);
      if (command === "initialize") setImmediate(() => this.emit("initialized"));
      return { ...response, success: true, ...(body ? { body } : {}) };
    } catch (error) {
      return { ...response, success: false, message: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Sets a cell's breakpoints before it runs as a script. */
  async cellWillRun(code: string, script: TransformedCell, count: number): Promise<void> {
    if (!this.started) return;
    try {
      await this.attach();
      await this.install(this.sources.addCell(code, script, count));
    } catch (error) {
      // The cell runs without its breakpoints.
      console.error(`firstframe: debugger: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Lets a paused cell go on, e.g. to its interrupt. */
  resume(): void {
    if (this.paused) void this.options.inspector.post("Debugger.resume").catch(() => undefined);
  }

  /** The process that ran cells is gone; a new one takes its place. */
  replaced(): void {
    const { paused } = this;
    this.attached = false;
    this.forget();
    this.installed.clear();
    this.sources.forgetScripts();
    this.catches.forget();
    if (paused) this.emit("continued", { threadId, allThreadsContinued: true });
  }

  private emit(event: string, body: object = {}): void {
    this.seq += 1;
    this.options.emit({ type: "event", seq: this.seq, event, body });
  }

  private post<T = unknown>(method: string, params?: object): Promise<T> {
    return this.options.inspector.post<T>(method, params);
  }

  private async perform(command: string, args: Readonly<Record<string, unknown>>): Promise<Body> {
    switch (command) {
      case "debugInfo":
        return this.info();
      case "initialize":
        this.started = true;
        await this.attach();
        return capabilities;
      case "attach":
      case "launch":
      case "configurationDone":
      case "setFunctionBreakpoints":
        return undefined;
      case "disconnect":
      case "terminate":
        return this.disconnect();
      case "dumpCell":
        return { sourcePath: this.sources.dump(String(args.code ?? "")) };
      case "source":
        return this.source(args.source as { path?: string } | undefined);
      case "setBreakpoints":
        return this.setBreakpoints(args);
      case "setExceptionBreakpoints":
        return this.setExceptionBreakpoints((args.filters ?? []) as string[]);
      case "threads":
        return { threads: [{ id: threadId, name: "cells" }] };
      case "modules":
        return { modules: [], totalModules: 0 };
      case "stackTrace":
        return this.stackTrace(args);
      case "scopes":
        return this.scopes(Number(args.frameId));
      case "variables":
        return this.variables(args);
      case "evaluate":
        return this.evaluate(args);
      case "inspectVariables":
        return this.inspectVariables();
      case "richInspectVariables":
        return this.richInspectVariables(args);
      case "continue":
        return this.go("Debugger.resume", { allThreadsContinued: true });
      case "next":
        return this.go("Debugger.stepOver");
      case "stepIn":
        return this.go("Debugger.stepInto");
      case "stepOut":
        return this.go("Debugger.stepOut");
      case "pause":
        await this.post("Debugger.pause");
        return undefined;
      default:
        throw new Error(`unknown debugger command ${JSON.stringify(command)}`);
    }
  }

  private info(): object {
    return {
      isStarted: this.started,
      hashMethod: "Murmur2",
      hashSeed,
      tmpFilePrefix: sourcePrefix,
      tmpFileSuffix: sourceSuffix,
      breakpoints: [...this.breakpoints].map(([source, breakpoints]) => ({ source, breakpoints })),
      stoppedThreads: this.paused ? [threadId] : [],
      richRendering: true,
      exceptionPaths: exceptionFilters.map(({ label }) => label),
      copyToGlobals: false,
    };
  }

  private async attach(): Promise<void> {
    if (this.attached) return;
    this.attached = true;
    try {
      await this.post("Debugger.enable");
      await this.post("Debugger.setAsyncCallStackDepth", { maxDepth: 32 });
      await this.post("Debugger.setBlackboxPatterns", { patterns: blackboxed });
      await this.pauseOnExceptions();
    } catch (error) {
      this.attached = false;
      throw error;
    }
  }

  private async disconnect(): Promise<Body> {
    this.started = false;
    if (this.attached) {
      this.attached = false;
      await this.post("Debugger.disable").catch(() => undefined);
      this.options.inspector.detach();
    }
    this.breakpoints.clear();
    this.installed.clear();
    this.forget();
    this.emit("terminated");
    return undefined;
  }

  private source(source: { path?: string } | undefined): object {
    const path = source?.path ?? "";
    const code = this.sources.codeOf(path);
    if (code !== undefined) return { content: code, mimeType: "text/typescript" };
    if (this.sources.scriptsOf(path).length === 0)
      throw new Error(`source ${JSON.stringify(path)} is not known`);
    return { content: readFileSync(path, "utf8"), mimeType: "text/typescript" };
  }

  // Breakpoints

  private async setBreakpoints(args: Readonly<Record<string, unknown>>): Promise<object> {
    const path = (args.source as { path?: string } | undefined)?.path ?? "";
    const wanted = (args.breakpoints ?? []) as readonly Breakpoint[];
    const before = this.installed.get(path);
    this.installed.delete(path);
    for (const id of before?.values() ?? []) {
      await id
        .then((breakpointId) => this.post("Debugger.removeBreakpoint", { breakpointId }))
        .catch(() => undefined);
    }
    if (wanted.length === 0) this.breakpoints.delete(path);
    else this.breakpoints.set(path, wanted);
    // The answer comes behind word of what has been loaded so far, so that no script is missed.
    await this.post("Debugger.setBreakpointsActive", { active: true });
    const scripts = this.sources.scriptsOf(path);
    for (const script of scripts) await this.install(script);
    const map = scripts.at(-1)?.map ?? (await this.expectedMap(path));
    return {
      breakpoints: wanted.map(({ line }, i) => {
        const found = map === undefined ? { line } : breakable({ map }, line);
        if (!found) return { id: i, verified: false, line, source: { path }, message: "there is no code" };
        return { id: i, verified: true, line: found.line, source: { path } };
      }),
    };
  }

  /** The source map that a cell will have which has not run yet. */
  private async expectedMap(path: string): Promise<TraceMap | undefined> {
    const code = this.sources.codeOf(path);
    const map = code === undefined ? null : await this.options.mapOf(code);
    return map === null ? undefined : new TraceMap(map);
  }

  private async install(script: Script): Promise<void> {
    const path = script.path ?? "";
    const installed = this.installed.get(path) ?? new Map<string, Promise<string>>();
    this.installed.set(path, installed);
    for (const { line, condition } of this.breakpoints.get(path) ?? []) {
      const found = breakable(script, line);
      if (!found) continue;
      // V8 refuses a second one at a place: word of a script can come while the client's request is at work.
      const place = `${script.url}:${found.at.line}:${found.at.column}`;
      if (installed.has(place)) continue;
      const id = this.post<{ breakpointId: string }>("Debugger.setBreakpointByUrl", {
        url: script.url,
        lineNumber: found.at.line - 1,
        columnNumber: found.at.column,
        ...(condition ? { condition: javaScriptOf(condition) } : {}),
      }).then(({ breakpointId }) => breakpointId);
      installed.set(place, id);
      id.catch(() => installed.delete(place));
      await id;
    }
  }

  private async setExceptionBreakpoints(filters: readonly string[]): Promise<object> {
    const all = filters.some((filter) => /^all\b/i.test(filter));
    const uncaught = filters.some((filter) => /^uncaught\b/i.test(filter));
    this.exceptions = all ? "all" : uncaught ? "uncaught" : "none";
    if (this.attached) await this.pauseOnExceptions();
    return { breakpoints: filters.map(() => ({ verified: true })) };
  }

  private async pauseOnExceptions(): Promise<void> {
    // Of what happens in cells, V8 can't say that it is not caught.
    const state = this.exceptions === "none" ? "none" : "all";
    await this.post("Debugger.setPauseOnExceptions", { state });
  }

  // Pausing

  private onEvent(method: string, params: unknown): void {
    if (method === "Debugger.scriptParsed") {
      const script = this.sources.addParsed(params as ScriptParsed);
      // A module of the user's that is loaded again keeps its breakpoints by its URL; new ones come here.
      if (script.path !== null && this.breakpoints.has(script.path) && !this.installed.has(script.path)) {
        void this.install(script).catch(() => undefined);
      }
    } else if (method === "Debugger.paused") {
      this.onPaused(params as Paused).catch(() => this.resumeAfter("Debugger.resume"));
    }
  }

  private async onPaused(paused: Paused): Promise<void> {
    const { callFrames, reason, data, hitBreakpoints = [] } = paused;
    const top = callFrames[0];
    const place = top && this.sources.place(top.location);
    const { step } = this;
    const exception = reason === "exception" || reason === "promiseRejection";
    // What libraries throw and catch is theirs.
    const foreign = exception && /[\\/]node_modules[\\/]/.test(place?.script.path ?? "node_modules/");
    const caught =
      exception && this.exceptions === "uncaught" && !data?.uncaught && (await this.isCaught(paused));
    if (!top || foreign || caught) {
      this.resumeAfter("Debugger.resume");
      return;
    }
    const here = `${top.functionLocation?.scriptId}:${top.functionLocation?.lineNumber}:${top.functionLocation?.columnNumber}:${place?.line}`;
    const unfinished =
      step !== undefined &&
      !exception &&
      hitBreakpoints.length === 0 &&
      (place === null || here === step.from);
    if (unfinished && step.left > 0) {
      step.left -= 1;
      this.resumeAfter(step.command);
      return;
    }
    const frames = callFrames.flatMap((frame) => {
      const at = this.sources.place(frame.location);
      return at ? [{ frame, place: at }] : [];
    });
    if (frames.length === 0) {
      this.resumeAfter("Debugger.resume");
      return;
    }
    this.forget();
    this.paused = { frames };
    const why = exception ? "exception" : hitBreakpoints.length > 0 ? "breakpoint" : step ? "step" : "pause";
    const text = exception && data ? describe(data) : undefined;
    this.emit("stopped", {
      reason: why,
      threadId,
      allThreadsStopped: true,
      preserveFocusHint: false,
      ...(text ? { description: text, text } : {}),
    });
  }

  /** Whether the user's code, or a library's that it called, catches what is thrown now. */
  private async isCaught({ callFrames, asyncStackTrace }: Paused): Promise<boolean> {
    const places = callFrames.map(({ location }) => location);
    for (let stack = asyncStackTrace; stack; stack = stack.parent) places.push(...stack.callFrames);
    for (const { scriptId, lineNumber, columnNumber = 0 } of places) {
      if (
        !this.sources.isForeign(scriptId) &&
        (await this.catches.caughtAt(scriptId, lineNumber, columnNumber))
      )
        return true;
    }
    return false;
  }

  private resumeAfter(method: string): void {
    void this.post(method).catch(() => undefined);
  }

  private async go(method: string, body?: object): Promise<Body> {
    const top = this.paused?.frames[0];
    if (!top) throw new Error("no cell is paused");
    const { scriptId, lineNumber, columnNumber } = top.frame.functionLocation ?? top.frame.location;
    const from = `${scriptId}:${lineNumber}:${columnNumber}:${top.place.line}`;
    this.forget();
    this.step = method === "Debugger.resume" ? undefined : { command: method, from, left: stepsPerLine };
    await this.post("Runtime.releaseObjectGroup", { objectGroup }).catch(() => undefined);
    // Before it goes on: it may stop again at once.
    this.emit("continued", { threadId, allThreadsContinued: true });
    await this.post(method);
    return body;
  }

  private forget(): void {
    this.paused = undefined;
    this.step = undefined;
    this.references.clear();
  }

  // What is there while paused

  private stackTrace(args: Readonly<Record<string, unknown>>): object {
    const all = (this.paused?.frames ?? []).map(({ frame, place }, i) => ({
      id: i + 1,
      name:
        frame.functionName ||
        (place.script.map && place.script.name.startsWith("cell") ? place.script.name : "(anonymous)"),
      source: { path: place.script.path, name: place.script.name },
      line: place.line,
      column: place.column,
    }));
    const start = Number(args.startFrame ?? 0);
    const levels = Number(args.levels ?? 0) || all.length;
    return { stackFrames: all.slice(start, start + levels), totalFrames: all.length };
  }

  private frame(id: number): CallFrame {
    const found = this.paused?.frames[id - 1];
    if (!found) throw new Error(`there is no frame ${id}`);
    return found.frame;
  }

  private scopes(frameId: number): object {
    const scopes = this.frame(frameId)
      // The global object is the same everywhere, and long.
      .scopeChain.filter(({ type }) => type !== "global" && type !== "with")
      .map(({ type, object }) => ({
        name: type === "script" ? "Session" : `${type[0]?.toUpperCase()}${type.slice(1)}`,
        presentationHint: type === "local" ? "locals" : undefined,
        variablesReference: this.reference(object, "", type === "script"),
        expensive: false,
      }));
    // JupyterLab opens the first one. V8's has the innermost block there, which seldom holds what is looked for.
    const rank = ({ name }: { name: string }) => {
      const at = scopeOrder.indexOf(name);
      return at < 0 ? scopeOrder.length : at;
    };
    return { scopes: scopes.sort((a, b) => rank(a) - rank(b)) };
  }

  private async variables(args: Readonly<Record<string, unknown>>): Promise<{ variables: Variable[] }> {
    const found = this.references.get(Number(args.variablesReference));
    if (!found) throw new Error(`there are no variables ${String(args.variablesReference)}`);
    const start = Number(args.start ?? 0);
    const count = Number(args.count ?? 0) || mostVariables;
    if ("names" in found) return { variables: await this.looks(found.names.slice(start, start + count)) };
    const { result, internalProperties = [] } = await this.post<{
      result: Property[];
      internalProperties?: Property[];
    }>("Runtime.getProperties", { objectId: found.objectId, ownProperties: true, generatePreview: true });
    const internal = internalProperties.filter(({ name }) => name !== "[[Prototype]]" || found.name !== "");
    const imports = new Set(found.session ? await this.options.imports() : []);
    const properties = [...result, ...internal].filter(
      ({ name }) =>
        !/^__(?:firstframe|esDecorate|decorate|runInit)/.test(name) && !imports.has(writtenName(name)),
    );
    const reference = (name: string) => (value: RemoteObject) => this.reference(value, name);
    const variables = properties.slice(start, start + count).flatMap((property) => {
      const [variable] = toVariables([property], found.name, () => 0);
      if (!variable) return [];
      const variablesReference = property.value
        ? reference(variable.evaluateName || property.name)(property.value)
        : 0;
      return [{ ...variable, variablesReference }];
    });
    const imported = result.map(({ name }) => name).filter((name) => imports.has(writtenName(name)));
    return { variables: [...variables, ...(start === 0 ? this.importsGroup(imported) : [])] };
  }

  /** What cells imported, as one variable to open: a notebook may have imported more than it has made. */
  private importsGroup(names: readonly string[]): Variable[] {
    if (names.length === 0) return [];
    this.lastReference += 1;
    this.references.set(this.lastReference, { names });
    const value = `{${names.slice(0, shownImports).map(writtenName).join(", ")}${names.length > shownImports ? ", …" : ""}}`;
    return [{ name: "imports", value, evaluateName: "", variablesReference: this.lastReference }];
  }

  /** A number to ask a value's properties by; 0 if it has none. */
  private reference(value: RemoteObject, name: string, session = false): number {
    if (value.objectId === undefined) return 0;
    this.lastReference += 1;
    this.references.set(this.lastReference, { objectId: value.objectId, name, session });
    return this.lastReference;
  }

  private async evaluate(args: Readonly<Record<string, unknown>>): Promise<object> {
    const text = String(args.expression ?? "");
    const result = await this.look(text, args.frameId as number | undefined, args.context === "hover");
    const { value, ...type } = shownAs(result);
    return {
      ...{ result: value, ...type },
      variablesReference: this.reference(result, text),
    };
  }

  private look(text: string, frameId: number | undefined, pure: boolean): Promise<RemoteObject> {
    return this.evaluateIn(
      frameId,
      { expression: javaScriptOf(text), objectGroup, generatePreview: true, throwOnSideEffect: pure },
      { replMode: !pure },
    );
  }

  /**
   * Evaluates in a frame while a cell is paused; without a frame, or while none is paused, among the session's globals,
   * where `atTop` holds as well. Rejects with what the expression throws.
   */
  private async evaluateIn(
    frameId: number | undefined,
    options: { readonly expression: string; readonly [option: string]: unknown },
    atTop: object,
  ): Promise<RemoteObject> {
    const quiet = { ...options, silent: true };
    const answer =
      this.paused && frameId
        ? this.post<Evaluated>("Debugger.evaluateOnCallFrame", {
            ...quiet,
            callFrameId: this.frame(frameId).callFrameId,
          })
        : this.inTime(this.post<Evaluated>("Runtime.evaluate", { ...quiet, ...atTop }));
    const { result, exceptionDetails } = await answer;
    if (exceptionDetails) {
      const { exception, text } = exceptionDetails;
      throw new Error(exception ? describe(exception) : text);
    }
    return result;
  }

  private async inspectVariables(): Promise<object> {
    if (!this.paused) this.references.clear();
    const { names } = await this.inTime(this.post<{ names: string[] }>("Runtime.globalLexicalScopeNames"));
    const imports = new Set(await this.options.imports());
    const own = names.filter((name) => !imports.has(writtenName(name)));
    const imported = names.filter((name) => imports.has(writtenName(name)));
    return { variables: [...(await this.looks(own)), ...this.importsGroup(imported)] };
  }

  /** What the session's names stand for, as far as that can be told without running anything. */
  private async looks(names: readonly string[]): Promise<Variable[]> {
    const looks = names.slice(0, mostVariables).map(async (name): Promise<Variable[]> => {
      try {
        const value = await this.look(name, undefined, true);
        return [
          {
            name: writtenName(name),
            ...shownAs(value),
            evaluateName: name,
            variablesReference: this.reference(value, name),
          },
        ];
      } catch {
        return []; // declared, but never reached
      }
    });
    return (await Promise.all(looks)).flat();
  }

  private async richInspectVariables(args: Readonly<Record<string, unknown>>): Promise<object> {
    const name = String(args.variableName ?? "");
    const expression = this.options.bundle(javaScriptOf(name));
    const result = await this.evaluateIn(
      args.frameId as number | undefined,
      { expression, returnByValue: true },
      { awaitPromise: !this.paused },
    );
    return { data: (result.value ?? {}) as object, metadata: {} };
  }

  private inTime<T>(answer: Promise<T>): Promise<T> {
    if (this.paused) return answer;
    let timer: NodeJS.Timeout;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("a cell is running")), patienceMs);
    });
    return Promise.race([answer, late]).finally(() => clearTimeout(timer));
  }
}

const capabilities = {
  supportsConfigurationDoneRequest: true,
  supportsConditionalBreakpoints: true,
  supportsEvaluateForHovers: true,
  supportsTerminateRequest: true,
  supportsExceptionInfoRequest: false,
  exceptionBreakpointFilters: exceptionFilters,
};

/** An expression without its types. */
function javaScriptOf(expression: string): string {
  if (!isShallow(expression) || hasLongLines(expression)) return expression;
  const { code, errors } = transformSync("expression.ts", `(${expression}\n)`, { lang: "ts" });
  return errors.length > 0 ? expression : code.trim().replace(/;$/, "");
}
