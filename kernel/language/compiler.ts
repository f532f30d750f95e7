import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import type { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import {
  AbstractMessageWriter,
  createMessageConnection,
  type Message,
  type MessageConnection,
  type MessageWriter,
  StreamMessageReader,
} from "vscode-jsonrpc/node";

/** How often in a row the compiler may die on one request. */
const attempts = 2;

/**
 * TypeScript's native compiler as a child process that speaks the language server protocol. It is started again when it
 * dies, with the same documents open, and the request it died on is repeated once.
 */
export class Compiler {
  private connection: MessageConnection | undefined;
  private child: ChildProcess | undefined;
  private starting: Promise<MessageConnection> | undefined;
  private disposed = false;
  private readonly documents = new Map<string, { text: string; version: number }>();

  constructor(private readonly cwd: string) {}

  /** The compiler's process, for who wants to know whether it lives. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  async start(): Promise<void> {
    await this.connect();
  }

  /** Opens a document that stands for a file, or changes its text; the file system is not touched. */
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

  /** Says that files on disk are new or have changed. */
  touch(
    files: readonly { readonly file: string; readonly change: "created" | "changed" | "deleted" }[],
  ): void {
    if (files.length === 0) return;
    const types = { created: 1, changed: 2, deleted: 3 } as const;
    this.notify("workspace/didChangeWatchedFiles", {
      changes: files.map(({ file, change }) => ({ uri: uriOf(file), type: types[change] })),
    });
  }

  async request<T>(method: string, params: unknown): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const connection = this.connection ?? (await this.connect());
      try {
        return await connection.sendRequest<T>(method, params);
      } catch (error) {
        const died = this.connection !== connection;
        if (!died || this.disposed || attempt >= attempts) throw error;
      }
    }
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const { child, connection } = this;
    if (!child || !connection) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    const timer = setTimeout(() => child.kill("SIGKILL"), 500);
    connection.sendRequest("shutdown").then(
      () => connection.sendNotification("exit"),
      () => child.kill("SIGKILL"),
    );
    await gone;
    clearTimeout(timer);
  }

  private notify(method: string, params: unknown): void {
    // What is said before the start, or while it is dead, is said again when the documents are opened.
    if (this.connection) this.connection.sendNotification(method, params).catch(() => undefined);
  }

  private connect(): Promise<MessageConnection> {
    if (this.connection) return Promise.resolve(this.connection);
    if (this.disposed) return Promise.reject(new Error("the TypeScript compiler was shut down"));
    this.starting ??= this.launch().finally(() => {
      this.starting = undefined;
    });
    return this.starting;
  }

  private async launch(): Promise<MessageConnection> {
    const child = spawn(await compilerPath(), ["--lsp", "--stdio"], {
      cwd: this.cwd,
      stdio: ["pipe", "pipe", "ignore"],
      // A group of its own: the signal that interrupts a cell would end it. It ends when its input does.
      detached: process.platform !== "win32",
    });
    this.child = child;
    const connection = createMessageConnection(
      new StreamMessageReader(child.stdout),
      new PromptWriter(child.stdin),
    );
    const lost = new Promise<never>((_, reject) => {
      const end = (cause: string) => {
        if (this.connection === connection) this.connection = undefined;
        connection.dispose();
        reject(new Error(`the TypeScript compiler ${cause}`));
      };
      child.once("error", (error) => end(`could not be started: ${error.message}`));
      child.once("exit", (code, signal) => end(`ended with ${signal ?? `code ${code}`}`));
      child.stdin.on("error", () => undefined);
    });
    lost.catch(() => undefined);
    connection.onError(() => undefined);
    connection.onRequest((method, params) => answer(method, params));
    connection.listen();
    const ready = connection.sendRequest("initialize", {
      processId: process.pid,
      rootUri: pathToFileURL(this.cwd).href,
      capabilities,
      initializationOptions: {},
    });
    await Promise.race([ready, lost]);
    await connection.sendNotification("initialized", {});
    for (const [file, document] of this.documents) {
      await connection.sendNotification("textDocument/didOpen", opened(file, document));
    }
    this.connection = connection;
    return connection;
  }
}

const done = Promise.resolve();

/**
 * Writes at once, where the library's own writer waits for a turn of the event loop before each message, and a cell
 * would wait with it. What only tells of documents goes out with the request that needs it: one message wakes the compiler.
 */
class PromptWriter extends AbstractMessageWriter implements MessageWriter {
  private held = "";

  constructor(private readonly stream: Writable) {
    super();
  }

  write(message: Message): Promise<void> {
    const body = JSON.stringify(message);
    this.held += `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    if ("method" in message && /^(?:textDocument|workspace)\/did/.test(message.method as string)) return done;
    this.stream.write(this.held);
    this.held = "";
    return done;
  }

  end(): void {
    this.stream.end();
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

/** Names of modules that are not imported yet would swamp completions; and nobody asked for packages to be fetched. */
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

async function compilerPath(): Promise<string> {
  // The package exports no way to its executable, but has a module that finds it.
  const manifest = createRequire(import.meta.url).resolve("typescript/package.json");
  const finder = pathToFileURL(path.join(path.dirname(manifest), "lib", "getExePath.js"));
  const { default: getExePath } = (await import(finder.href)) as { default: () => string };
  return getExePath();
}
