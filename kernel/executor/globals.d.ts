/**
 * What cells find in their global scope besides Node's own.
 */

/** A value in several formats: MIME types and their data. Bytes are sent as base64. */
interface JupyterMimeBundle {
  [mimeType: string]: unknown;
}

interface JupyterDisplayOptions {
  /** Names the output, so that a later `display` can replace it. */
  displayId?: string;
  /** Replaces what was shown under `displayId` instead of showing something new. */
  update?: boolean;
  /** The value is a MIME bundle, to be sent as it is. */
  raw?: boolean;
  /** Metadata for the front end, by MIME type. */
  metadata?: Record<string, unknown>;
}

interface JupyterDisplay {
  /**
   * Shows a value below the cell, as the last expression of a cell is shown: by its own method
   * `[Symbol.for("Jupyter.display")]()`, which returns a MIME bundle; plotly figures, Vega and Vega-Lite charts, elements,
   * pictures, data frames and tables as such; everything else as Node's `util.inspect` prints it.
   *
   * @returns a promise that resolves once the value has been sent, which is mostly at once. The cell waits for it anyway.
   */
  (value: unknown, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows HTML. */
  html(html: string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows Markdown. */
  markdown(markdown: string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows LaTeX: `$...$` or an environment. */
  latex(latex: string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows an SVG image. */
  svg(svg: string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows a PNG image: its bytes, or base64. */
  png(png: Uint8Array | string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows a JPEG image: its bytes, or base64. */
  jpeg(jpeg: Uint8Array | string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows a value as a JSON tree. */
  json(value: unknown, options?: JupyterDisplayOptions): Promise<void>;
  /** Runs JavaScript in the front end, if that allows it. */
  javascript(code: string, options?: JupyterDisplayOptions): Promise<void>;
  /** Shows plain text. */
  text(text: string, options?: JupyterDisplayOptions): Promise<void>;
}

/** Shows values below the cell: `display(value)`, `display.html("<b>bold</b>")`. */
declare var display: JupyterDisplay;

/** The last cell's result that was one, until a cell gives the name to something else. */
// biome-ignore lint/suspicious/noExplicitAny: of whatever type it is
declare var _: any;

/** Removes what the cell has shown so far; with `wait`, once there is something new to show. */
declare function clearOutput(options?: { wait?: boolean }): void;

/**
 * Asks the reader for a line of text and waits for it: `const name = prompt("Your name? ")`.
 *
 * @returns what was typed, `defaultValue` if that was nothing, or null if the question was dismissed.
 * @throws Error if the front end does not support input.
 */
declare function prompt(message?: string, defaultValue?: string): string | null;

// Beside the function, which the DOM has, too.
declare namespace prompt {
  /** Asks for a line without showing what is typed. */
  function password(message?: string): string | null;
}

/** Asks the reader a question; true if the answer is y or yes. */
declare function confirm(message?: string): boolean;

interface JupyterCommMessage {
  // biome-ignore lint/suspicious/noExplicitAny: JSON from the sender
  data: any;
  metadata: Record<string, unknown>;
  buffers: Uint8Array[];
}

interface JupyterCommExtras {
  metadata?: Record<string, unknown>;
  buffers?: readonly Uint8Array[];
}

/** A conversation with a widget or an extension of the front end. */
interface JupyterComm {
  readonly id: string;
  readonly targetName: string;
  readonly isOpen: boolean;
  /** Sends a message; `data` is sent as JSON, bytes as `buffers`. */
  send(data: unknown, extras?: JupyterCommExtras): void;
  close(data?: unknown, extras?: JupyterCommExtras): void;
  /** Calls back for every message from the front end. */
  onMessage(handler: (message: JupyterCommMessage) => unknown): this;
  /** Calls back when the front end ends the conversation. */
  onClose(handler: (message: JupyterCommMessage) => unknown): this;
}

/** Comms: messages between cells and widgets or extensions of the front end. */
declare var comms: {
  /** Opens a conversation with what the front end has registered as `targetName`, e.g. `jupyter.widget`. */
  open(targetName: string, data?: unknown, extras?: JupyterCommExtras & { id?: string }): JupyterComm;
  /** Calls back when the front end opens a conversation with `name`. */
  registerTarget(name: string, onOpen: (comm: JupyterComm, message: JupyterCommMessage) => unknown): void;
  unregisterTarget(name: string): void;
};
