/**
 * Questions to the reader of the notebook. They block, as in a browser, because what comes after them in the cell needs
 * the answer.
 */
import { context, sendControl } from "../ipc/channel.js";
import type { InputAnswer } from "../ipc/frames.js";
import type { Interrupts } from "./interrupt.js";

export interface Prompt {
  (message?: string, defaultValue?: string): string | null;
  /** Asks without showing what is typed. */
  password(message?: string): string | null;
}

export function inputFunctions(interrupts: Interrupts): {
  prompt: Prompt;
  confirm(message?: string): boolean;
} {
  const ask = (prompt: string, password: boolean): string | null => {
    if (interrupts.running() === 0 || interrupts.running() !== context())
      throw new Error("the cell that asks is over, so that nobody is there to answer");
    const answer = interrupts.ask(
      (id) => sendControl({ op: "input", id, context: context(), prompt, password }),
      true,
    ) as InputAnswer;
    if ("refused" in answer) throw new Error(answer.refused);
    return answer.value;
  };
  const prompt = (message = "Prompt", defaultValue?: string): string | null => {
    const answer = ask(defaultValue ? `${message} [${defaultValue}] ` : message, false);
    return answer === "" && defaultValue !== undefined ? defaultValue : answer;
  };
  return {
    prompt: Object.assign(prompt, { password: (message = "Password: ") => ask(message, true) }),
    confirm: (message = "Confirm") => /^\s*y(es)?\s*$/i.test(ask(`${message} [y/N] `, false) ?? ""),
  };
}
