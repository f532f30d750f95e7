import { randomUUID } from "node:crypto";
import { InputError } from "../../engine/errors.js";
import type { MimeBundle } from "../mime.js";
import { type BufferPath, joinBuffers, separateBuffers } from "./buffers.js";
import { type Comm, type CommMessage, type Comms, kernelComms } from "./comms.js";

/** What a front end is told to draw: a model that it knows by its id. */
export const WIDGET_VIEW_TYPE = "application/vnd.jupyter.widget-view+json";

/** Of Jupyter's widget messages: https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/schema/messages.md */
const PROTOCOL_VERSION = "2.1.0";
const TARGET = "jupyter.widget";
const CONTROL_TARGET = "jupyter.widget.control";

/** Which class of which JavaScript module a front end makes of a model. */
export interface WidgetClass {
  readonly module: string;
  /** A range of versions, as npm's. */
  readonly version: string;
  readonly model: string;
  /** The view's class; null for what is not seen, as a layout. */
  readonly view: string | null;
}

/** The module of what all widgets share. */
export const WIDGET_BASE = { module: "@jupyter-widgets/base", version: "2.0.0" } as const;

type State = Record<string, unknown>;

/** Models live as long as a front end may ask for them: until they are closed or the kernel ends. */
const open = new Map<string, WidgetModel>();
let answering: Comms | undefined;

/**
 * A model that front ends hold as well (JupyterLab with ipywidgets' manager, VS Code, Colab, the classic notebook), by Jupyter's
 * widget messages. What is set here is sent to them; what they set is told to the listeners.
 */
export class WidgetModel {
  readonly id: string;
  readonly #state: State;
  readonly #comm: Comm;
  readonly #changed: ((changes: Readonly<State>) => unknown)[] = [];
  readonly #told: ((content: unknown, buffers: readonly DataView[]) => unknown)[] = [];

  /**
   * @param id letters and digits, of this model alone in the notebook
   * @throws InputError outside of a notebook
   */
  constructor(
    { module, version, model, view }: WidgetClass,
    state: Readonly<State>,
    id = randomUUID().replaceAll("-", ""),
  ) {
    const comms = kernelComms();
    if (!comms) throw new InputError("a widget needs a notebook: this process has no kernel's comms");
    answerControl(comms);
    this.id = id;
    this.#state = {
      ...{ _model_module: module, _model_module_version: version, _model_name: model },
      ...{ _view_module: module, _view_module_version: version, _view_name: view, _view_count: null },
      ...state,
    };
    const { state: plain, paths, buffers } = separateBuffers(this.#state);
    this.#comm = comms.open(
      TARGET,
      { state: plain, buffer_paths: paths },
      { id, metadata: { version: PROTOCOL_VERSION }, buffers },
    );
    this.#comm.onMessage((message) => this.#receive(message));
    this.#comm.onClose(() => open.delete(id));
    open.set(id, this);
  }

  /** A layout, which every widget refers to. */
  static layout(id?: string): WidgetModel {
    return new WidgetModel({ ...WIDGET_BASE, model: "LayoutModel", view: "LayoutView" }, {}, id);
  }

  get isOpen(): boolean {
    return this.#comm.isOpen;
  }

  /** How other models name this one in their state. */
  get reference(): string {
    return `IPY_MODEL_${this.id}`;
  }

  /** What shows it. */
  get view(): MimeBundle {
    return { [WIDGET_VIEW_TYPE]: { version_major: 2, version_minor: 0, model_id: this.id } };
  }

  get(name: string): unknown {
    return this.#state[name];
  }

  set(changes: Readonly<State>): void {
    Object.assign(this.#state, changes);
    this.#update("update", changes);
  }

  /** Calls back with what a front end has set. Its next message waits for the promise. */
  onChange(listener: (changes: Readonly<State>) => unknown): void {
    this.#changed.push(listener);
  }

  /** Calls back with messages of the view's own. */
  onCustom(listener: (content: unknown, buffers: readonly DataView[]) => unknown): void {
    this.#told.push(listener);
  }

  sendCustom(content: unknown, buffers: readonly Uint8Array[] = []): void {
    this.#comm.send({ method: "custom", content }, { buffers });
  }

  close(): void {
    open.delete(this.id);
    this.#comm.close();
  }

  /** As the control comm tells a front end that has been opened again. */
  static states(): { states: State; buffer_paths: BufferPath[]; buffers: Uint8Array[] } {
    const all = { states: {} as State, buffer_paths: [] as BufferPath[], buffers: [] as Uint8Array[] };
    for (const [id, model] of open) {
      const { state, paths, buffers } = separateBuffers(model.#state);
      all.states[id] = {
        model_name: state._model_name,
        model_module: state._model_module,
        model_module_version: state._model_module_version,
        state,
      };
      all.buffer_paths.push(...paths.map((path) => [id, "state", ...path]));
      all.buffers.push(...buffers);
    }
    return all;
  }

  #update(method: "update" | "echo_update", changes: Readonly<State>): void {
    const { state, paths, buffers } = separateBuffers(changes);
    this.#comm.send({ method, state, buffer_paths: paths }, { buffers });
  }

  async #receive({ data, buffers }: CommMessage): Promise<void> {
    const { method, state, buffer_paths, content } = (data ?? {}) as Partial<{
      method: string;
      state: State;
      buffer_paths: BufferPath[];
      content: unknown;
    }>;
    if (method === "request_state") this.#update("update", this.#state);
    else if (method === "custom") {
      const views = buffers.map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      for (const listener of this.#told) await listener(content, views);
    } else if (method === "update" && typeof state === "object" && state !== null) {
      const changes = joinBuffers(state, buffer_paths ?? [], buffers);
      Object.assign(this.#state, changes);
      this.#update("echo_update", changes); // for the other front ends, and the views of the same model elsewhere
      for (const listener of this.#changed) await listener(changes);
    }
  }
}

/** Answers a front end that was opened after the models were made. */
function answerControl(comms: Comms): void {
  if (answering === comms) return;
  answering = comms;
  comms.registerTarget(CONTROL_TARGET, (comm) => {
    comm.onMessage(({ data }) => {
      if ((data as { method?: string } | null)?.method !== "request_states") return;
      const { buffers, ...states } = WidgetModel.states();
      comm.send({ method: "update_states", ...states }, { buffers });
    });
  });
}
