/**
 * What requests are answered with.
 */
import type { ErrorContent, MimeBundle } from "./messages.js";
import type { RequestType } from "./requests.js";

/** The type of the reply to a request. */
export type ReplyTo<Type extends RequestType> = Type extends `${infer Name}_request`
  ? `${Name}_reply`
  : never;

export interface Failed extends ErrorContent {
  readonly status: "error";
}

export interface Ok {
  readonly status: "ok";
}

/** What a user expression is. */
export type ExpressionResult =
  | (Ok & { readonly data: MimeBundle; readonly metadata: Readonly<Record<string, unknown>> })
  | Failed;

/** A text for the front end's pager. */
export interface Page {
  readonly source: "page";
  readonly data: MimeBundle;
  /** The line at the top. */
  readonly start: number;
}

/** Asks a console to end, and the kernel with it. */
export interface AskExit {
  readonly source: "ask_exit";
  readonly keepkernel: false;
}

export type Payload = Page | AskExit;

interface Executed {
  readonly execution_count: number;
  readonly user_expressions: Readonly<Record<string, ExpressionResult>>;
  readonly payload: readonly Payload[];
}

export type ExecuteReply =
  | (Ok & Executed)
  | (Failed & Partial<Executed> & Pick<Executed, "execution_count">)
  /** An earlier cell failed. */
  | { readonly status: "aborted"; readonly execution_count: number };

export interface CompleteReply extends Ok {
  readonly matches: readonly string[];
  /** In code points, as all positions in messages. */
  readonly cursor_start: number;
  readonly cursor_end: number;
  readonly metadata: {
    readonly _jupyter_types_experimental: readonly {
      readonly start: number;
      readonly end: number;
      readonly text: string;
      readonly type: string;
      readonly signature?: string;
    }[];
  };
}

export interface InspectReply extends Ok {
  readonly found: boolean;
  readonly data: MimeBundle;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export type IsCompleteReply =
  | { readonly status: "complete" | "invalid" | "unknown" }
  | { readonly status: "incomplete"; readonly indent: string };

/** A cell of the history; its input alone, or with the plain text of its result. */
export type HistoryItem = readonly [
  session: number,
  line: number,
  input: string | readonly [input: string, output: string | null],
];

export interface HistoryReply extends Ok {
  readonly history: readonly HistoryItem[];
}

export interface CommInfoReply extends Ok {
  readonly comms: Readonly<Record<string, { readonly target_name: string }>>;
}

export interface KernelInfoReply extends Ok {
  readonly protocol_version: string;
  readonly implementation: string;
  readonly implementation_version: string;
  readonly language_info: {
    readonly name: string;
    readonly version: string;
    readonly mimetype: string;
    readonly file_extension: string;
    readonly pygments_lexer: string;
    readonly codemirror_mode: string;
    readonly nbconvert_exporter: string;
  };
  readonly banner: string;
  readonly help_links: readonly { readonly text: string; readonly url: string }[];
  readonly debugger: boolean;
  readonly supported_features: readonly string[];
}

export interface ShutdownReply extends Ok {
  readonly restart: boolean;
}

/** A response of the Debug Adapter Protocol. */
export interface DebugReply {
  readonly type: "response";
  readonly seq: number;
  readonly request_seq: number;
  readonly command: string;
  readonly success: boolean;
  readonly message?: string;
  readonly body?: object;
}

export interface ReplyContents {
  readonly execute_reply: ExecuteReply;
  readonly complete_reply: CompleteReply | Failed;
  readonly inspect_reply: InspectReply | Failed;
  readonly is_complete_reply: IsCompleteReply | Failed;
  readonly history_reply: HistoryReply | Failed;
  readonly comm_info_reply: CommInfoReply | Failed;
  readonly kernel_info_reply: KernelInfoReply | Failed;
  readonly interrupt_reply: Ok | Failed;
  readonly shutdown_reply: ShutdownReply | Failed;
  readonly debug_reply: DebugReply | Failed;
}

export type ReplyType = keyof ReplyContents;
