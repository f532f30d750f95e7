/// <reference lib="dom" />
/**
 * The parts of CodeMirror 6 that are used here, which JupyterLab shares (`@codemirror/state`, `@codemirror/view`).
 */

/** What an editor is made of; only CodeMirror looks into it. */
export type Extension = unknown;

export interface EditorState {
  readonly doc: { readonly length: number; toString(): string };
  readonly selection: { readonly main: { readonly head: number }; addRange(range: unknown): unknown };
  field<T>(field: Field<T>, require: false): T | undefined;
}

export interface EditorView {
  readonly dom: HTMLElement;
  readonly state: EditorState;
  dispatch(transaction: { readonly effects?: unknown; readonly selection?: unknown }): void;
  posAtCoords(coords: { readonly x: number; readonly y: number }): number | null;
}

export interface Transaction {
  readonly changes: unknown;
  readonly effects: readonly { readonly value: unknown; is(type: unknown): boolean }[];
}

export interface ViewUpdate {
  readonly view: EditorView;
  readonly docChanged: boolean;
  readonly selectionSet: boolean;
}

export interface Field<T> {
  readonly extension: Extension;
  /** Only tells fields of different values apart. */
  readonly value?: T;
}

/** Decorated ranges, in order. */
export interface Ranges<T> {
  map(changes: unknown): Ranges<T>;
  between(
    from: number,
    to: number,
    visit: (from: number, to: number, value: { readonly spec: T }) => void,
  ): void;
  readonly size: number;
}

export interface Tooltip {
  readonly pos: number;
  readonly end: number;
  readonly above: boolean;
  create(): { readonly dom: HTMLElement; destroy?(): void };
}

export interface StateModule {
  readonly StateEffect: { define(): { of(value: unknown): unknown } };
  readonly StateField: {
    define<T>(config: {
      create(): T;
      update(value: T, transaction: Transaction): T;
      provide(field: Field<T>): Extension;
    }): Field<T>;
  };
  readonly EditorSelection: { cursor(at: number): unknown };
  readonly Prec: { high(extension: Extension): Extension };
}

export interface ViewModule {
  readonly EditorView: {
    readonly decorations: { from(field: unknown): Extension };
    readonly updateListener: { of(listener: (update: ViewUpdate) => void): Extension };
    domEventHandlers(handlers: { mousedown(event: MouseEvent, view: EditorView): boolean }): Extension;
  };
  readonly Decoration: {
    readonly none: unknown;
    mark<T extends object>(spec: T): { range(from: number, to: number): unknown };
    set(ranges: readonly unknown[], sort: true): unknown;
  };
  readonly keymap: {
    of(
      bindings: readonly {
        readonly key: string;
        run(view: EditorView): boolean;
        readonly preventDefault?: true;
      }[],
    ): Extension;
  };
  hoverTooltip(
    source: (view: EditorView, at: number) => Promise<Tooltip | null>,
    options: { readonly hideOnChange: true },
  ): Extension;
}
