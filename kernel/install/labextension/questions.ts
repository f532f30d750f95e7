import type { Diagnostic as Found, Place } from "../../language/language.js";
import type { languageTarget } from "../../server/typing.js";
import type { Comm, Kernel, NotebookPanel } from "./host.js";

/**
 * What a notebook's cells are asked about: the kernel's server answers over a comm, also while a cell runs. Only a kernel of
 * ours is asked.
 */

const TARGET: typeof languageTarget = "firstframe.language";
const IMPLEMENTATION = "firstframe";

export type { Diagnostic as Found, Place } from "../../language/language.js";

interface Answers {
  readonly diagnostics: { readonly diagnostics: readonly Found[] };
  readonly hover: {
    readonly found: boolean;
    readonly data: Readonly<Record<string, string>>;
    readonly start: number;
    readonly end: number;
  };
  readonly definition: { readonly place: Place | null };
}

interface Question {
  readonly cells: readonly string[];
  /** Which of them. */
  readonly cell: number;
  readonly cell_id?: string;
  readonly cursor?: number;
}

type Answer = { readonly id: number; readonly status: "ok" | "replaced" | "error" } & Partial<
  Answers[keyof Answers]
>;

export class Questions {
  #connection: { readonly kernel: Kernel; readonly comm: Promise<Comm | undefined> } | undefined;
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  #last = 0;
  #ours = false;

  constructor(private readonly panel: NotebookPanel) {
    const { sessionContext } = panel;
    sessionContext.kernelChanged.connect(this.#look);
    void sessionContext.ready.then(this.#look, () => undefined);
  }

  /** Whether the kernel is one of ours, as far as is known. */
  get ours(): boolean {
    return this.#ours;
  }

  /** @returns undefined if there is no answer: the kernel is gone, or not ours, or was asked the same again since */
  async ask<Method extends keyof Answers>(
    method: Method,
    question: Question,
  ): Promise<Answers[Method] | undefined> {
    const comm = await this.#connect().catch(() => undefined);
    if (comm === undefined || comm.isDisposed) return undefined;
    this.#last += 1;
    const id = this.#last;
    const answer = await new Promise<Answer | undefined>((resolve) => {
      this.#waiting.set(id, resolve);
      try {
        comm.send({ id, method, ...question });
      } catch {
        this.#settle(id, undefined); // a kernel that is dead
      }
    });
    return answer?.status === "ok" ? (answer as unknown as Answers[Method]) : undefined;
  }

  readonly #look = () => {
    this.#ours = false;
    const kernel = this.panel.sessionContext.session?.kernel;
    void kernel?.info.then(
      ({ implementation }) => {
        if (this.panel.sessionContext.session?.kernel === kernel)
          this.#ours = implementation === IMPLEMENTATION;
      },
      () => undefined,
    );
  };

  async #connect(): Promise<Comm | undefined> {
    const kernel = this.panel.sessionContext.session?.kernel;
    if (!kernel) return undefined;
    const known = this.#connection?.kernel === kernel ? await this.#connection.comm : undefined;
    if (known && !known.isDisposed) return known;
    // A restart has disposed of it, without a word to whoever waits.
    if (this.#connection?.kernel !== kernel || known) {
      this.#connection = { kernel, comm: this.#open(kernel) };
      this.#giveUp();
    }
    return this.#connection.comm;
  }

  async #open(kernel: Kernel): Promise<Comm | undefined> {
    if ((await kernel.info).implementation !== IMPLEMENTATION) return undefined;
    const comm = kernel.createComm(TARGET);
    comm.onMsg = ({ content }) => {
      const answer = content.data as Answer;
      this.#settle(answer.id, answer);
    };
    comm.onClose = () => this.#giveUp();
    comm.open({});
    return comm;
  }

  #giveUp(): void {
    for (const id of [...this.#waiting.keys()]) this.#settle(id, undefined);
  }

  #settle(id: number, answer: Answer | undefined): void {
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }
}
