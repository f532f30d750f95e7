/** The package's errors: a class for each kind that programs tell apart, and the fields common to all. */

/** What an error is about, for programs; {@link FirstframeError.kind}. */
export type ErrorKind =
  | "argument"
  | "checkpoint"
  | "clip"
  | "config"
  | "dataset"
  | "divergence"
  | "engine"
  | "failure"
  | "hub"
  | "input"
  | "rank"
  | "resume"
  | "safetensors"
  | "sentencepiece"
  | "usage";

export interface ErrorDetails {
  /** The file or folder with the problem: the message begins with it. */
  readonly file?: string | undefined;
  /** What the error is about if not a file: an engine, or the class whose options are wrong. */
  readonly subject?: string | undefined;
  /** What to do about it: the message ends with it. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/**
 * Everything that the package throws on purpose. The message is one line for people and says it all; programs look at the
 * class and the fields. Any other error, such as JavaScript's own RangeError, is a bug in this package.
 */
export abstract class FirstframeError extends Error {
  // Private, so that `console.log` does not print everything twice.
  readonly #problem: string;
  readonly #details: ErrorDetails;

  constructor(problem: string, details: ErrorDetails = {}) {
    const { file, subject, hint, cause } = details;
    const full = hint === undefined ? problem : `${problem}; ${hint}`;
    const place = file ?? subject;
    super(place === undefined ? full : `${place}: ${full}`, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.#problem = full;
    this.#details = details;
  }

  abstract get kind(): ErrorKind;

  /** What the command line ends with. */
  get exitCode(): number {
    return 1;
  }

  /** The file or folder that can't be used, where there is one. */
  get file(): string | undefined {
    return this.#details.file;
  }

  /** The engine, class or option that it is about, where there is one. */
  get subject(): string | undefined {
    return this.#details.subject;
  }

  /** The message without the file or subject that it begins with. */
  get problem(): string {
    return this.#problem;
  }

  /** What to do about it, where there is something to say beside what was expected. */
  get hint(): string | undefined {
    return this.#details.hint;
  }
}

/**
 * Values, shapes, options or files that can't be used. The message names what was expected and what was found. The command line
 * prints it alone and ends with exit code 2.
 */
export class InputError extends FirstframeError {
  get kind(): ErrorKind {
    return "input";
  }

  override get exitCode(): number {
    return 2;
  }
}

/** Why an engine can't be installed or run: what was expected, what was found and what to type, in one line. */
export class EngineError extends InputError {
  override get kind() {
    return "engine" as const;
  }
}

/** A value from an untrusted file as messages show it: JSON, cut short. It may be nested too deeply to be written. */
export function quote(value: unknown, most = 200): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    return "something nested too deeply";
  }
  return text.length > most ? `${text.slice(0, most)}...` : text;
}

/** Whatever an engine's start or installation threw, as an error about that engine. */
export function asEngineError(engine: string, error: unknown): EngineError {
  if (error instanceof EngineError && error.subject === engine) return error;
  const [problem, hint] = error instanceof FirstframeError ? messageAndHint(error) : [firstLine(error)];
  return new EngineError(firstLine(problem), { subject: engine, hint, cause: error });
}

/** The same problem as another kind of error, whose message says first where it came up; its hint stays one. */
export function passedOn<E>(
  Class: new (problem: string, details: ErrorDetails) => E,
  error: FirstframeError,
  before: string,
): E {
  const [problem, hint] = messageAndHint(error);
  return new Class(before + problem, { hint, cause: error });
}

function messageAndHint({ message, hint }: FirstframeError): readonly [string, string | undefined] {
  return hint === undefined ? [message, hint] : [message.slice(0, -`; ${hint}`.length), hint];
}

/** Why a file can't be read, in the words that the whole package uses. */
export function fileProblem(error: unknown, missing = "no such file"): string {
  return (error as NodeJS.ErrnoException).code === "ENOENT" ? missing : firstLine(error);
}

/** The first line of whatever was thrown. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n", 1)[0]!.trim();
}
