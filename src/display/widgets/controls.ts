import type { MimeBundle } from "../mime.js";
import { latest } from "./latest.js";
import { WIDGET_BASE, type WidgetClass, WidgetModel } from "./model.js";

/** A control as it is described to a front end: kernel/install/labextension/controls-renderer.ts reads this, and imports nothing of the package. */
export type Control = { readonly name: string; readonly label: string } & (
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

/** What a drawing ended in. */
export type Drawn = { readonly bundle: MimeBundle } | { readonly error: Pick<Error, "name" | "message"> };

type WidgetModule = Pick<WidgetClass, "module" | "version">;

const CONTROLS: WidgetModule = { module: "@jupyter-widgets/controls", version: "2.0.0" };
const OUTPUT: WidgetModule = { module: "@jupyter-widgets/output", version: "1.0.0" };

/**
 * Controls above an output, as ipywidgets' `interact` makes them: of its own models, for every front end that has its manager.
 */
export class ControlsWidget {
  readonly #models: WidgetModel[] = [];
  readonly #box: WidgetModel;

  /**
   * @param id letters and digits; the parts have ids that begin with it
   * @param draw is called with all values when one has changed; what it returns is the output's content
   */
  constructor(
    id: string,
    controls: readonly Control[],
    first: Drawn,
    draw: (values: Record<string, unknown>) => Promise<Drawn>,
  ) {
    const values = new Map<string, unknown>(controls.map(({ name, value }) => [name, value]));
    const output = this.#make(`${id}o`, OUTPUT, "Output", { msg_id: "", outputs: outputs(first) });
    const redraw = latest(async () => {
      const drawn = await draw(Object.fromEntries(values));
      if (output.isOpen) output.set({ outputs: outputs(drawn) });
    });
    const rows = controls.map((control, i) => {
      const model = this.#control(`${id}c${i}`, control);
      model.onChange((changes) => {
        const value = changedValue(control, changes);
        if (value === undefined) return;
        values.set(control.name, value);
        return redraw(undefined);
      });
      return model.reference;
    });
    const children = [...rows, output.reference];
    this.#box = this.#make(id, CONTROLS, "VBox", {
      _dom_classes: ["widget-interact"],
      box_style: "",
      children,
    });
  }

  get view(): MimeBundle {
    return this.#box.view;
  }

  close(): void {
    for (const model of this.#models) model.close();
  }

  #control(id: string, control: Control): WidgetModel {
    const { label, kind } = control;
    const shared = { description: label, disabled: false };
    if (kind === "slider") {
      const { min, max, step, value } = control;
      const whole = [min, max, step, value].every(Number.isInteger);
      return this.#make(id, CONTROLS, whole ? "IntSlider" : "FloatSlider", {
        ...{ ...shared, min, max, step, value, style: this.#style(id, "SliderStyle") },
        ...{ continuous_update: true, orientation: "horizontal", readout: true },
        readout_format: whole ? "d" : ".4~g",
      });
    }
    if (kind === "choice") {
      return this.#make(id, CONTROLS, "Dropdown", {
        ...{ ...shared, style: this.#style(id, "DescriptionStyle") },
        ...{ _options_labels: control.options, index: control.options.indexOf(control.value) },
      });
    }
    const style = this.#style(id, "CheckboxStyle");
    return this.#make(id, CONTROLS, "Checkbox", { ...shared, style, indent: true, value: control.value });
  }

  #make(id: string, module: WidgetModule, name: string, state: Record<string, unknown>): WidgetModel {
    const layout = this.#added(WidgetModel.layout(`${id}l`));
    const type = { ...module, model: `${name}Model`, view: `${name}View` };
    return this.#added(new WidgetModel(type, { layout: layout.reference, ...state }, id));
  }

  #style(id: string, name: string): string {
    const state = {
      _view_module: WIDGET_BASE.module,
      _view_module_version: WIDGET_BASE.version,
      description_width: "",
    };
    const type = { ...CONTROLS, model: `${name}Model`, view: "StyleView" };
    return this.#added(new WidgetModel(type, state, `${id}s`)).reference;
  }

  #added(model: WidgetModel): WidgetModel {
    this.#models.push(model);
    return model;
  }
}

/** What the notebook's file calls an output. */
function outputs(drawn: Drawn): object[] {
  if ("bundle" in drawn) return [{ output_type: "display_data", data: drawn.bundle, metadata: {} }];
  const { name, message } = drawn.error;
  return [{ output_type: "error", ename: name, evalue: message, traceback: [`${name}: ${message}`] }];
}

/** What a front end's change makes of a control's value; undefined if it is about something else, or no value of the control's. */
function changedValue(control: Control, changes: Readonly<Record<string, unknown>>): unknown {
  const { value, index } = changes;
  if (control.kind === "choice") return control.options[index as number];
  return typeof value === typeof control.value ? value : undefined;
}
