/**
 * What front ends ask about code that is not executed: completions, documentation, whether it is complete.
 */
import { isInText } from "../language/in-text.js";
import type { Completions, Language } from "../language/language.js";
import { isQuestion, withoutMagics } from "../language/magics.js";
import { isName, memberBefore } from "../language/words.js";
import type { CompleteReply, InspectReply, IsCompleteReply } from "../protocol/replies.js";
import type { CompleteRequest, InspectRequest, IsCompleteRequest } from "../protocol/requests.js";
import type { Executor } from "./executor.js";
import { toPoints, toUnits } from "./positions.js";

export class Introspection {
  constructor(
    private readonly language: Language,
    private readonly executor: Executor,
  ) {}

  async complete({ code, cursorPos }: CompleteRequest): Promise<CompleteReply> {
    const cursor = toUnits(code, cursorPos);
    let found = await this.language.complete(withoutMagics(code), cursor);
    if (found.items.length === 0) found = (await this.membersAtRunTime(code, cursor)) ?? found;
    const range = { start: toPoints(code, found.start), end: toPoints(code, found.end) };
    return {
      status: "ok",
      matches: found.items.map(({ text }) => text),
      cursor_start: range.start,
      cursor_end: range.end,
      metadata: { _jupyter_types_experimental: found.items.map((item) => ({ ...range, ...item })) },
    };
  }

  /** What types don't tell, e.g. about a value of type `any`, the value itself may. */
  private async membersAtRunTime(code: string, cursor: number): Promise<Completions | undefined> {
    const access = memberBefore(code, cursor);
    if (access === undefined || isInText(code, cursor)) return undefined;
    const { object, typed } = access;
    const members = await this.executor.members(object);
    const items = members
      .filter(({ name }) => name.startsWith(typed) && isName(name))
      .map(({ name, type }) => ({ text: name, type }));
    return { items, start: cursor - typed.length, end: cursor };
  }

  async inspect({ code, cursorPos, detailLevel }: InspectRequest): Promise<InspectReply> {
    const found = await this.language.inspect(withoutMagics(code), toUnits(code, cursorPos), detailLevel);
    const data = found === null ? {} : { "text/plain": found.plain, "text/markdown": found.markdown };
    return { status: "ok", found: found !== null, data, metadata: {} };
  }

  async isComplete({ code }: IsCompleteRequest): Promise<IsCompleteReply> {
    if (/^\s*%%/.test(code))
      return code.endsWith("\n") ? { status: "complete" } : { status: "incomplete", indent: "" };
    if (isQuestion(code)) return { status: "complete" };
    return this.language.isComplete(withoutMagics(code));
  }
}
