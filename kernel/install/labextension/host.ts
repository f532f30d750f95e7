/**
 * What renderers need of the application and are not given: the renderers of other types, and the kernel behind a notebook.
 * The plugin fills it in when JupyterLab starts it.
 */

export interface Comm {
  onMsg: (message: { content: { data: unknown } }) => void;
  onClose: () => void;
  open(data: unknown): unknown;
  send(data: unknown): unknown;
  close(): unknown;
  readonly isDisposed: boolean;
}

export interface Signal {
  connect(slot: () => void): void;
  disconnect(slot: () => void): void;
}

export interface NotebookPanel {
  readonly node: Node;
  /** With the renderers of its own, as that of its widgets. */
  readonly content: { readonly rendermime: RenderMimeRegistry };
  readonly sessionContext: {
    readonly ready: Promise<void>;
    readonly session: { readonly kernel: { createComm(target: string): Comm } | null } | null;
    readonly kernelChanged: Signal;
    /** Restarts come through here. */
    readonly statusChanged: Signal;
    readonly kernelDisplayStatus: string;
  };
}

export interface RenderMimeRegistry {
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
