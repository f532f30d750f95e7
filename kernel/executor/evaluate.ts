/**
 * Evaluates code as V8's own REPL does, with top-level await, and const, let and class that may be declared again.
 * The inspector session is connected in the same thread, so a call to it runs the code at once.
 */
import { Session } from "node:inspector";
import { runtimeGlobal } from "../ipc/names.js";
import { later, mendPromises, NativePromise, withoutPrototype, withPlainJson } from "../ipc/primordials.js";
import { KeyboardInterrupt } from "./interrupt.js";

export type Outcome =
  | { readonly status: "ok"; readonly value: unknown }
  | { readonly status: "error"; readonly error: unknown }
  /** V8 was told to end what was running. */
  | { readonly status: "terminated" };

interface RemoteObject {
  readonly type: string;
  readonly className?: string;
  readonly description?: string;
  readonly value?: unknown;
  readonly unserializableValue?: string;
  readonly objectId?: string;
}

interface Evaluation {
  readonly result: RemoteObject;
  readonly exceptionDetails?: { readonly exception?: RemoteObject; readonly text: string };
}

const { connect, disconnect, post } = Session.prototype as unknown as {
  connect(this: Session): void;
  disconnect(this: Session): void;
  post(this: Session, method: string, params: object, callback?: Callback): void;
};
type Callback = (error: Error | null, response?: object) => void;
/** Saved before a cell can replace them. */
const inspector = { connect, disconnect, post };
const { apply } = Reflect;
const { create } = Object;

export class Evaluator {
  private session = new Session();
  private fetched: unknown;
  /** What cells ended in, by number; the inspector is given the number, as it would copy a string and have to be asked for an object. */
  private results = create(null) as Record<number, { readonly value: unknown }>;
  private lastResult = 0;
  private groups = 0;
  /** V8 has not taken the cell's promise yet. */
  private beginning = false;

  /** `onStack` is told whether the inspector's call is running, rather than code that a promise continued. */
  constructor(private readonly onStack: (inside: boolean) => void) {
    apply(inspector.connect, this.session, []);
  }

  /** For the runtime of cells: called with what a cell ends in. */
  readonly box = (value: unknown): unknown => {
    this.onSuspend();
    if (value === undefined) return undefined;
    this.lastResult += 1;
    this.results[this.lastResult] = { value };
    return this.lastResult;
  };

  /** For the runtime of cells: called where a cell awaits. */
  readonly onSuspend = (): void => {
    if (this.beginning) mendPromises();
  };

  /** For the runtime of cells: the inspector calls it with a value that it can't hand over. */
  readonly fetch = (value: unknown): void => {
    this.fetched = value;
  };

  /** Resolves when the code has run to its end, awaits included. Never rejects. */
  evaluate(code: string): Promise<Outcome> {
    this.groups += 1;
    const objectGroup = `cell-${this.groups}`;
    const { session } = this;
    let resolve!: (outcome: Outcome) => void;
    const outcome = new NativePromise<Outcome>((settle) => {
      resolve = settle;
    });
    mendPromises();
    // What was given up may have ended since.
    this.results = create(null) as typeof this.results;
    this.beginning = true;
    this.onStack(true);
    try {
      this.post(
        "Runtime.evaluate",
        { expression: code, replMode: true, awaitPromise: true, objectGroup },
        (error, response) => {
          // Without a response, V8 ended the evaluation before it had a result.
          resolve(
            withoutPrototype(
              error !== null
                ? { status: "terminated" }
                : this.outcomeOrError(response as unknown as Evaluation),
            ),
          );
          // Later, because somebody is waiting.
          later(() => {
            if (session === this.session) this.post("Runtime.releaseObjectGroup", { objectGroup });
          });
        },
      );
    } finally {
      this.onStack(false);
      this.beginning = false;
    }
    return outcome;
  }

  /**
   * Gives up evaluations that will never settle. V8 would report them when their promises are collected, in the middle of
   * a garbage collection, and calling back then is fatal.
   */
  readonly abandon = (): void => {
    apply(inspector.disconnect, this.session, []);
    this.session = new Session();
    apply(inspector.connect, this.session, []);
  };

  private post(method: string, params: object, callback: Callback = () => undefined): void {
    withPlainJson(params, (parameters) =>
      apply(inspector.post, this.session, [method, parameters, callback]),
    );
  }

  /** An expression's value, if evaluating it has no side effects; else undefined. */
  look(expression: string): unknown {
    let value: unknown;
    this.post(
      "Runtime.evaluate",
      { expression, throwOnSideEffect: true, silent: true, objectGroup: "look" },
      (error, response) => {
        if (error !== null) return;
        const { result, exceptionDetails } = response as unknown as Evaluation;
        if (exceptionDetails === undefined) value = this.valueOf(result);
      },
    );
    this.post("Runtime.releaseObjectGroup", { objectGroup: "look" });
    return value;
  }

  /** Node only warns about errors thrown in the inspector's calls, and the cell would never end. */
  private outcomeOrError(evaluation: Evaluation): Outcome {
    try {
      return this.outcome(evaluation);
    } catch (error) {
      return { status: "error", error };
    }
  }

  private outcome({ result, exceptionDetails }: Evaluation): Outcome {
    if (exceptionDetails === undefined) {
      // Nothing's own `value` is missing, and a cell may have given one to all objects.
      if (result.type !== "number") return { status: "ok", value: this.valueOf(result) };
      const number = result.value as number;
      const found = this.results[number];
      if (found === undefined) return { status: "ok", value: this.valueOf(result) };
      delete this.results[number];
      return { status: "ok", value: found.value };
    }
    const { exception, text } = exceptionDetails;
    const interrupt = KeyboardInterrupt.last;
    if (interrupt !== undefined && exception !== undefined && looksAs(interrupt, exception))
      return { status: "error", error: interrupt };
    return { status: "error", error: exception === undefined ? new Error(text) : this.valueOf(exception) };
  }

  private valueOf(remote: RemoteObject): unknown {
    if (remote.objectId !== undefined) {
      const { objectId } = remote;
      this.post("Runtime.callFunctionOn", {
        objectId,
        functionDeclaration: `(value) => ${runtimeGlobal}.fetch(value)`,
        arguments: [{ objectId }],
        silent: true,
      });
      const value = this.fetched;
      this.fetched = undefined;
      return value;
    }
    const { unserializableValue: text } = remote;
    if (text === undefined) return remote.type === "undefined" ? undefined : remote.value;
    return text.endsWith("n") ? BigInt(text.slice(0, -1)) : Number(text);
  }
}

/** Interrupts with the same stack are alike, and somebody is waiting, so that what was thrown need not be fetched. */
function looksAs(interrupt: KeyboardInterrupt, { className, description }: RemoteObject): boolean {
  try {
    return className === interrupt.name && description === interrupt.stack;
  } catch {
    return false; // a cell has replaced what writes stacks
  }
}
