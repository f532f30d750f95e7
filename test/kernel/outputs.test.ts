import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type CellOutput, OutputCollector } from "../../kernel/client/outputs.js";
import type { Header, Message } from "../../kernel/protocol/messages.js";

const message = (msg_type: string, content: Record<string, unknown>): Message => ({
  identities: [],
  header: { msg_type } as Header,
  parent: {},
  metadata: {},
  content,
  buffers: [],
});
const print = (text: string, name = "stdout") => message("stream", { name, text });
const show = (text: string, display_id?: string) =>
  message("display_data", { data: { "text/plain": text }, metadata: {}, transient: { display_id } });

/** The outputs of one cell after these messages. */
function collected(
  limits: { printed: number; total: number } | undefined,
  ...messages: Message[]
): CellOutput[] {
  const { outputs, add, end } = new OutputCollector(limits).cell();
  for (const each of messages) add(each);
  end();
  return outputs;
}
const texts = (outputs: CellOutput[]) =>
  outputs.map((output) =>
    "text" in output ? output.text : "data" in output ? output.data["text/plain"] : output.evalue,
  );

describe("what is kept of a cell's outputs", () => {
  it("is all of them without a limit, and all that fits with one", () => {
    const messages = [print("a"), print("b"), show("c"), print("d", "stderr"), print("e")];
    for (const limits of [undefined, { printed: 1000, total: 1000 }]) {
      assert.deepEqual(texts(collected(limits, ...messages)), ["ab", "c", "d", "e"]);
    }
  });

  it("is the start and the end of what was printed, in order with all that was shown", () => {
    const messages = Array.from({ length: 100 }, (_, i) =>
      print(String(i % 10), i % 2 ? "stderr" : "stdout"),
    );
    messages.splice(50, 0, show("in the middle"));
    messages.push(show("last"));
    const outputs = texts(collected({ printed: 20, total: 1e6 }, ...messages));
    assert.deepEqual(outputs.slice(0, 11), [..."0123456789", "in the middle"]);
    assert.match(String(outputs[11]), /^\n\[80 characters are left out here: /);
    assert.deepEqual(outputs.slice(12), [..."0123456789", "last"]);
  });

  it("counts every character that is left out of one long text, and cuts none in two", () => {
    const outputs = texts(collected({ printed: 21, total: 1e6 }, print("😀".repeat(1000)))) as string[];
    assert.deepEqual([outputs[0], outputs[2]], ["😀".repeat(5), "😀".repeat(5)]);
    assert.match(outputs[1]!, /^\n\[1980 characters/);
    const lines = collected({ printed: 64, total: 1e6 }, print("\n".repeat(1000)));
    assert.deepEqual(
      texts(lines).map((text) => String(text).length > 10),
      [false, true, false],
      "a line costs more than its end",
    );
  });

  it("gives back what was cleared", () => {
    const limits = { printed: 20, total: 100 };
    const clear = message("clear_output", { wait: false });
    const shown = Array.from({ length: 10 }, (_, i) => [
      show(`${i}`.repeat(50)),
      print("x".repeat(30)),
      clear,
    ]).flat();
    assert.deepEqual(texts(collected(limits, ...shown, show("end"), print("y"))), ["end", "y"]);
    const later = message("clear_output", { wait: true });
    assert.deepEqual(texts(collected(limits, show("z".repeat(60)), later, show("w".repeat(60)))), [
      "w".repeat(60),
    ]);
  });

  it("says what there was no room for, by cell and by notebook", () => {
    const collector = new OutputCollector({ printed: 100, total: 200 });
    const first = collector.cell();
    first.add(show("a".repeat(100), "id"));
    first.add(show("b".repeat(100)));
    first.add(message("error", { ename: "E", evalue: "e".repeat(50_000), traceback: ["t"] }));
    first.end();
    assert.match(String(texts(first.outputs)[1]), /^\[text\/plain \(0\.0 MB\) is left out: /);
    assert.match(String(texts(first.outputs)[2]), /^e{10000} \.\.\.$/);
    const second = collector.cell();
    second.add(
      message("update_display_data", {
        data: { "text/plain": "c".repeat(150) },
        transient: { display_id: "id" },
      }),
    );
    assert.equal(texts(first.outputs)[0], "c".repeat(150));
    const third = collector.cell();
    third.add(print("d".repeat(60)));
    third.end();
    assert.match(texts(third.outputs).join(""), /^d+\n\[\d+ characters are left out here/);
  });

  it("takes nothing for granted that a kernel sends", () => {
    const outputs = collected(
      { printed: 100, total: 1000 },
      message("display_data", {}),
      message("execute_result", { data: null, metadata: 5 }),
      message("error", { traceback: "no list" }),
      message("stream", {}),
    );
    assert.deepEqual(
      outputs.map(({ output_type }) => output_type),
      ["display_data", "execute_result", "error", "stream"],
    );
  });
});
