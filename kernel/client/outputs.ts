/**
 * Gathers a cell's messages as a notebook stores its outputs (nbformat 4).
 */
import type { Message } from "../protocol/messages.js";

export type CellOutput =
  | { output_type: "stream"; name: "stdout" | "stderr"; text: string }
  | { output_type: "display_data"; data: Record<string, unknown>; metadata: Record<string, unknown> }
  | {
      output_type: "execute_result";
      data: Record<string, unknown>;
      metadata: Record<string, unknown>;
      execution_count: number | null;
    }
  | { output_type: "error"; ename: string; evalue: string; traceback: string[] };

type Shown = Extract<CellOutput, { data: unknown }>;

/** The outputs of a notebook's cells; displays with an id can be updated from any of them. */
export class OutputCollector {
  private readonly displays = new Map<string, Shown[]>();

  /** Makes the list of one cell's outputs, and the function that takes its messages. */
  cell(): { readonly outputs: CellOutput[]; readonly add: (message: Message) => void } {
    const outputs: CellOutput[] = [];
    let clearNext = false;
    const add = (message: Message): void => {
      const { content } = message;
      const type = message.header.msg_type;
      if (type === "clear_output") {
        if (content.wait === true) clearNext = true;
        else outputs.length = 0;
        return;
      }
      if (type === "update_display_data") {
        this.update(content);
        return;
      }
      const output = asOutput(type, content);
      if (output === undefined) return;
      if (clearNext) outputs.length = 0;
      clearNext = false;
      const last = outputs.at(-1);
      if (output.output_type === "stream" && last?.output_type === "stream" && last.name === output.name) {
        last.text += output.text;
        return;
      }
      outputs.push(output);
      if ("data" in output) this.remember(content, output);
    };
    return { outputs, add };
  }

  private remember(content: Record<string, unknown>, output: Shown): void {
    const id = displayId(content);
    if (id === undefined) return;
    const shown = this.displays.get(id) ?? [];
    shown.push(output);
    this.displays.set(id, shown);
  }

  private update(content: Record<string, unknown>): void {
    for (const output of this.displays.get(displayId(content) ?? "") ?? []) {
      output.data = content.data as Record<string, unknown>;
      output.metadata = (content.metadata ?? {}) as Record<string, unknown>;
    }
  }
}

function displayId(content: Record<string, unknown>): string | undefined {
  return (content.transient as { display_id?: string } | undefined)?.display_id;
}

function asOutput(type: string, content: Record<string, unknown>): CellOutput | undefined {
  const data = content.data as Record<string, unknown>;
  const metadata = (content.metadata ?? {}) as Record<string, unknown>;
  switch (type) {
    case "stream":
      return { output_type: "stream", name: content.name as "stdout", text: String(content.text) };
    case "display_data":
      return { output_type: "display_data", data, metadata };
    case "execute_result": {
      const count = content.execution_count as number | null;
      return { output_type: "execute_result", data, metadata, execution_count: count };
    }
    case "error":
      return {
        output_type: "error",
        ename: String(content.ename),
        evalue: String(content.evalue),
        traceback: content.traceback as string[],
      };
    default:
      return undefined;
  }
}
