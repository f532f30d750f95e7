/**
 * Evaluates code as V8's own REPL does: top-level await, and const, let and class may be declared again.
 * The inspector session is connected in the same thread, so a call to it runs the code at once.
 */
import { Session } from "node:inspector";
import { KeyboardInterrupt } from "./interrupt.js";

export type Outcome =
  | { readonly status: "ok"; readonly value: unknown }
  | { readonly status: "error"; readonly error: unknown }
  /** V8 was told to end what ran. */
  | { readonly status: "terminated" };

/** Holds a cell's result, which the inspector would copy if it were a string. */
class Box {
  constructor(readonly value: unknown) {}
}

export const box = (value: unknown): unknown => new Box(value);

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

/** Where the function that fetches values is found; nobody else looks there. */
const fetchName = Symbol.for("firstframe.fetch");

export class Evaluator {
  private session = new Session();
  private fetched: unknown;
  private groups = 0;

  /** `onStack` is told whether code runs that the inspector called, rather than what a promise continued. */
  constructor(private readonly onStack: (inside: boolean) => void) {
    this.session.connect();
    Object.defineProperty(globalThis, fetchName, {
      value: (value: unknown) => {
        this.fetched = value;
      },
    });
    Object.defineProperty(globalThis, Symbol.for("firstframe.abandon"), { value: () => this.abandon() });
  }

  /** Resolves when the code has run to its end, awaits included. Never rejects. */
  evaluate(code: string): Promise<Outcome> {
    this.groups += 1;
    const objectGroup = `cell-${this.groups}`;
    const { session } = this;
    let resolve!: (outcome: Outcome) => void;
    const outcome = new Promise<Outcome>((settle) => {
      resolve = settle;
    });
    this.onStack(true);
    session.post(
      "Runtime.evaluate",
      { expression: code, replMode: true, awaitPromise: true, objectGroup },
      (error, response) => {
        // Without a response, V8 ended the evaluation before it had a result.
        resolve(error !== null ? { status: "terminated" } : this.outcome(response as Evaluation));
        // Later: somebody waits.
        setImmediate(() => {
          if (session === this.session) session.post("Runtime.releaseObjectGroup", { objectGroup });
        });
      },
    );
    this.onStack(false);
    return outcome;
  }

  /**
   * Gives up evaluations that will never settle. V8 would report it when their promises are collected, in the midst of
   * a garbage collection, and calling back then is fatal.
   */
  abandon(): void {
    this.session.disconnect();
    this.session = new Session();
    this.session.connect();
  }

  /** What an expression is, if evaluating it has no side effects; undefined else. */
  look(expression: string): unknown {
    let value: unknown;
    this.session.post(
      "Runtime.evaluate",
      { expression, throwOnSideEffect: true, silent: true, objectGroup: "look" },
      (error, response) => {
        if (error !== null) return;
        const { result, exceptionDetails } = response as Evaluation;
        if (exceptionDetails === undefined) value = this.valueOf(result);
      },
    );
    this.session.post("Runtime.releaseObjectGroup", { objectGroup: "look" });
    return value;
  }

  private outcome({ result, exceptionDetails }: Evaluation): Outcome {
    if (exceptionDetails === undefined) {
      const value = this.valueOf(result);
      return { status: "ok", value: value instanceof Box ? value.value : value };
    }
    const { exception, text } = exceptionDetails;
    const interrupt = KeyboardInterrupt.last;
    // One is like the other, if their stacks are, and somebody waits: so it need not be fetched.
    if (
      interrupt !== undefined &&
      exception?.description === interrupt.stack &&
      exception?.className === interrupt.name
    )
      return { status: "error", error: interrupt };
    return { status: "error", error: exception === undefined ? new Error(text) : this.valueOf(exception) };
  }

  private valueOf(remote: RemoteObject): unknown {
    if (remote.objectId !== undefined) {
      const { objectId } = remote;
      this.session.post("Runtime.callFunctionOn", {
        objectId,
        functionDeclaration: `(value) => globalThis[Symbol.for("firstframe.fetch")](value)`,
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
