/**
 * Questions of cells to whoever sits in front of the notebook.
 */
import type { InputAnswer } from "../ipc/frames.js";
import type { Message } from "../protocol/messages.js";
import type { Replies } from "../protocol/outbox.js";
import { type InputRequest, parse } from "../protocol/requests.js";
import type { Wire } from "../protocol/wire.js";
import type { Contexts } from "./contexts.js";

export class Stdin {
  private readonly open = new Map<string, (answer: InputAnswer) => void>();

  /** @param flush sends what has been printed, which belongs before the question. */
  constructor(
    private readonly wire: Wire,
    private readonly socket: Replies,
    private readonly contexts: Contexts,
    private readonly flush: () => void,
  ) {}

  async ask(context: number, content: InputRequest): Promise<InputAnswer> {
    const { message, allowStdin } = this.contexts.of(context);
    if (message === undefined || !allowStdin) {
      return { refused: "this front end does not take input (allow_stdin is false)" };
    }
    this.flush();
    const answer = new Promise<InputAnswer>((resolve) => {
      this.open.set(message.header.msg_id, resolve);
    });
    const question = { type: "input_request", parent: message.header, content };
    this.socket.send(this.wire.encode(message.identities, question));
    return answer;
  }

  receive(message: Message): void {
    if (message.header.msg_type !== "input_reply") return;
    // Front ends disagree about the parent: the input_request, or none. One cell is executed, so one question is open.
    const last = [...this.open].at(-1);
    if (last === undefined) return;
    const [id, resolve] = last;
    this.open.delete(id);
    try {
      resolve({ value: parse.input(message.content).value ?? null });
    } catch {
      resolve({ value: null });
    }
  }

  /** The cell that asked is over. */
  clear(): void {
    for (const resolve of this.open.values()) resolve({ refused: "the cell that asked is over" });
    this.open.clear();
  }
}
