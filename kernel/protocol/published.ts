/**
 * What the kernel publishes on iopub, for all front ends.
 */
import type { ErrorContent, MimeBundle } from "./messages.js";

interface Display {
  readonly data: MimeBundle;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly transient?: { readonly display_id?: string };
}

export interface PublishedContents {
  readonly status: { readonly execution_state: "starting" | "busy" | "idle" };
  readonly stream: { readonly name: "stdout" | "stderr"; readonly text: string };
  readonly execute_input: { readonly code: string; readonly execution_count: number };
  readonly execute_result: Display & { readonly execution_count: number };
  readonly display_data: Display;
  readonly update_display_data: Display;
  readonly clear_output: { readonly wait: boolean };
  readonly error: ErrorContent;
  readonly comm_open: { readonly comm_id: string; readonly target_name: string; readonly data: unknown };
  readonly comm_msg: { readonly comm_id: string; readonly data: unknown };
  readonly comm_close: { readonly comm_id: string; readonly data: unknown };
  /** An event of the Debug Adapter Protocol. */
  readonly debug_event: {
    readonly type: "event";
    readonly seq: number;
    readonly event: string;
    readonly body: object;
  };
  readonly iopub_welcome: { readonly subscription: string };
  readonly shutdown_reply: { readonly status: "ok"; readonly restart: boolean };
}

export type PublishedType = keyof PublishedContents;
