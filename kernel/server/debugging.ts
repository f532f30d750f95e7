/**
 * The debugger: a response of the Debug Adapter Protocol for each request, in the order they came.
 */
import type { DebugAdapter } from "../debugger/adapter.js";
import { runtimeGlobal } from "../ipc/names.js";
import type { Language } from "../language/language.js";
import { withoutMagics } from "../language/magics.js";
import type { PublishedContents } from "../protocol/published.js";
import type { DebugReply } from "../protocol/replies.js";
import type { DebugRequest } from "../protocol/requests.js";
import type { CellExecution } from "./cell-execution.js";
import type { Executor } from "./executor.js";

export class Debugging {
  private adapter: DebugAdapter | undefined;
  private last: Promise<void> = Promise.resolve();

  constructor(
    private readonly language: Language,
    private readonly executor: Executor,
    private readonly cells: CellExecution,
    private readonly emit: (event: PublishedContents["debug_event"]) => void,
  ) {}

  get hasBegun(): boolean {
    return this.adapter !== undefined;
  }

  /** Has a request answered once those before it are. */
  inOrder(answer: () => Promise<void>): Promise<void> {
    this.last = this.last.then(answer);
    return this.last;
  }

  async handle(request: DebugRequest): Promise<DebugReply> {
    this.adapter ??= await this.start();
    return this.adapter.handle(request);
  }

  /** Lets a paused cell go on, e.g. to its interrupt. */
  resume(): void {
    this.adapter?.resume();
  }

  /** The executor was replaced. */
  replaced(): void {
    this.adapter?.replaced();
  }

  private async start(): Promise<DebugAdapter> {
    const { DebugAdapter } = await import("../debugger/adapter.js");
    const adapter = new DebugAdapter({
      inspector: this.executor.inspector,
      emit: this.emit,
      mapOf: async (code) => {
        try {
          return await this.language.map({ id: "expected", count: 0, code: withoutMagics(code) }, "");
        } catch {
          return null; // it will not be executed
        }
      },
      imports: () => this.language.imports(),
      bundle: (expression) => `globalThis.${runtimeGlobal}.bundle(${expression})`,
    });
    this.cells.debugger = adapter;
    return adapter;
  }
}
