/// <reference lib="dom" />
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { Message } from "@lumino/messaging";
import type * as Widgets from "@lumino/widgets";
import { type Comm, host, type NotebookPanel, type Renderer } from "./host.js";
import { type SharedScope, sharedModule } from "./shared.js";

/**
 * Draws `application/vnd.firstframe.controls.v1+json`: controls above an output. Where the notebook has ipywidgets' manager and the
 * kernel the widget, that is what is shown. Else the controls are our own: their values go to the kernel over a comm, what comes
 * back replaces the output. Without a kernel the output is the one in the notebook and the controls are off.
 *
 * The notebook's output is trusted as the notebook is; only the kernel's own answers are trusted by themselves. A notebook that is
 * not trusted has no word with the kernel either.
 */

const MIME_TYPE = "application/vnd.firstframe.controls.v1+json";
const TARGET = "firstframe.controls";
const WIDGET_VIEW_TYPE = "application/vnd.jupyter.widget-view+json";

type Control = { readonly name: string; readonly label: string } & (
  | {
      readonly kind: "slider";
      readonly min: number;
      readonly max: number;
      readonly step: number;
      readonly value: number;
    }
  | { readonly kind: "choice"; readonly options: readonly string[]; readonly value: string }
  | { readonly kind: "switch"; readonly value: boolean }
);

interface Spec {
  readonly id: string;
  readonly controls: readonly Control[];
}

interface Reply {
  readonly ready?: true;
  readonly bundle?: object;
  readonly error?: string;
}

const OFF = "Run the cell to use these controls.";
const UNTRUSTED = "This notebook is not trusted: run the cell to use these controls.";
const UNSAFE = "This notebook is not trusted: run the cell to see its output.";

/** Controls and choices together; a page with more is busy for minutes. */
const MOST_INPUTS = 20_000;

const STYLE = `
.firstframe-controls { padding: 4px 0; }
.firstframe-controls-row { display: flex; align-items: center; gap: 8px; margin: 2px 0; font: var(--jp-ui-font-size1) var(--jp-ui-font-family); color: var(--jp-ui-font-color1); }
.firstframe-controls-row label { min-width: 72px; text-align: right; }
.firstframe-controls-row input[type="range"] { width: 320px; accent-color: var(--jp-brand-color1); }
.firstframe-controls-row select { color: inherit; background: var(--jp-layout-color1); border: 1px solid var(--jp-border-color1); padding: 2px 4px; }
.firstframe-controls-row output { min-width: 64px; font-variant-numeric: tabular-nums; }
.firstframe-controls-error { color: var(--jp-error-color1); font-family: var(--jp-code-font-family); white-space: pre-wrap; }
.firstframe-controls-note { color: var(--jp-ui-font-color2); font: var(--jp-ui-font-size0) var(--jp-ui-font-family); }
`;

export default async function extension(scope: SharedScope): Promise<IRenderMime.IExtension[]> {
  const [{ Panel, Widget }, { MimeModel }] = await Promise.all([
    sharedModule<typeof Widgets>(scope, "@lumino/widgets"),
    sharedModule<{ MimeModel: new (options: object) => unknown }>(scope, "@jupyterlab/rendermime"),
  ]);
  const style = document.createElement("style");
  style.textContent = STYLE;
  document.head.append(style);

  class ControlsRenderer extends Panel implements IRenderMime.IRenderer {
    readonly #form = new Widget({ node: document.createElement("form") });
    readonly #note = document.createElement("div");
    readonly #values = new Map<string, unknown>();
    #output: { mimeType: string; renderer: Renderer } | undefined;
    #notebook: NotebookPanel | undefined;
    #spec: Spec | undefined;
    #trusted = false;
    #comm: Comm | undefined;
    /** ipywidgets' view of the same controls: what names it, and its renderer once there is one. */
    #widget: { readonly view: unknown; renderer?: Renderer } | undefined;
    /** A reply is due; what changes meanwhile is sent after it. */
    #waiting = false;
    #changed = false;

    constructor() {
      super();
      this.#form.addClass("firstframe-controls");
      this.#form.node.addEventListener("submit", (event) => event.preventDefault());
      this.#note.className = "firstframe-controls-note";
      this.addWidget(this.#form);
    }

    async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
      this.#disconnect();
      this.#spec = undefined;
      this.#trusted = model.trusted;
      this.#values.clear();
      this.#widget?.renderer?.dispose();
      const { [MIME_TYPE]: value, [WIDGET_VIEW_TYPE]: view, ...first } = model.data;
      this.#widget = view === undefined ? undefined : { view };
      this.#hideOwn(false);
      try {
        const spec = readSpec(value);
        this.#form.node.replaceChildren(...spec.controls.map((control) => this.#row(spec.id, control)));
        this.#spec = spec;
        this.#enable(false, model.trusted ? "" : UNTRUSTED);
      } catch (error) {
        this.#form.node.replaceChildren();
        this.#tell(`These controls could not be shown: ${(error as Error).message}`, true);
      }
      this.#form.node.append(this.#note);
      for (const input of this.#form.node.querySelectorAll<HTMLElement>("input, select")) {
        input.dataset.lmSuppressShortcuts = "true"; // arrow keys move the sliders, not the notebook
      }
      await this.#show(first, model.trusted);
      await this.#connect();
    }

    #hideOwn(hidden: boolean): void {
      this.#form.setHidden(hidden);
      (this.#output?.renderer as Widgets.Widget | undefined)?.setHidden(hidden);
    }

    /** Lets the notebook's widget manager draw the controls. @returns false if it has none, or doesn't know the widget */
    async #drawWidget(notebook: NotebookPanel): Promise<boolean> {
      const widget = this.#widget;
      if (!widget || !(await hasManager(notebook)) || this.isDisposed || this.#widget !== widget)
        return false;
      if (widget.renderer) return true;
      const { rendermime } = notebook.content;
      const renderer = rendermime.createRenderer(WIDGET_VIEW_TYPE);
      widget.renderer = renderer;
      (renderer as unknown as Widgets.Widget).hide();
      this.addWidget(renderer as unknown as Widgets.Widget);
      const model = new MimeModel({ data: { [WIDGET_VIEW_TYPE]: widget.view }, trusted: true });
      const drawn = await drawnBy(renderer, model);
      if (this.isDisposed || this.#widget !== widget) return true;
      if (drawn) {
        this.#hideOwn(true);
        (renderer as unknown as Widgets.Widget).show();
      } else {
        renderer.dispose();
        this.#widget = undefined;
      }
      return drawn;
    }

    #row(spec: string, control: Control): HTMLElement {
      const row = document.createElement("div");
      row.className = "firstframe-controls-row";
      const label = document.createElement("label");
      label.textContent = control.label;
      const id = `firstframe-${spec}-${control.name}`;
      label.htmlFor = id;
      this.#values.set(control.name, control.value);
      const set = (value: unknown) => {
        this.#values.set(control.name, value);
        this.#changed = true;
        this.#send();
      };
      if (control.kind === "slider") {
        const { min, max, step, value } = control;
        const input = Object.assign(document.createElement("input"), { type: "range", id, min, max, step });
        input.value = String(value); // after the limits, which would clamp it
        const shown = document.createElement("output");
        shown.textContent = text(value);
        input.addEventListener("input", () => {
          shown.textContent = text(input.valueAsNumber);
          set(input.valueAsNumber);
        });
        row.append(label, input, shown);
      } else if (control.kind === "choice") {
        const select = Object.assign(document.createElement("select"), { id });
        select.append(...control.options.map((option) => new Option(option, option)));
        select.value = control.value;
        select.addEventListener("change", () => set(select.value));
        row.append(label, select);
      } else {
        const input = Object.assign(document.createElement("input"), {
          type: "checkbox",
          id,
          checked: control.value,
        });
        input.addEventListener("change", () => set(input.checked));
        row.append(label, input);
      }
      return row;
    }

    #enable(on: boolean, note = ""): void {
      for (const input of this.#form.node.querySelectorAll("input, select")) {
        (input as HTMLInputElement).disabled = !on;
      }
      this.#tell(note, false);
    }

    #tell(note: string, failed: boolean): void {
      this.#note.className = failed ? "firstframe-controls-error" : "firstframe-controls-note";
      this.#note.textContent = note;
    }

    /**
     * Draws a bundle below the controls; a renderer that is there already takes the new content.
     *
     * @param trusted whether it may run scripts: as the notebook is trusted, or since the kernel sent it just now
     */
    async #show(bundle: object, trusted: boolean): Promise<void> {
      const { rendermime } = await host();
      if (this.isDisposed) return;
      const mimeType = rendermime.preferredMimeType(bundle, trusted ? "any" : "ensure");
      if (mimeType === undefined) {
        this.#output?.renderer.dispose();
        this.#output = undefined;
        if (this.#spec && !trusted && Object.keys(bundle).length > 0) this.#tell(UNSAFE, false);
        return;
      }
      if (this.#output?.mimeType !== mimeType) {
        this.#output?.renderer.dispose();
        this.#output = { mimeType, renderer: rendermime.createRenderer(mimeType) };
        this.addWidget(this.#output.renderer as unknown as Widgets.Widget);
      }
      await this.#output.renderer.renderModel(new MimeModel({ data: bundle, trusted }));
    }

    /** The kernel may not know these controls: it was restarted since, or the notebook was only opened. */
    async #connect(): Promise<void> {
      const { notebookOf } = await host();
      // Not even whether the kernel knows these controls is a stranger's to ask.
      if (this.isDisposed || !this.isAttached || this.#comm || !this.#spec || !this.#trusted) return;
      const notebook = notebookOf(this.node);
      if (!notebook) return;
      if (!this.#notebook) {
        this.#notebook = notebook;
        notebook.sessionContext.kernelChanged.connect(this.#reconnect);
        notebook.sessionContext.statusChanged.connect(this.#onStatus);
      }
      const kernel = notebook.sessionContext.session?.kernel;
      if (!kernel) {
        this.#enable(false, OFF);
        return;
      }
      if ((await this.#drawWidget(notebook)) || this.isDisposed || this.#comm || !this.#spec) return;
      const comm = kernel.createComm(TARGET);
      this.#comm = comm;
      comm.onMsg = ({ content }) => {
        if (this.#comm === comm) void this.#receive((content.data ?? {}) as Reply);
      };
      comm.onClose = () => {
        if (this.#comm !== comm || this.isDisposed) return;
        this.#comm = undefined;
        this.#enable(false, OFF);
      };
      comm.open({ id: this.#spec.id });
    }

    readonly #reconnect = () => {
      this.#comm = undefined;
      this.#waiting = false;
      void this.#connect();
    };

    readonly #onStatus = () => {
      const status = this.#notebook?.sessionContext.kernelDisplayStatus ?? "";
      if (!/restarting|terminating|dead|autorestarting/.test(status)) return;
      this.#comm = undefined;
      this.#waiting = false;
      if (this.#spec && this.#trusted) this.#enable(false, OFF);
    };

    #disconnect(): void {
      const comm = this.#comm;
      this.#comm = undefined;
      this.#waiting = false;
      this.#changed = false;
      if (comm && !comm.isDisposed) comm.close();
    }

    async #receive(reply: Reply): Promise<void> {
      if (this.isDisposed) return;
      if (reply.ready) return this.#enable(true);
      this.#waiting = false;
      this.#send();
      this.#tell(reply.error ?? "", reply.error !== undefined);
      if (reply.bundle) await this.#show(reply.bundle, true);
    }

    #send(): void {
      if (!this.#comm || this.#comm.isDisposed || this.#waiting || !this.#changed) return;
      this.#changed = false;
      this.#waiting = true;
      this.#comm.send({ values: Object.fromEntries(this.#values) });
    }

    protected override onAfterAttach(message: Message): void {
      super.onAfterAttach(message);
      void this.#connect();
    }

    override dispose(): void {
      if (this.isDisposed) return;
      this.#notebook?.sessionContext.kernelChanged.disconnect(this.#reconnect);
      this.#notebook?.sessionContext.statusChanged.disconnect(this.#onStatus);
      this.#disconnect();
      super.dispose();
    }
  }

  return [
    {
      id: "firstframe:controls",
      rendererFactory: {
        safe: true,
        mimeTypes: [MIME_TYPE],
        createRenderer: () => new ControlsRenderer(),
      },
      // Before ipywidgets' own view, which it shows if there is one, and before the pictures that stand in for it elsewhere.
      rank: -11,
      dataType: "json",
    },
  ];
}

/** Whether the notebook's views of widgets are drawn by a manager; until its kernel is there, all notebooks share one that only waits. */
async function hasManager(notebook: NotebookPanel): Promise<boolean> {
  const { rendermime } = await host();
  await notebook.sessionContext.ready;
  await new Promise((resolve) => setTimeout(resolve)); // the manager waited for the same
  const own = notebook.content.rendermime;
  return (
    own.mimeTypes.includes(WIDGET_VIEW_TYPE) &&
    own.getFactory(WIDGET_VIEW_TYPE) !== rendermime.getFactory(WIDGET_VIEW_TYPE)
  );
}

/**
 * Has ipywidgets' renderer draw a view. It says in words that it waits for the kernel's widgets, or that the model is not there.
 *
 * @returns whether there is a view
 */
async function drawnBy(renderer: Renderer, model: unknown): Promise<boolean> {
  const { node } = renderer;
  await renderer.renderModel(model);
  const state = () =>
    node.firstElementChild ? true : /^Error\b/.test(node.textContent ?? "") ? false : undefined;
  return new Promise((resolve) => {
    const observer = new MutationObserver(() => settle());
    const settle = () => {
      const drawn = state();
      if (drawn === undefined) return;
      observer.disconnect();
      resolve(drawn);
    };
    observer.observe(node, { childList: true, characterData: true, subtree: true });
    settle();
  });
}

function text(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** The controls of a notebook, which may be anybody's. @throws Error that says what was expected and what was found */
function readSpec(value: unknown): Spec {
  expect(isObject(value), "an object", value);
  expect(typeof value.id === "string", "id to be a text", value.id);
  expect(Array.isArray(value.controls), "controls to be an array", value.controls);
  const controls = value.controls as unknown[];
  let inputs = controls.length;
  controls.forEach((control, i) => {
    const key = `controls[${i}]`;
    expect(isObject(control), `${key} to be an object`, control);
    for (const name of ["name", "label"]) {
      expect(typeof control[name] === "string", `${key}.${name} to be a text`, control[name]);
    }
    if (control.kind === "slider") {
      for (const name of ["min", "max", "step", "value"]) {
        expect(Number.isFinite(control[name]), `${key}.${name} to be a number`, control[name]);
      }
    } else if (control.kind === "choice") {
      const { options } = control;
      const texts = Array.isArray(options) && options.every((option) => typeof option === "string");
      expect(texts, `${key}.options to be texts`, options);
      expect(typeof control.value === "string", `${key}.value to be a text`, control.value);
      inputs += (options as string[]).length;
    } else {
      expect(control.kind === "switch", `${key}.kind to be slider, choice or switch`, control.kind);
      expect(typeof control.value === "boolean", `${key}.value to be true or false`, control.value);
    }
  });
  expect(inputs <= MOST_INPUTS, `at most ${MOST_INPUTS} controls and choices`, inputs);
  return value as unknown as Spec;
}

function expect(holds: boolean, expected: string, found: unknown): asserts holds {
  if (holds) return;
  const shown = JSON.stringify(found) ?? "nothing";
  throw new Error(`expected ${expected}, found ${shown.length > 60 ? `${shown.slice(0, 60)}…` : shown}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
