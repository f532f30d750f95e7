import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Ajv, type ErrorObject } from "ajv";
import { UsageError } from "../errors.js";
import { writeOutput } from "../write.js";
import { notebookSchema } from "./schema.js";

/** A MIME bundle: text joined to one string, JSON types as values. */
export type MimeBundle = Record<string, unknown>;

export interface StreamOutput {
  output_type: "stream";
  name: string;
  text: string;
}

export interface DisplayOutput {
  output_type: "display_data";
  data: MimeBundle;
  metadata: Record<string, unknown>;
}

export interface ResultOutput {
  output_type: "execute_result";
  data: MimeBundle;
  metadata: Record<string, unknown>;
  execution_count: number | null;
}

export interface ErrorOutput {
  output_type: "error";
  ename: string;
  evalue: string;
  traceback: string[];
}

export type Output = StreamOutput | DisplayOutput | ResultOutput | ErrorOutput;

export interface CellMetadata extends Record<string, unknown> {
  tags?: string[];
}

interface AnyCell {
  id: string;
  metadata: CellMetadata;
  source: string;
}

export interface CodeCell extends AnyCell {
  cell_type: "code";
  execution_count: number | null;
  outputs: Output[];
}

export interface TextCell extends AnyCell {
  cell_type: "markdown" | "raw";
  attachments?: Record<string, MimeBundle>;
}

export type Cell = CodeCell | TextCell;

/** A notebook as nbformat holds it in memory: lines joined. */
export interface Notebook {
  nbformat: number;
  nbformat_minor: number;
  metadata: {
    kernelspec?: { name: string; display_name: string } & Record<string, unknown>;
    language_info?: { name: string } & Record<string, unknown>;
  } & Record<string, unknown>;
  cells: Cell[];
}

/** A file's content before it is known to be a notebook. */
type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/**
 * Reads and validates a notebook; formats 4.0 to 4.4 are upgraded to 4.5 (cells get ids).
 * @throws UsageError naming the file and the field.
 */
export async function readNotebook(path: string): Promise<Notebook> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    const why = { ENOENT: "no such file", EISDIR: "is a folder, expected a notebook" }[error.code ?? ""];
    throw new UsageError(why ?? error.message, { file: path });
  });
  return parseNotebook(text, path);
}

/** Parses and validates a notebook's text; errors mention `name`. */
export function parseNotebook(text: string, name: string): Notebook {
  if (text.trim() === "") throw new UsageError("the file is empty, expected a notebook", { file: name });
  let json: Json;
  try {
    json = JSON.parse(text.replace(/^\uFEFF/, "")) as Json;
  } catch (error) {
    throw new UsageError(`not JSON${jsonErrorPlace(text, error as Error)}, expected a notebook`, {
      file: name,
    });
  }
  if (!isObject(json) || !("nbformat" in json)) {
    throw new UsageError(`not a notebook: it has no "nbformat"`, { file: name });
  }
  if (json.nbformat !== 4) {
    throw new UsageError(`notebook format ${JSON.stringify(json.nbformat)}, expected 4`, {
      file: name,
      hint: "JupyterLab and `jupyter nbconvert --to notebook` convert it",
    });
  }
  if (isDeeperThan(json, deepest)) {
    throw new UsageError(`not a valid notebook: nested more deeply than ${deepest} levels`, { file: name });
  }
  upgrade(json);
  const fault = notebookFault(json);
  if (fault !== undefined) throw new UsageError(`not a valid notebook: ${fault}`, { file: name });
  return joinLines(json as unknown as Notebook);
}

/** More than any notebook needs, and few enough for code that recurses through one. */
const deepest = 500;

function isDeeperThan(root: Json, limit: number): boolean {
  let level = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    const next: Json[] = [];
    for (const value of level) {
      if (typeof value !== "object" || value === null) continue;
      for (const inner of Object.values(value))
        if (typeof inner === "object" && inner !== null) next.push(inner);
    }
    level = next;
  }
  return false;
}

/** The file's text as nbformat writes it: sorted keys, one blank per level, text split into lines, a final newline. */
export function formatNotebook(notebook: Notebook): string {
  const { orig_nbformat, orig_nbformat_minor, signature, ...metadata } = notebook.metadata;
  const file = { ...notebook, metadata, cells: notebook.cells.map(splitCell) };
  return `${stringify(file as unknown as Json, "")}\n`;
}

/** Writes a notebook whole or not at all. */
export async function writeNotebook(path: string, notebook: Notebook): Promise<void> {
  const text = formatNotebook(notebook);
  parseNotebook(text, path);
  await writeOutput(path, text);
}

const ajv = new Ajv({ discriminator: true, strict: false });
const validators = new Map<boolean, ReturnType<Ajv["compile"]>>();

/** What is wrong with a parsed notebook of format 4.5 or later, or undefined: the schema's verdict, with nothing repaired. */
export function notebookFault(notebook: unknown): string | undefined {
  const strict = Number((notebook as { nbformat_minor?: unknown } | null)?.nbformat_minor) <= 5;
  const valid = validators.get(strict) ?? ajv.compile(notebookSchema(strict));
  validators.set(strict, valid);
  return valid(notebook) ? undefined : describe(valid.errors ?? [], notebook as Json);
}

function describe(errors: ErrorObject[], notebook: Json): string {
  const error = errors[0];
  if (error === undefined) return "unknown error";
  const path = error.instancePath.replaceAll("~1", "/").replaceAll("~0", "~") || "/";
  const extra = error.params.additionalProperty ?? error.params.tagValue;
  const detail = extra === undefined ? "" : ` (${JSON.stringify(extra)})`;
  const expected = error.keyword === "const" ? ` ${JSON.stringify(error.params.allowedValue)}` : "";
  const cell = /^\/cells\/(\d+)/.exec(path);
  const id =
    cell && isObject(notebook) && Array.isArray(notebook.cells) ? notebook.cells[Number(cell[1])] : null;
  const which = isObject(id) && typeof id.id === "string" ? ` in cell ${JSON.stringify(id.id)}` : "";
  return `${path} ${error.message ?? "is wrong"}${expected}${detail}${which}`;
}

function jsonErrorPlace(text: string, error: Error): string {
  const position = /position (\d+)/.exec(error.message)?.[1];
  if (position === undefined) return "";
  const before = text.slice(0, Number(position)).split("\n");
  return ` (line ${before.length}, column ${before.at(-1)!.length + 1})`;
}

/**
 * Gives ids to cells that have none or another cell's, as nbformat does. They are derived from position and source, not
 * random, so that upgrading a file twice gives the same result.
 */
function upgrade(notebook: { [key: string]: Json }): void {
  if (!Array.isArray(notebook.cells)) return;
  const minor = notebook.nbformat_minor;
  if (typeof minor === "number" && Number.isInteger(minor) && minor >= 0 && minor < 5)
    notebook.nbformat_minor = 5;
  const seen = new Set<Json>();
  notebook.cells.forEach((cell, index) => {
    if (!isObject(cell)) return;
    for (let salt = 0; cell.id === undefined || seen.has(cell.id); salt++) {
      cell.id = cellId(`${index} ${salt} ${JSON.stringify(cell.source)}`);
    }
    seen.add(cell.id);
  });
}

/** A cell id made from `seed`. */
export function cellId(seed: string): string {
  return createHash("sha256").update(seed).digest("hex").slice(0, 8);
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isJsonType = (type: string) => type === "application/json" || /^application\/.*\+json$/.test(type);
const isTextType = (type: string) =>
  type.startsWith("text/") || type === "application/javascript" || type === "image/svg+xml";

const joined = (text: unknown) => (Array.isArray(text) ? text.join("") : text);

function joinBundle(bundle: MimeBundle): MimeBundle {
  return Object.fromEntries(
    Object.entries(bundle).map(([type, value]) => [type, isJsonType(type) ? value : joined(value)]),
  );
}

function joinLines(notebook: Notebook): Notebook {
  for (const cell of notebook.cells) {
    cell.source = joined(cell.source) as string;
    delete cell.metadata.trusted;
    if (cell.cell_type === "code") {
      for (const output of cell.outputs) {
        if (output.output_type === "stream") output.text = joined(output.text) as string;
        else if (output.output_type !== "error") output.data = joinBundle(output.data);
      }
    } else if (cell.attachments) {
      cell.attachments = Object.fromEntries(
        Object.entries(cell.attachments).map(([name, bundle]) => [name, joinBundle(bundle)]),
      );
    }
  }
  return notebook;
}

// nbformat splits with Python's str.splitlines, which knows more line ends than "\n".
const ENDS = "\n\r\v\f\u001c-\u001e\u0085\u2028\u2029";
const LINE = new RegExp(`[^${ENDS}]*(?:\\r\\n|[${ENDS}])|[^${ENDS}]+$`, "g");
const splitLines = (text: string) => text.match(LINE) ?? [];

function splitBundle(bundle: MimeBundle): MimeBundle {
  return Object.fromEntries(
    Object.entries(bundle).map(([type, value]) => [
      type,
      typeof value === "string" && isTextType(type) ? splitLines(value) : value,
    ]),
  );
}

function splitCell(cell: Cell): object {
  const { trusted, ...metadata } = cell.metadata;
  const source = splitLines(cell.source);
  if (cell.cell_type === "code") {
    const outputs = cell.outputs.map((output) => {
      if (output.output_type === "stream") return { ...output, text: splitLines(output.text) };
      return output.output_type === "error" ? output : { ...output, data: splitBundle(output.data) };
    });
    return { ...cell, metadata, source, outputs };
  }
  if (cell.attachments === undefined) return { ...cell, metadata, source };
  const attachments = Object.entries(cell.attachments).map(([name, bundle]) => [name, splitBundle(bundle)]);
  return { ...cell, metadata, source, attachments: Object.fromEntries(attachments) };
}

/** JSON with sorted keys (including those that look like numbers, which JavaScript's objects put first). */
function stringify(value: Json, indent: string): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inner = `${indent} `;
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[\n${value.map((item) => inner + stringify(item ?? null, inner)).join(",\n")}\n${indent}]`;
  }
  const keys = Object.keys(value).filter((key) => value[key] !== undefined);
  if (keys.length === 0) return "{}";
  const lines = keys
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map((key) => `${inner}${JSON.stringify(key)}: ${stringify(value[key]!, inner)}`);
  return `{\n${lines.join(",\n")}\n${indent}}`;
}
