import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { InputError } from "../../engine/errors.js";
import { jupyterDisplay, type MimeBundle, showAs } from "../mime.js";
import { WidgetModel } from "./model.js";

/** What a front end's functions are given; `model` has anywidget's `get`, `set`, `save_changes`, `on`, `off` and `send`. */
export interface AnyWidgetContext {
  // biome-ignore lint/suspicious/noExplicitAny: it is the browser's, whose types a notebook does not have
  readonly model: any;
  /** The element to draw in; not in `initialize`. */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  readonly el: any;
}

export interface AnyWidgetOptions<S extends Record<string, unknown>> {
  /** What both sides see. Numbers, texts, lists and objects; bytes (a Uint8Array, say) arrive as a DataView. */
  readonly state?: S;
  /**
   * The front end's part: JavaScript of an ES module whose default export has `render({ model, el })`, and `initialize({ model })` if
   * need be; or a URL, of a file that is read now, or of a page that the front end fetches.
   */
  readonly esm?: string | URL;
  /** Instead of `esm`, the function itself. It runs in the browser: what it uses must be in it, or in `imports`. */
  readonly render?: (context: AnyWidgetContext) => unknown;
  /** JavaScript before `render`, e.g. `import * as d3 from "https://esm.sh/d3@7"`. */
  readonly imports?: string;
  /** Style sheet, or the URL of one. */
  readonly css?: string | URL;
}

/** Any version will do: the state that is sent has been the same since the first. */
const ANYWIDGET = { module: "anywidget", version: "*", model: "AnyModel", view: "AnyView" };

type Listener = (value: never, ...rest: never[]) => unknown;

/** A widget of one's own: state that a cell and a front end's JavaScript share. Made by {@link anywidget}. */
export class AnyWidget<S extends Record<string, unknown>> {
  readonly #esm: string;
  readonly #css: string;
  readonly #state: S;
  readonly #listeners = new Map<string, Listener[]>();
  #model: WidgetModel | undefined;
  #layout: WidgetModel | undefined;

  /** @throws InputError for options without JavaScript, or with a file that can't be read */
  constructor(options: AnyWidgetOptions<S>) {
    this.#state = { ...(options.state ?? ({} as S)) };
    this.#esm = moduleOf(options);
    this.#css = sourceOf("css", options.css ?? "");
    for (const name of Object.keys(this.#state)) {
      if (!name.startsWith("_")) continue;
      throw new InputError(`anywidget: state: expected names that begin with a letter, found ${name}`);
    }
  }

  get<K extends keyof S & string>(name: K): S[K] {
    return this.#state[name];
  }

  /** Changes values here and in every front end. */
  set(changes: Partial<S>): void {
    this.#model?.set(changes);
    this.#change(changes);
  }

  /** Calls back with a value that has changed, on either side. */
  on<K extends keyof S & string>(event: `change:${K}`, listener: (value: S[K]) => unknown): this;
  /** Calls back with what the front end's `model.send` was given. */
  on(event: "msg:custom", listener: (content: unknown, buffers: readonly DataView[]) => unknown): this;
  on(event: string, listener: Listener): this {
    this.#listeners.set(event, [...this.#listenersOf(event), listener]);
    return this;
  }

  off(event: string, listener?: (value: never, ...rest: never[]) => unknown): this {
    const rest = listener && this.#listeners.get(event)?.filter((each) => each !== listener);
    this.#listeners.set(event, rest ?? []);
    return this;
  }

  /** Sends a message to the front end's `model.on("msg:custom", ...)`. @throws InputError outside of a notebook */
  send(content: unknown, buffers: readonly Uint8Array[] = []): void {
    this.#opened().sendCustom(content, buffers);
  }

  /** Takes it out of every front end. */
  close(): void {
    this.#model?.close();
    this.#layout?.close();
    this.#model = undefined;
  }

  [jupyterDisplay](): MimeBundle {
    const text = { "text/plain": this.#line() };
    return "comms" in globalThis ? { ...this.#opened().view, ...text } : text;
  }

  static {
    showAs<AnyWidget<Record<string, unknown>>>(AnyWidget, { line: (widget) => widget.#line() });
  }

  #line(): string {
    const values = Object.entries(this.#state).map(
      ([name, value]) =>
        `${name}=${inspect(value, { depth: 1, maxArrayLength: 4, breakLength: Number.POSITIVE_INFINITY })}`,
    );
    return `AnyWidget(${values.join(", ")})`;
  }

  /** Front ends that never show a widget need not know of it. */
  #opened(): WidgetModel {
    if (this.#model?.isOpen) return this.#model;
    const layout = WidgetModel.layout();
    const model = new WidgetModel(ANYWIDGET, {
      ...this.#state,
      ...{ _esm: this.#esm, _css: this.#css, layout: layout.reference, _dom_classes: [] },
      _anywidget_id: `firstframe.${createHash("sha256").update(this.#esm).digest("hex").slice(0, 12)}`,
    });
    model.onChange((changes) => {
      const own = Object.entries(changes).filter(([name]) => Object.hasOwn(this.#state, name));
      return Promise.all(this.#change(Object.fromEntries(own) as Partial<S>));
    });
    model.onCustom((content, buffers) =>
      Promise.all(
        this.#listenersOf("msg:custom").map((listener) => listener(content as never, buffers as never)),
      ),
    );
    this.#model = model;
    this.#layout = layout;
    return model;
  }

  /** @returns what the listeners returned */
  #change(changes: Partial<S>): unknown[] {
    Object.assign(this.#state, changes);
    return Object.entries(changes).flatMap(([name, value]) =>
      this.#listenersOf(`change:${name}`).map((listener) => listener(value as never)),
    );
  }

  #listenersOf(event: string): readonly Listener[] {
    return this.#listeners.get(event) ?? [];
  }
}

/**
 * A widget of one's own, by anywidget's front end: JupyterLab and the classic notebook with `pip install anywidget`, VS Code and
 * Colab as they are. The `model` in JavaScript is anywidget's (https://anywidget.dev/en/afm/).
 *
 * @example
 * const counter = anywidget({
 *   state: { value: 0 },
 *   render({ model, el }) {
 *     const button = el.ownerDocument.createElement("button");
 *     const show = () => (button.textContent = `count is ${model.get("value")}`);
 *     button.onclick = () => { model.set("value", model.get("value") + 1); model.save_changes(); };
 *     model.on("change:value", show);
 *     show();
 *     el.append(button);
 *   },
 * });
 * counter.on("change:value", (value) => console.log(value));
 * counter
 * @throws InputError for options without JavaScript, or with a file that can't be read
 */
export function anywidget<S extends Record<string, unknown>>(options: AnyWidgetOptions<S>): AnyWidget<S> {
  return new AnyWidget(options);
}

function moduleOf({ esm, render, imports = "" }: AnyWidgetOptions<Record<string, unknown>>): string {
  if (esm !== undefined && render !== undefined) {
    throw new InputError("anywidget: expected esm or render, found both");
  }
  if (esm !== undefined) return sourceOf("esm", esm);
  if (typeof render !== "function") {
    throw new InputError(`anywidget: expected esm or a function render, found ${typeof render}`);
  }
  const text = Function.prototype.toString.call(render);
  // A method's text, `render({ model }) {}`, is no expression, but a member of an object; its name may be any.
  const expression = /^(?:async\s+)?(?:function\b|\(|[\w$]+\s*=>)/.test(text)
    ? `(${text})`
    : `Object.values({ ${text} })[0]`;
  return `${imports}\nexport default { render: ${expression} };\n`;
}

/** @throws InputError for a file that can't be read */
function sourceOf(name: string, source: string | URL): string {
  if (typeof source === "string") return source;
  if (source.protocol !== "file:") return source.href;
  try {
    return readFileSync(fileURLToPath(source), "utf8");
  } catch (error) {
    throw new InputError(`anywidget: ${name}: ${source.href} could not be read: ${(error as Error).message}`);
  }
}
