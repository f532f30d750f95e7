import { createHash } from "node:crypto";
import { InputError } from "../engine/errors.js";
import { type Displayable, jupyterDisplay, type MimeBundle, showAs } from "./mime.js";
import { type Comm, type Comms, kernelComms } from "./widgets/comms.js";
import { type Control, ControlsWidget, type Drawn } from "./widgets/controls.js";
import { latest } from "./widgets/latest.js";

/** A slider over numbers. */
export interface SliderOptions {
  readonly min: number;
  readonly max: number;
  /** Default: 1 between whole numbers, else a hundredth of the range. */
  readonly step?: number;
  /** Where it starts; `min` unless given. */
  readonly value?: number;
  /** Its label; default: the control's name. */
  readonly label?: string;
}

/**
 * What describes a control, as in ipywidgets: `[min, max]` or `[min, max, step]` is a slider, a list of strings a choice,
 * a boolean a check box.
 */
export type ControlSpec =
  | readonly [min: number, max: number]
  | readonly [min: number, max: number, step: number]
  | readonly string[]
  | boolean
  | SliderOptions;

/** A control's value: a number, one of the strings, or a boolean. */
export type ControlValue<S> = S extends boolean
  ? boolean
  : S extends readonly (infer T)[]
    ? T extends number
      ? number
      : T
    : number;

export type ControlValues<C extends Record<string, ControlSpec>> = {
  -readonly [K in keyof C]: ControlValue<C[K]>;
};

const MIME_TYPE = "application/vnd.firstframe.controls.v1+json";
const TARGET = "firstframe.controls";

/** Views keep what they draw alive, so a session with hundreds of them drops the oldest. */
const MOST_VIEWS = 100;
const views = new Map<string, View>();
let listening: Comms | undefined;

interface View {
  draw(values: Record<string, unknown>): Promise<Drawn>;
  readonly widget: ControlsWidget;
}

/** Controls and what they change. */
export class Interactive implements Displayable {
  readonly #id: string;
  readonly #controls: readonly Control[];
  readonly #render: (values: never) => unknown;

  constructor(controls: Readonly<Record<string, ControlSpec>>, render: (values: never) => unknown) {
    if (typeof render !== "function") {
      throw new InputError(`interact: expected a function of the controls' values, found ${typeof render}`);
    }
    this.#controls = Object.entries(controls).map(([name, spec]) => control(name, spec));
    if (this.#controls.length === 0)
      throw new InputError("interact: expected at least one control, found none");
    this.#render = render;
    this.#id = nextId(this.#controls);
  }

  /** Controls of ipywidgets for the front ends that have its manager, else our own, else the first result. */
  async [jupyterDisplay](): Promise<MimeBundle> {
    const values = Object.fromEntries(this.#controls.map(({ name, value }) => [name, value]));
    const bundle = await bundleOf(await this.#render(values as never));
    const comms = kernelComms();
    if (!comms) return bundle;
    listen(comms);
    return {
      ...this.#view({ bundle }).widget.view,
      [MIME_TYPE]: { id: this.#id, controls: this.#controls },
      ...bundle,
    };
  }

  static {
    showAs<Interactive>(Interactive, {
      line: (view) =>
        `Interactive(${view.#controls.map(({ name, value }) => `${name}=${value}`).join(", ")})`,
    });
  }

  #view(first: Drawn): View {
    const known = views.get(this.#id);
    if (known) return known;
    const draw = (values: Record<string, unknown>) => this.#draw(values);
    const widget = new ControlsWidget(this.#id.replace("-", "n"), this.#controls, first, draw);
    const view = { draw, widget };
    views.set(this.#id, view);
    for (const [oldest, { widget: dropped }] of views) {
      if (views.size <= MOST_VIEWS) break;
      views.delete(oldest);
      dropped.close();
    }
    return view;
  }

  async #draw(values: Record<string, unknown>): Promise<Drawn> {
    try {
      return { bundle: await bundleOf(await this.#render(values as never)) };
    } catch (error) {
      return { error: error instanceof Error ? error : { name: "Error", message: String(error) } };
    }
  }
}

/**
 * Shows a function's result with controls for its arguments; moving one draws again. Without a kernel (GitHub, web pages,
 * PDFs) it stays the first result.
 *
 * @example interact({ frame: [0, 80] }, ({ frame }) => frames(clip, { indices: [frame], width: 480 }))
 * @param controls name and kind of each control
 * @param render takes the controls' values; returns something that a notebook shows, or a promise of it
 * @throws InputError for an invalid control
 */
export function interact<const C extends Record<string, ControlSpec>>(
  controls: C,
  render: (values: ControlValues<C>) => unknown,
): Interactive {
  return new Interactive(controls, render);
}

const given = new Map<string, number>();

/** An id from the controls and a count of equal ones, so that running a notebook again does not change it. */
function nextId(controls: readonly Control[]): string {
  const kind = createHash("sha256").update(JSON.stringify(controls)).digest("hex").slice(0, 12);
  const count = (given.get(kind) ?? 0) + 1;
  given.set(kind, count);
  return `${kind}-${count}`;
}

function control(name: string, spec: ControlSpec): Control {
  if (typeof spec === "boolean") return { name, label: name, kind: "switch", value: spec };
  if (isStrings(spec)) return { name, label: name, kind: "choice", options: spec, value: spec[0]! };
  const options = (
    Array.isArray(spec) ? { min: spec[0], max: spec[1], step: spec[2] } : spec
  ) as SliderOptions;
  const { min, max, label = name } = options ?? {};
  const numbers = [min, max, options?.step ?? 1, options?.value ?? min];
  if (!numbers.every((value) => Number.isFinite(value)) || !(min < max)) {
    throw new InputError(
      `interact: ${name}: expected [min, max], [min, max, step], strings, a boolean or { min, max }, found ${JSON.stringify(spec)}`,
    );
  }
  const value = options.value ?? min;
  const step = options.step ?? ([min, max, value].every(Number.isInteger) ? 1 : (max - min) / 100);
  if (!(step > 0)) throw new InputError(`interact: ${name}: expected step > 0, found ${step}`);
  if (value < min || value > max) {
    throw new InputError(`interact: ${name}: expected a value from ${min} to ${max}, found ${value}`);
  }
  return { name, label, kind: "slider", min, max, step, value };
}

function isStrings(spec: ControlSpec): spec is readonly string[] {
  return Array.isArray(spec) && spec.length > 0 && spec.every((item) => typeof item === "string");
}

async function bundleOf(value: unknown): Promise<MimeBundle> {
  const method = (value as Partial<Displayable> | null | undefined)?.[jupyterDisplay];
  return typeof method === "function" ? method.call(value) : { "text/plain": String(value) };
}

/** Answers our own renderer. */
function listen(comms: Comms): void {
  if (listening !== comms) comms.registerTarget(TARGET, converse);
  listening = comms;
}

/** A front end opens a comm for a view, then sends values; the result for them is sent back. */
function converse(comm: Comm, { data }: { data: unknown }): void {
  const view = views.get((data as { id?: string })?.id ?? "");
  if (!view) {
    comm.close(); // of an earlier session
    return;
  }
  comm.send({ ready: true });
  const answer = latest(async (values: Record<string, unknown>) => {
    if (!comm.isOpen) return;
    const drawn = await view.draw(values);
    if (!comm.isOpen) return;
    if ("bundle" in drawn) comm.send({ values, bundle: drawn.bundle });
    else comm.send({ values, error: `${drawn.error.name}: ${drawn.error.message}` });
  });
  comm.onMessage((message) => {
    void answer((message.data as { values?: Record<string, unknown> }).values ?? {});
  });
}
