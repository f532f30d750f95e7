import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { before, describe, test } from "node:test";
import type { Message } from "../../kernel/client/client.js";
import { startKernel } from "./support.js";

/**
 * Widgets by Jupyter's messages, as ipywidgets' managers (JupyterLab, VS Code, Colab, the classic notebook) send and take them:
 * https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/schema/messages.md
 */

const VIEW = "application/vnd.jupyter.widget-view+json";

interface Data {
  readonly method: string;
  readonly state: Record<string, unknown>;
  readonly states: Record<string, { model_name: string; state: Record<string, unknown> }>;
  readonly content: unknown;
  readonly buffer_paths: unknown[];
}

const kernel = await startKernel();

/** What the kernel sends over comms, from now on. */
function heard() {
  const all: Message[] = [];
  const waiting: { fits: (message: Message) => boolean; resolve: (message: Message) => void }[] = [];
  kernel.client.listen((message) => {
    all.push(message);
    for (const { fits, resolve } of waiting) if (fits(message)) resolve(message);
  });
  const first = (fits: (message: Message) => boolean): Promise<Message> => {
    const found = all.find(fits);
    return found ? Promise.resolve(found) : new Promise((resolve) => waiting.push({ fits, resolve }));
  };
  const ofComm = (type: string, id: string, fits: (data: Data) => boolean = () => true) =>
    first(
      ({ header, content }) =>
        header.msg_type === type && content.comm_id === id && fits(content.data as Data),
    );
  return { ofComm };
}

function send(id: string, data: object, buffers: readonly Uint8Array[] = []): void {
  kernel.client.post("comm_msg", { comm_id: id, data }, buffers);
}

const opened = (messages: readonly Message[]) =>
  messages
    .filter(({ header }) => header.msg_type === "comm_open")
    .map(({ content, metadata }) => {
      const { state, buffer_paths } = content.data as Data;
      return { id: String(content.comm_id), target: content.target_name, metadata, state, buffer_paths };
    });

function viewOf(messages: readonly Message[]): string {
  const [bundle] = messages
    .filter(({ header }) => header.msg_type === "execute_result")
    .map(({ content }) => content.data as Record<string, unknown>);
  const view = bundle?.[VIEW] as { model_id: string; version_major: number };
  assert.equal(view.version_major, 2);
  return view.model_id;
}

describe("interact", () => {
  let models: ReturnType<typeof opened>;
  let root: (typeof models)[number];
  const of = (name: string) => models.find(({ state }) => state._model_name === name)!;
  const outputsOf = (state: Record<string, unknown>) =>
    state.outputs as { output_type: string; data: object; ename: string; evalue: string }[];

  before(async () => {
    const { messages } = await kernel.run(`import { interact } from "firstframe";
interact({ n: [1, 9], s: { min: 0, max: 1, step: 0.25 }, kind: ["bar", "line"], on: true }, ({ n, s, kind, on }) => {
  if (n === 9) throw new RangeError("nine is too many");
  return \`\${n} \${s} \${kind} \${on}\`;
})`);
    models = opened(messages);
    root = models.find(({ id }) => id === viewOf(messages))!;
  });

  test("is ipywidgets' own models, each opened before it is named", () => {
    assert.equal(root.state._model_name, "VBoxModel");
    const names = models.map(({ state }) => state._model_name);
    assert.deepEqual(
      ["IntSliderModel", "FloatSliderModel", "DropdownModel", "CheckboxModel", "OutputModel"].filter(
        (name) => !names.includes(name),
      ),
      [],
    );
    const known = new Set<string>();
    for (const { id, target, metadata, state } of models) {
      assert.deepEqual([target, metadata.version], ["jupyter.widget", "2.1.0"]);
      for (const name of JSON.stringify(state).matchAll(/IPY_MODEL_(\w+)/g)) assert.ok(known.has(name[1]!));
      known.add(id);
    }
    assert.deepEqual(outputsOf(of("OutputModel").state), [
      { output_type: "display_data", data: { "text/plain": "1 0 bar true" }, metadata: {} },
    ]);
  });

  test("draws again with what each control is set to, and goes on after an error", async () => {
    const output = of("OutputModel").id;
    const { ofComm } = heard();
    const drawn = (text: string) =>
      ofComm("comm_msg", output, ({ method, state }) => {
        const [first] = method === "update" ? outputsOf(state) : [];
        return first?.output_type === "error"
          ? `${first.ename}: ${first.evalue}` === text
          : (first?.data as Record<string, string> | undefined)?.["text/plain"] === text;
      });
    const set = (name: string, state: object) =>
      send(of(name).id, { method: "update", state, buffer_paths: [] });
    set("IntSliderModel", { value: 5 });
    await drawn("5 0 bar true");
    set("FloatSliderModel", { value: 0.25 });
    await drawn("5 0.25 bar true");
    set("DropdownModel", { index: 1 });
    await drawn("5 0.25 line true");
    set("CheckboxModel", { value: false });
    await drawn("5 0.25 line false");
    set("IntSliderModel", { value: 9 });
    await drawn("RangeError: nine is too many");
    set("IntSliderModel", { value: "no number" });
    set("IntSliderModel", { value: 2 });
    await drawn("2 0.25 line false");
    const { content } = await ofComm("comm_msg", of("IntSliderModel").id, ({ state }) => state.value === 2);
    assert.equal((content.data as Data).method, "echo_update", "what other front ends are told");
  });

  test("tells a front end that is opened later all it has", async () => {
    const { ofComm } = heard();
    const id = randomUUID();
    kernel.client.post("comm_open", { comm_id: id, target_name: "jupyter.widget.control", data: {} });
    send(id, { method: "request_states" });
    const { states } = (await ofComm("comm_msg", id)).content.data as Data;
    assert.deepEqual(
      models.filter((model) => !(model.id in states)).map((model) => model.id),
      [],
    );
    assert.equal(states[of("DropdownModel").id]!.state.index, 1);
    const { content } = await kernel.client.request("comm_info_request", { target_name: "jupyter.widget" });
    assert.ok(root.id in (content.comms as object));

    send(of("CheckboxModel").id, { method: "request_state" });
    const told = await ofComm("comm_msg", of("CheckboxModel").id, ({ method }) => method === "update");
    assert.equal((told.content.data as Data).state.value, false);
  });

  test("has the same ids when its notebook is run again", async () => {
    const again = await startKernel();
    const { messages } = await again.run(
      `import { interact } from "firstframe";\ninteract({ n: [1, 9], s: { min: 0, max: 1, step: 0.25 }, kind: ["bar", "line"], on: true }, String)`,
    );
    assert.equal(viewOf(messages), root.id);
  });

  test("is a picture, not a widget, in a notebook's file", async () => {
    const { outputs } = await kernel.run("interact({ n: [1, 2] }, () => ({ a: 1 }))");
    const [{ data } = { data: {} }] = outputs as { data: object }[];
    assert.deepEqual(Object.keys(data), ["application/vnd.firstframe.controls.v1+json", "text/plain"]);
  });
});

describe("interact, drawn by our own renderer", () => {
  const CONTROLS = "application/vnd.firstframe.controls.v1+json";
  const shownBy = ({ messages }: { messages: readonly Message[] }) => {
    const [result] = messages.filter(({ header }) => header.msg_type === "execute_result");
    return (result!.content.data as Record<string, { id: string; controls: object }>)[CONTROLS]!;
  };
  const open = (id: string) => {
    const comm = randomUUID();
    const { ofComm } = heard();
    kernel.client.post("comm_open", { comm_id: comm, target_name: "firstframe.controls", data: { id } });
    return { comm, ofComm };
  };

  test("says what its controls are", async () => {
    const ran = await kernel.run(`interact(
  { frame: [0, 80], sigma: { min: 0, max: 1, value: 0.5, label: "σ" }, mode: ["clean", "noisy"], on: true },
  ({ frame, sigma, mode, on }) => \`\${frame.toFixed(0)} \${sigma.toFixed(1)} \${mode.toUpperCase()} \${on}\`,
)`);
    assert.equal(ran.text, "0 0.5 CLEAN true");
    assert.deepEqual(shownBy(ran).controls, [
      { name: "frame", label: "frame", kind: "slider", min: 0, max: 80, step: 1, value: 0 },
      { name: "sigma", label: "σ", kind: "slider", min: 0, max: 1, step: 0.01, value: 0.5 },
      { name: "mode", label: "mode", kind: "choice", options: ["clean", "noisy"], value: "clean" },
      { name: "on", label: "on", kind: "switch", value: true },
    ]);
  });

  test("draws what is asked for, and goes on after an error", async () => {
    const ran = await kernel.run(`interact({ n: [0, 9] }, async ({ n }) => {
  await null;
  if (n === 7) throw new RangeError("not seven");
  return \`n = \${n}\`;
})`);
    const { comm, ofComm } = open(shownBy(ran).id);
    const reply = async (n: number) => {
      send(comm, { values: { n } });
      const { content } = await ofComm(
        "comm_msg",
        comm,
        (data) => (data as { values?: { n: number } }).values?.n === n,
      );
      return content.data;
    };
    await ofComm("comm_msg", comm, (data) => "ready" in data);
    assert.deepEqual(await reply(1), { values: { n: 1 }, bundle: { "text/plain": "n = 1" } });
    assert.deepEqual(await reply(7), { values: { n: 7 }, error: "RangeError: not seven" });
    assert.deepEqual(await reply(4), { values: { n: 4 }, bundle: { "text/plain": "n = 4" } });
  });

  test("refuses views of an earlier session", async () => {
    const { comm, ofComm } = open("of another session");
    await ofComm("comm_close", comm);
  });
});

describe("anywidget", () => {
  test("is the cell's JavaScript and state, and follows both sides", async () => {
    const { messages } = await kernel.run(`/// <reference lib="dom" />
import { anywidget } from "firstframe";
interface State { [name: string]: unknown; value: number; pixels: Uint8Array | DataView }
const counter = anywidget<State>({
  state: { value: 1, pixels: new Uint8Array([7, 8]) },
  imports: 'import * as d3 from "https://esm.sh/d3@7";',
  css: "button { color: red }",
  render({ model, el }: { model: { get(name: string): number }; el: HTMLElement }) {
    const shown = model.get("value") as number;
    el.textContent = String(shown);
  },
});
const seen: unknown[] = [];
counter.on("change:value", (value) => seen.push(value));
counter.on("change:pixels", (value) => seen.push([(value as DataView).getUint8(1)]));
counter.on("msg:custom", (content, [bytes]) => { seen.push(content, bytes!.getUint8(0)); counter.send({ got: content }, [new Uint8Array([9])]); });
counter`);
    const id = viewOf(messages);
    const { state, buffer_paths } = opened(messages).find((model) => model.id === id)!;
    assert.equal(state._model_module, "anywidget");
    assert.deepEqual([state.value, state._css, buffer_paths], [1, "button { color: red }", [["pixels"]]]);
    const open = messages.find(({ content }) => content.comm_id === id)!;
    assert.deepEqual([...open.buffers[0]!], [7, 8]);

    // The browser runs this text, which has no types any more.
    const esm = String(state._esm).replace(/^import .*\n/, "");
    const module = await import(`data:text/javascript,${encodeURIComponent(esm)}`);
    const el = { textContent: "" };
    module.default.render({ model: { get: () => 4 }, el });
    assert.equal(el.textContent, "4");
    assert.match(String(state._esm), /^import \* as d3/);

    const { ofComm } = heard();
    send(id, { method: "update", state: { value: 6 }, buffer_paths: [["pixels"]] }, [new Uint8Array([1, 2])]);
    send(id, { method: "custom", content: { hello: true } }, [new Uint8Array([5])]);
    const answer = await ofComm("comm_msg", id, ({ method }) => method === "custom");
    assert.deepEqual((answer.content.data as Data).content, { got: { hello: true } });
    assert.deepEqual([...answer.buffers[0]!], [9]);
    assert.equal((await kernel.run("JSON.stringify(seen)")).text, "'[6,[2],{\"hello\":true},5]'");
    assert.equal((await kernel.run("counter.get('value')")).text, "6");

    await kernel.run("counter.set({ value: 10 })");
    const update = await ofComm(
      "comm_msg",
      id,
      ({ method, state: set }) => method === "update" && set.value === 10,
    );
    assert.deepEqual((update.content.data as Data).buffer_paths, []);
    await kernel.run("counter.close()");
    await ofComm("comm_close", id);
  });

  test("a listener that throws is an error of its own, and the widget goes on", async () => {
    const { messages } =
      await kernel.run(`const fragile = anywidget({ state: { value: 0 }, esm: "export default {}" });
fragile.on("change:value", (value) => { if (value === 1) throw new Error("one"); });
fragile`);
    const id = viewOf(messages);
    const error = new Promise((resolve) => {
      kernel.client.listen(({ header, content }) => {
        if (header.msg_type === "error") resolve(content.evalue);
      });
    });
    const { ofComm } = heard();
    send(id, { method: "update", state: { value: 1 } });
    send(id, { method: "update", state: { value: 2 } });
    assert.equal(await error, "one");
    await ofComm("comm_msg", id, ({ state }) => state?.value === 2);
  });
});
