/**
 * Evaluates cells, one at a time: the server sends the next when the last is done.
 */
import { inContext, print, publish, sendControl } from "../ipc/channel.js";
import type { EvaluateCommand, Script } from "../ipc/frames.js";
import { after, first, keys, NativePromise, withoutPrototype } from "../ipc/primordials.js";
import type { ErrorContent } from "../protocol/messages.js";
import type { ExpressionResult } from "../protocol/replies.js";
import { bundleOf, displaysDone, isNoResult, isPromise } from "./display.js";
import type { CellErrors } from "./errors.js";
import { Evaluator, type Outcome } from "./evaluate.js";
import { type Interrupts, KeyboardInterrupt } from "./interrupt.js";
import { duration, timeIt } from "./magics.js";

/** How long a cell may take to fail by itself after an interrupt that could not reach any of its awaits. */
const graceMs = 100;
/** The most members offered as completions. */
const maxMembers = 1000;

export class Cells {
  readonly evaluator: Evaluator;
  /** What `_` is. */
  lastResult: unknown;
  private running: { readonly id: number; interrupts: number; giveUp(): void } | undefined;

  constructor(
    private readonly interrupts: Interrupts,
    private readonly errors: CellErrors,
  ) {
    this.evaluator = new Evaluator((inside) => interrupts.setOnStack(inside));
    interrupts.onInterrupt = (id, rejected, terminated) => this.onInterrupt(id, rejected, terminated);
  }

  /** Evaluates a cell, shows its result, and says when it is done. */
  async evaluate(command: EvaluateCommand): Promise<void> {
    const { id, script } = command;
    this.interrupts.begin(id);
    const gaveUp = new NativePromise<Outcome>((resolve) => {
      const giveUp = () => {
        this.evaluator.abandon();
        resolve(withoutPrototype({ status: "terminated" }));
      };
      this.running = { id, interrupts: 0, giveUp };
    });
    let error: ErrorContent | undefined;
    let interrupted = false;
    const userExpressions: Record<string, ExpressionResult> = {};
    try {
      const outcome: Outcome =
        script === undefined
          ? { status: "ok", value: undefined }
          : await first(this.outcomeOf(script, command), gaveUp);
      if (outcome.status === "ok" && command.repeat !== undefined) {
        const work = outcome.value as () => unknown;
        const { repeat } = command;
        await first(
          inContext(id, () => timeIt(work, repeat, this.interrupts)),
          interruptedBy(gaveUp),
        );
      } else if (outcome.status === "ok") {
        if (!isNoResult(outcome.value) && !command.silent) {
          this.lastResult = outcome.value;
          await first(this.showResult(outcome.value, command), interruptedBy(gaveUp));
        }
      } else {
        const thrown = outcome.status === "terminated" ? new KeyboardInterrupt() : outcome.error;
        interrupted = thrown instanceof KeyboardInterrupt;
        error = this.errors.content(thrown);
      }
      await first<unknown>(displaysDone(), gaveUp);
      const names = error === undefined ? keys(command.userExpressions) : [];
      for (let i = 0; i < names.length; i++) {
        const expression = command.userExpressions[names[i]!]!;
        userExpressions[names[i]!] = await first(this.userExpression(expression, id), interruptedBy(gaveUp));
      }
    } catch (thrown) {
      interrupted = thrown instanceof KeyboardInterrupt;
      error = this.errors.content(thrown);
    }
    this.interrupts.end();
    this.running = undefined;
    sendControl({ op: "done", id, ...(error && { error }), interrupted, userExpressions }, id);
  }

  private async outcomeOf(script: Script, { id, timed }: EvaluateCommand): Promise<Outcome> {
    if (!timed) return inContext(id, () => this.evaluator.evaluate(script.code));
    const cpu = process.cpuUsage();
    const start = process.hrtime.bigint();
    const outcome = await inContext(id, () => this.evaluator.evaluate(script.code));
    const wall = Number(process.hrtime.bigint() - start);
    const { user, system } = process.cpuUsage(cpu);
    print(
      "stdout",
      `CPU times: user ${duration(user * 1e3)}, sys: ${duration(system * 1e3)}, total: ${duration((user + system) * 1e3)}\n` +
        `Wall time: ${duration(wall)}\n`,
      id,
    );
    return outcome;
  }

  private async showResult(value: unknown, { id, count }: EvaluateCommand): Promise<void> {
    const made = inContext(id, () => bundleOf(value));
    const data = isPromise(made) ? await made : made;
    publish("execute_result", { execution_count: count, data, metadata: {} }, { context: id });
  }

  private async userExpression(script: Script, id: number): Promise<ExpressionResult> {
    const outcome = await inContext(id, () => this.evaluator.evaluate(script.code));
    try {
      if (outcome.status === "ok") {
        const data = await inContext(id, () => bundleOf(outcome.value));
        return withoutPrototype({ status: "ok", data, metadata: {} });
      }
      throw outcome.status === "error" ? outcome.error : new KeyboardInterrupt();
    } catch (error) {
      return withoutPrototype({ status: "error", ...this.errors.content(error) });
    }
  }

  /** Names of the members of an expression's current value, if that can be found without running anything. */
  members(expression: string): { name: string; type: string }[] {
    const found = this.evaluator.look(expression);
    const members = new Map<string, string>();
    for (let at = found; at !== null && at !== undefined; at = Object.getPrototypeOf(at) as unknown) {
      if (at === Object.prototype && found !== at) break;
      for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(Object(at)))) {
        if (members.size < maxMembers && !members.has(name)) {
          members.set(name, typeof value === "function" ? "function" : "property");
        }
      }
    }
    return [...members].map(([name, type]) => ({ name, type }));
  }

  private onInterrupt(id: number, rejected: number, terminated: boolean): void {
    const { running } = this;
    if (running === undefined || running.id !== id) return;
    // Most cells have ended by then.
    after(() => this.running === running && sendControl({ op: "interrupted", id }, id), graceMs);
    running.interrupts += 1;
    // A cell whose await was rejected may take its time to clean up; after a second interrupt it is given up.
    if (running.interrupts > 1 || terminated) running.giveUp();
    else if (rejected === 0) after(() => this.running === running && running.giveUp(), graceMs);
  }
}

async function interruptedBy(gaveUp: Promise<unknown>): Promise<never> {
  await gaveUp;
  throw new KeyboardInterrupt();
}
