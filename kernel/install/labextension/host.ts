/**
 * What renderers need of the application and are not given: the renderers of other types, and the kernel behind a notebook.
 * The plugin fills it in when JupyterLab starts it.
 */

import type { EditorView } from "./codemirror.js";

export interface Comm {
  onMsg: (message: { content: { data: unknown } }) => void;
  onClose: () => void;
  open(data: unknown): unknown;
  send(data: unknown): unknown;
  close(): unknown;
  readonly isDisposed: boolean;
}

export interface Kernel {
  /** What it says of itself once it is there. */
  readonly info: Promise<{ readonly implementation: string }>;
  createComm(target: string): Comm;
}

export interface Signal {
  connect(slot: () => void): void;
  disconnect(slot: () => void): void;
}

/** JupyterLab's editor of a cell, on top of CodeMirror's. */
export interface Editor {
  readonly editor: EditorView;
  getPositionAt(offset: number): EditorPosition | undefined;
  setSelection(range: { readonly start: EditorPosition; readonly end: EditorPosition }): void;
  setCursorPosition(position: EditorPosition): void;
  revealPosition(position: EditorPosition): void;
  focus(): void;
}

/** Both from 0. */
export interface EditorPosition {
  readonly line: number;
  readonly column: number;
}

export interface Cell {
  readonly node: Node;
  readonly ready: Promise<void>;
  readonly model: {
    readonly id: string;
    readonly type: string;
    readonly sharedModel: { getSource(): string };
  };
  /** Null until the cell has been in sight. */
  readonly editor: Editor | null;
  inputHidden: boolean;
}

export interface NotebookPanel {
  readonly node: Node;
  readonly disposed: Signal;
  readonly context: { readonly path: string };
  readonly content: {
    /** With the renderers of its own, as that of its widgets. */
    readonly rendermime: RenderMimeRegistry;
    readonly widgets: readonly Cell[];
    activeCellIndex: number;
    mode: "command" | "edit";
    scrollToCell(cell: Cell): Promise<void>;
  };
  readonly sessionContext: {
    readonly ready: Promise<void>;
    readonly session: { readonly kernel: Kernel | null } | null;
    readonly kernelChanged: Signal;
    /** Restarts come through here. */
    readonly statusChanged: Signal;
    readonly kernelDisplayStatus: string;
  };
}

export interface RenderMimeRegistry {
  createModel(options: { readonly data: object; readonly trusted: boolean }): unknown;
  readonly mimeTypes: readonly string[];
  /** @param safe "ensure": only renderers that take anybody's data */
  preferredMimeType(bundle: object, safe: "ensure" | "any"): string | undefined;
  createRenderer(mimeType: string): Renderer;
  getFactory(mimeType: string): unknown;
}

export interface Renderer {
  readonly node: HTMLElement;
  dispose(): void;
  renderModel(model: unknown): Promise<void>;
}

export interface Host {
  readonly rendermime: RenderMimeRegistry;
  /** The notebook that a node is in. */
  notebookOf(node: Node): NotebookPanel | undefined;
}

let resolve: (host: Host) => void;
const ready = new Promise<Host>((done) => {
  resolve = done;
});

export function hostStarted(host: Host): void {
  resolve(host);
}

export function host(): Promise<Host> {
  return ready;
}
