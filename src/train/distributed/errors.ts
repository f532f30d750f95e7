import { type ErrorDetails, FirstframeError } from "../../engine/errors.js";
import { TRY_AGAIN } from "./messages.js";

/** A run on several ranks that can't go on; the message names the rank and its address. */
export class RankError extends FirstframeError {
  readonly #exitCode: number;

  constructor(
    problem: string,
    details: ErrorDetails & {
      /** That of the rank that failed, where it said so. */
      readonly exitCode?: number;
    } = {},
  ) {
    super(problem, details);
    this.#exitCode = details.exitCode ?? TRY_AGAIN;
  }

  get kind() {
    return "rank" as const;
  }

  /** 75, unless a rank failed with an error of its own, which trying again won't mend. */
  override get exitCode(): number {
    return this.#exitCode;
  }
}
