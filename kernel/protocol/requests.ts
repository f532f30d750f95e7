/**
 * What front ends ask for. Requests come from outside, so {@link parse} checks each field before anything acts on it.
 */
export interface ExecuteRequest {
  readonly code: string;
  readonly silent: boolean;
  readonly storeHistory: boolean;
  readonly userExpressions: Readonly<Record<string, string>>;
  readonly allowStdin: boolean;
  readonly stopOnError: boolean;
}

export interface CompleteRequest {
  readonly code: string;
  /** In code points, as all positions in messages. */
  readonly cursorPos: number;
}

export interface InspectRequest extends CompleteRequest {
  readonly detailLevel: 0 | 1;
}

export interface HistoryRequest {
  readonly output: boolean;
  readonly raw: boolean;
  readonly access: "range" | "tail" | "search";
  readonly session: number;
  readonly start: number;
  readonly stop: number | undefined;
  readonly n: number | undefined;
  readonly pattern: string;
  readonly unique: boolean;
}

export interface IsCompleteRequest {
  readonly code: string;
}

export interface CommInfoRequest {
  /** Without it, comms of all targets are meant. */
  readonly targetName: string | undefined;
}

export interface ShutdownRequest {
  readonly restart: boolean;
}

/** A request of the Debug Adapter Protocol. */
export interface DebugRequest {
  readonly seq: number;
  readonly command: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** A message of a comm, in either direction. */
export interface CommMessage {
  readonly commId: string;
  readonly targetName: string;
  readonly data: unknown;
}

/** What a front end asks about cells that are being written, over a comm that the kernel's server answers. */
export interface LanguageRequest {
  readonly method: "diagnostics" | "hover" | "definition";
  /** The texts of all code cells, in order. */
  readonly cells: readonly string[];
  /** Which of them it is about. */
  readonly cell: number;
  /** What tells this cell from others as long as it exists. */
  readonly cellId: string;
  /** In UTF-16 code units, as all positions here; of no use for diagnostics. */
  readonly cursor: number;
}

/** A question of a cell, which the kernel sends on stdin. */
export interface InputRequest {
  readonly prompt: string;
  readonly password: boolean;
}

/** What was typed; undefined where the question was dismissed. */
export interface InputReply {
  readonly value: string | undefined;
}

/** A request whose content is not what the protocol says. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
}

type Raw = Record<string, unknown>;

/** What each request asks for. */
export interface RequestContents {
  readonly execute_request: ExecuteRequest;
  readonly complete_request: CompleteRequest;
  readonly inspect_request: InspectRequest;
  readonly is_complete_request: IsCompleteRequest;
  readonly history_request: HistoryRequest;
  readonly comm_info_request: CommInfoRequest;
  readonly kernel_info_request: object;
  readonly interrupt_request: object;
  readonly shutdown_request: ShutdownRequest;
  readonly debug_request: DebugRequest;
}

export type RequestType = keyof RequestContents;

/** Reads contents. Absent fields take the protocol's defaults; wrong ones throw {@link ProtocolError}. */
export const parse = {
  /** Of a request that has no fields. */
  nothing(): object {
    return {};
  },
  execute(content: Raw): ExecuteRequest {
    const silent = flag(content, "silent", false);
    const expressions = content.user_expressions ?? {};
    if (typeof expressions !== "object" || Array.isArray(expressions)) {
      throw new ProtocolError(`user_expressions: expected an object, found ${kind(expressions)}`);
    }
    for (const [name, code] of Object.entries(expressions)) {
      if (typeof code !== "string") {
        throw new ProtocolError(`user_expressions.${name}: expected a string, found ${kind(code)}`);
      }
    }
    return {
      code: text(content, "code"),
      silent,
      storeHistory: !silent && flag(content, "store_history", true),
      userExpressions: expressions as Record<string, string>,
      allowStdin: flag(content, "allow_stdin", true),
      stopOnError: flag(content, "stop_on_error", true),
    };
  },
  complete(content: Raw): CompleteRequest {
    const code = text(content, "code");
    return { code, cursorPos: integer(content, "cursor_pos") ?? Infinity };
  },
  inspect(content: Raw): InspectRequest {
    const detail = integer(content, "detail_level") ?? 0;
    return { ...parse.complete(content), detailLevel: detail > 0 ? 1 : 0 };
  },
  isComplete(content: Raw): IsCompleteRequest {
    return { code: text(content, "code") };
  },
  history(content: Raw): HistoryRequest {
    const access = content.hist_access_type ?? "tail";
    if (access !== "range" && access !== "tail" && access !== "search") {
      throw new ProtocolError(
        `hist_access_type: expected range, tail or search, found ${JSON.stringify(access)}`,
      );
    }
    return {
      output: flag(content, "output", false),
      raw: flag(content, "raw", true),
      access,
      session: integer(content, "session") ?? 0,
      start: integer(content, "start") ?? 0,
      stop: integer(content, "stop"),
      n: integer(content, "n"),
      pattern: content.pattern === undefined || content.pattern === null ? "*" : text(content, "pattern"),
      unique: flag(content, "unique", false),
    };
  },
  comm(content: Raw): CommMessage {
    return {
      commId: text(content, "comm_id"),
      targetName: content.target_name === undefined ? "" : text(content, "target_name"),
      data: content.data ?? {},
    };
  },
  language(data: unknown): LanguageRequest {
    if (typeof data !== "object" || data === null || Array.isArray(data))
      throw new ProtocolError(`data: expected an object, found ${kind(data)}`);
    const content = data as Raw;
    const { method, cells } = content;
    if (method !== "diagnostics" && method !== "hover" && method !== "definition") {
      const found = JSON.stringify(method) ?? "nothing";
      throw new ProtocolError(`method: expected diagnostics, hover or definition, found ${found}`);
    }
    if (!Array.isArray(cells)) throw new ProtocolError(`cells: expected an array, found ${kind(cells)}`);
    cells.forEach((each: unknown, i) => {
      if (typeof each !== "string")
        throw new ProtocolError(`cells[${i}]: expected a string, found ${kind(each)}`);
    });
    const cell = natural(content, "cell");
    if (cell >= cells.length)
      throw new ProtocolError(`cell: expected the number of one of ${cells.length} cells, found ${cell}`);
    return {
      method,
      cells: cells as string[],
      cell,
      cellId: content.cell_id === undefined ? String(cell) : text(content, "cell_id"),
      cursor: method === "diagnostics" ? 0 : natural(content, "cursor"),
    };
  },
  commInfo(content: Raw): CommInfoRequest {
    const target = content.target_name;
    return { targetName: target === undefined || target === null ? undefined : text(content, "target_name") };
  },
  debug(content: Raw): DebugRequest {
    const args = content.arguments ?? {};
    if (typeof args !== "object" || Array.isArray(args)) {
      throw new ProtocolError(`arguments: expected an object, found ${kind(args)}`);
    }
    return { seq: integer(content, "seq") ?? 0, command: text(content, "command"), arguments: args as Raw };
  },
  shutdown(content: Raw): ShutdownRequest {
    return { restart: flag(content, "restart", false) };
  },
  input(content: Raw): InputReply {
    // A dialog that was closed or cancelled is answered with another status.
    if (content.status !== undefined && content.status !== "ok") return { value: undefined };
    return { value: text(content, "value") };
  },
};

function text(content: Raw, key: string): string {
  const value = content[key];
  if (typeof value !== "string") throw new ProtocolError(`${key}: expected a string, found ${kind(value)}`);
  return value;
}

function flag(content: Raw, key: string, otherwise: boolean): boolean {
  const value = content[key] ?? otherwise;
  if (typeof value !== "boolean")
    throw new ProtocolError(`${key}: expected true or false, found ${kind(value)}`);
  return value;
}

function integer(content: Raw, key: string): number | undefined {
  const value = content[key] ?? undefined;
  if (value === undefined) return undefined;
  if (!Number.isInteger(value)) throw new ProtocolError(`${key}: expected an integer, found ${kind(value)}`);
  return value as number;
}

/** A whole number from 0, which has to be there. */
function natural(content: Raw, key: string): number {
  const value = integer(content, key);
  if (value === undefined || value < 0)
    throw new ProtocolError(`${key}: expected an integer from 0, found ${value ?? "nothing"}`);
  return value;
}

function kind(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : value === undefined ? "nothing" : `a ${typeof value}`;
}
