/**
 * Jupyter's messages, version 5.5 (https://jupyter-client.readthedocs.io/en/stable/messaging.html). What they carry is in
 * requests.ts, replies.ts and published.ts.
 */
export const protocolVersion = "5.5";

export interface Header {
  readonly msg_id: string;
  readonly msg_type: string;
  readonly session: string;
  readonly username: string;
  readonly date: string;
  readonly version: string;
}

export interface Message<Content = Record<string, unknown>> {
  /** Routing prefix of a ROUTER socket; the topic on iopub. */
  readonly identities: readonly Buffer[];
  readonly header: Header;
  /** Empty where a message answers none. */
  readonly parent: Header | Record<string, never>;
  readonly metadata: Record<string, unknown>;
  readonly content: Content;
  readonly buffers: readonly Uint8Array[];
}

/** What was thrown, in replies and on iopub. */
export interface ErrorContent {
  readonly ename: string;
  readonly evalue: string;
  readonly traceback: readonly string[];
}

/** What shows a value, by MIME type. */
export type MimeBundle = Readonly<Record<string, unknown>>;
