/** Files that people write lists in: lines of text with their numbers, in whatever encoding can be told for certain. */

import { isUtf8 } from "node:buffer";
import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileProblem, InputError } from "../engine/errors.js";

/** A data set that contradicts itself; the message names the file. */
export class DatasetError extends InputError {
  override get kind() {
    return "dataset" as const;
  }
}

/** A line that is not blank. */
export interface Line {
  readonly text: string;
  /** Counted from 1, blank lines included. */
  readonly number: number;
}

/**
 * A file's text: UTF-8, with or without a byte order mark, or UTF-16 with one.
 *
 * @throws DatasetError naming the file, and the first line that is in another encoding.
 */
export async function readText(file: string): Promise<string> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new DatasetError(fileProblem(error), { file });
  });
  const utf16 = { "255,254": "utf-16le", "254,255": "utf-16be" }[bytes.subarray(0, 2).join()];
  if (utf16 !== undefined) {
    const text = new TextDecoder(utf16).decode(bytes);
    const fault = /[\ufffd\0]/.exec(text);
    if (!fault) return text;
    throw new DatasetError(`line ${lineAt(text, fault.index)} is not UTF-16, which the file begins as`, {
      file,
      hint: "save it as UTF-8",
    });
  }
  const nul = bytes.indexOf(0);
  if (nul >= 0) {
    throw new DatasetError(
      `line ${lineAt(bytes.toString("latin1"), nul)}: expected text, found a zero byte`,
      {
        file,
        hint: "save it as UTF-8; without a byte order mark UTF-16 can't be told",
      },
    );
  }
  if (isUtf8(bytes)) return new TextDecoder().decode(bytes);
  const lines = bytes.toString("latin1").split(LINE_END);
  const bad = lines.findIndex((line) => !isUtf8(Buffer.from(line, "latin1")));
  throw new DatasetError(`line ${bad + 1} is not UTF-8`, { file, hint: "save the file as UTF-8" });
}

const LINE_END = /\r\n|\n|\r/;

/** The number of the line that a position of a text is in, from 1. */
export const lineAt = (text: string, position: number): number =>
  text.slice(0, position).split(LINE_END).length;

/**
 * The lines that are not blank, without the spaces around them, as the recipe reads them.
 *
 * @throws DatasetError naming the file, if it can't be read or no line is left.
 */
export async function readLines(file: string): Promise<Line[]> {
  const lines = (await readText(file))
    .split(LINE_END)
    .map((line, i) => ({ text: line.trim(), number: i + 1 }))
    .filter(({ text }) => text !== "");
  if (lines.length === 0) throw new DatasetError("expected one entry a line, found an empty list", { file });
  return lines;
}

/** A file that a list names, and where. */
export interface NamedFile {
  /** Absolute. */
  readonly path: string;
  /** "videos.txt, line 3" */
  readonly where: string;
}

/** The files that a list names, one a line: absolute paths, or relative to the list's folder. */
export async function readPaths(file: string, shownAs: string): Promise<NamedFile[]> {
  const folder = dirname(file);
  return Promise.all(
    (await readLines(file)).map(async ({ text, number }) => ({
      path: await locate(folder, text),
      where: `${shownAs}, line ${number}`,
    })),
  );
}

/** A path as a list has it; lists that were written on Windows have backslashes. */
export async function locate(folder: string, path: string): Promise<string> {
  const literal = resolve(folder, path);
  return !path.includes("\\") || (await isFile(literal))
    ? literal
    : resolve(folder, path.replaceAll("\\", "/"));
}

/** Whether there is such a file, which is no folder. */
export const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => !found.isDirectory(),
    () => false,
  );

/** @throws DatasetError naming the folder, if it is none. */
export async function assertFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    throw new DatasetError(fileProblem(error, "no such folder"), { file: folder });
  });
  if (!found.isDirectory()) throw new DatasetError("expected a folder, found a file", { file: folder });
}

/** Missing files that a message names; of more it says only how many. */
const NAMED = 5;

/**
 * Refuses lists that name files which are not there.
 *
 * @throws DatasetError naming `root`, the files and their lines.
 */
export async function assertFiles(root: string, files: readonly NamedFile[]): Promise<void> {
  const missing: string[] = [];
  for (const { path, where } of files) if (!(await isFile(path))) missing.push(`${path} (${where})`);
  if (missing.length === 0) return;
  const more = missing.length > NAMED ? ` and ${missing.length - NAMED} more` : "";
  throw new DatasetError(`files are missing: ${missing.slice(0, NAMED).join(", ")}${more}`, { file: root });
}
