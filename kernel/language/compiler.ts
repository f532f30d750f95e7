import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { Rpc } from "./rpc.js";
import { Watchdog } from "./watchdog.js";

/** How many times in a row the compiler may die on one request. */
const attempts = 2;
/** After two consecutive failures that kept cells waiting, it is left alone for a while. */
const failuresInARow = 2;
const pauseMs = 30_000;
/** How long it may take to exit by itself. */
const patienceAtTheEndMs = 500;

/** The compiler can't answer. The message tells the cell's author why. */
export class CompilerError extends Error {
  override name = "CompilerError";
}

export interface CompilerSettings {
  /** How long the compiler may work on a question before it is replaced. */
  readonly limitMs: number;
  /** Called with each new compiler process. */
  readonly onProcess?: (pid: number | undefined) => void;
}

interface Running {
  readonly child: ChildProcess;
  readonly connection: Rpc;
  watchdog?: Watchdog;
  /** Why it is gone. */
  failure?: CompilerError;
  /** Its output has ended. */
  silent?: true;
  /** We ended it because it did not answer. */
  gaveUp: boolean;
}

/**
 * TypeScript's native compiler as a child process that speaks the language server protocol. If it dies, it is restarted
 * with the same documents open, and the request it died on is repeated once. If it is stopped or takes too long, it is
 * ended, and its requests fail.
 */
export class Compiler {
  private running: Running | undefined;
  private starting: Promise<Running> | undefined;
  private disposed = false;
  private readonly documents = new Map<string, { text: string; version: number }>();
  /** Failures that cells waited for, since it last answered. */
  private failures = { count: 0, at: 0, last: undefined as CompilerError | undefined };

  constructor(
    private readonly cwd: string,
    private readonly settings: CompilerSettings,
  ) {}

  /** The compiler's process, to see whether it is alive. */
  get pid(): number | undefined {
    return this.running?.child.pid;
  }

  /** Rejects with {@link CompilerError} if it can't be started; the next request tries again. */
  async start(): Promise<void> {
    await this.connect();
  }

  /** Opens a document that represents a file, or changes its text; the file system is not touched. */
  write(file: string, text: string): void {
    const known = this.documents.get(file);
    if (known?.text === text) return;
    const document = { text, version: (known?.version ?? 0) + 1 };
    this.documents.set(file, document);
    if (known) {
      this.notify("textDocument/didChange", {
        textDocument: { uri: uriOf(file), version: document.version },
        contentChanges: [{ text }],
      });
    } else {
      this.notify("textDocument/didOpen", opened(file, document));
    }
  }

  close(file: string): void {
    if (this.documents.delete(file))
      this.notify("textDocument/didClose", { textDocument: { uri: uriOf(file) } });
  }

  /** Tells the compiler that files on disk are new or have changed. */
  touch(
    files: readonly { readonly file: string; readonly change: "created" | "changed" | "deleted" }[],
  ): void {
    if (files.length === 0) return;
    const types = { created: 1, changed: 2, deleted: 3 } as const;
    this.notify("workspace/didChangeWatchedFiles", {
      changes: files.map(({ file, change }) => ({ uri: uriOf(file), type: types[change] })),
    });
  }

  /** Rejects with {@link CompilerError} if the compiler can't answer. `signal` tells it that nobody is waiting any more. */
  async request<T>(method: string, params: unknown, signal?: AbortSignal): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const running = this.running ?? (await this.connect());
      const answered = running.watchdog?.wait();
      try {
        const result = await running.connection.request<T>(method, params, signal);
        this.failures.count = 0;
        return result;
      } catch (error) {
        const { failure, gaveUp } = running;
        if (failure === undefined) throw error;
        if (this.disposed || gaveUp || attempt >= attempts) throw failure;
      } finally {
        answered?.();
      }
    }
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const { running } = this;
    if (!running) return;
    const { child, connection } = running;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    const timer = setTimeout(() => child.kill("SIGKILL"), patienceAtTheEndMs);
    connection.request("shutdown").then(
      () => connection.notify("exit"),
      () => child.kill("SIGKILL"),
    );
    await gone;
    clearTimeout(timer);
  }

  private notify(method: string, params: unknown): void {
    // Whatever it misses before it starts, or while it is dead, it learns when the documents are opened.
    this.running?.connection.notify(method, params);
  }

  private connect(): Promise<Running> {
    if (this.running) return Promise.resolve(this.running);
    if (this.disposed) return Promise.reject(new CompilerError("the TypeScript compiler was shut down"));
    const { count, at, last } = this.failures;
    if (last && count >= failuresInARow && performance.now() < at + pauseMs) return Promise.reject(last);
    this.starting ??= this.launch()
      .catch((error: unknown) => {
        throw this.failed(error instanceof CompilerError ? error : new CompilerError(messageOf(error)));
      })
      .finally(() => {
        this.starting = undefined;
      });
    return this.starting;
  }

  private failed(error: CompilerError): CompilerError {
    this.failures = { count: this.failures.count + 1, at: performance.now(), last: error };
    return error;
  }

  private async launch(): Promise<Running> {
    const child = spawn(await compilerPath(), ["--lsp", "--stdio"], {
      cwd: this.cwd,
      stdio: ["pipe", "pipe", "ignore"],
      // In its own group, since the signal that interrupts a cell would end it. It exits when its input ends.
      detached: true,
    });
    const connection = new Rpc(child.stdout, child.stdin, answer, () => {
      // Its output may end before its process is known to have. Without it, it can't answer, and nothing can be sent.
      running.silent = true;
      if (this.running === running) this.running = undefined;
      child.kill("SIGKILL");
    });
    const running: Running = { child, connection, gaveUp: false };
    const lost = this.watch(running);
    this.settings.onProcess?.(child.pid);
    const ready = connection.request("initialize", {
      processId: process.pid,
      rootUri: pathToFileURL(this.cwd).href,
      capabilities,
      initializationOptions: quiet,
    });
    const answered = running.watchdog?.wait();
    try {
      await Promise.race([ready, lost]);
      connection.notify("initialized", {});
      for (const [file, document] of this.documents)
        connection.notify("textDocument/didOpen", opened(file, document));
      if (running.silent) await lost;
    } catch (error) {
      if (running.silent) await lost;
      throw running.failure ?? error;
    } finally {
      answered?.();
    }
    this.running = running;
    return running;
  }

  /** Rejects once the compiler is gone, by itself or because it had to be ended. */
  private watch(running: Running): Promise<never> {
    const { child, connection } = running;
    const lost = new Promise<never>((_, reject) => {
      const end = (cause: string) => {
        running.failure ??= new CompilerError(`the TypeScript compiler ${cause}`);
        running.watchdog?.end();
        if (this.running === running) this.running = undefined;
        connection.close();
        reject(running.failure);
      };
      const giveUp = (cause: string) => {
        running.gaveUp = true;
        const wasRunning = this.running === running;
        end(`${cause} and is replaced`);
        // Whoever waits for the start learns of this anyway.
        if (wasRunning) this.failed(running.failure!);
        child.kill("SIGKILL");
      };
      child.once("error", ({ message }) => end(`could not be started: ${message}`));
      child.once("exit", (code, signal) => end(`ended with ${signal ?? `code ${code}`}`));
      child.stdin?.on("error", () => undefined);
      if (child.pid !== undefined) running.watchdog = new Watchdog(child.pid, this.settings.limitMs, giveUp);
    });
    lost.catch(() => undefined);
    return lost;
  }
}

const capabilities = {
  general: { positionEncodings: ["utf-16"] },
  workspace: { configuration: true },
  textDocument: {
    completion: { completionItem: { documentationFormat: ["markdown"], labelDetailsSupport: true } },
    hover: { contentFormat: ["markdown"] },
    signatureHelp: { signatureInformation: { documentationFormat: ["markdown"] } },
    definition: { linkSupport: true },
    diagnostic: {},
  },
};

/** Nobody reads its log (0: none of it) or what it finds unasked. */
const quiet = { logVerbosity: 0, disablePushDiagnostics: true };

/** Names from modules that are not imported would swamp completions, and nobody asked for packages to be fetched. */
const preferences = {
  tsserver: { automaticTypeAcquisition: { enabled: false } },
  suggest: { autoImports: false },
  preferences: { includeCompletionsForModuleExports: false },
};

function answer(method: string, params: unknown): unknown {
  if (method !== "workspace/configuration") return null;
  return (params as { items: unknown[] }).items.map(() => preferences);
}

function opened(file: string, { text, version }: { text: string; version: number }) {
  const languageId = file.endsWith(".json") ? "json" : file.endsWith("x") ? "typescriptreact" : "typescript";
  return { textDocument: { uri: uriOf(file), languageId, version, text } };
}

export function uriOf(file: string): string {
  return pathToFileURL(file).href;
}

function messageOf(error: unknown): string {
  return `the TypeScript compiler could not be started: ${error instanceof Error ? error.message : String(error)}`;
}

async function compilerPath(): Promise<string> {
  // The package does not export its executable's path, but it has a module that finds it.
  const manifest = createRequire(import.meta.url).resolve("typescript/package.json");
  const finder = pathToFileURL(path.join(path.dirname(manifest), "lib", "getExePath.js"));
  const { default: getExePath } = (await import(finder.href)) as { default: () => string };
  return getExePath();
}
