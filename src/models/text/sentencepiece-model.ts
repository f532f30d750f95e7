/** Reads SentencePiece's model files (`spiece.model`): a Protocol Buffers message of pieces and settings. */

import { readFile } from "node:fs/promises";
import { PbfReader } from "pbf";
import { fileProblem, firstLine, InputError } from "../../engine/errors.js";

/** What a piece is for (SentencePiece's `Type`). */
export const PIECE_TYPES = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

export interface Piece {
  readonly piece: string;
  /** Log probability. */
  readonly score: number;
  readonly type: number;
}

export interface SentencePieceModel {
  /** By id. */
  readonly pieces: readonly Piece[];
  readonly unkId: number;
  /** The rules that text is normalised by, as {@link PrecompiledCharsmap} takes them; empty when there are none. */
  readonly charsmap: Uint8Array;
  /** Runs of spaces count as one, and those at the ends as none. */
  readonly removeExtraWhitespaces: boolean;
  /** Text starts with a space. */
  readonly addDummyPrefix: boolean;
}

/** A model file that cannot be read; the message starts with its path. */
export class SentencePieceError extends InputError {
  override get kind() {
    return "sentencepiece" as const;
  }
}

/** @throws SentencePieceError if the file is not a model, or not a unigram model. */
export async function readSentencePieceModel(path: string): Promise<SentencePieceModel> {
  const fail = (problem: string, cause?: unknown): never => {
    throw new SentencePieceError(problem, { file: path, cause });
  };
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => fail(fileProblem(error)));
  const pieces: Piece[] = [];
  let unkId = 0;
  let modelType = 1;
  let charsmap: Uint8Array = new Uint8Array();
  let removeExtraWhitespaces = true;
  let addDummyPrefix = true;
  try {
    readMessage(bytes, {
      1: (message) => pieces.push(readPiece(asBytes(message))),
      2: (message) =>
        readMessage(asBytes(message), {
          3: (setting) => {
            modelType = asNumber(setting);
          },
          40: (setting) => {
            unkId = asNumber(setting);
          },
        }),
      3: (message) =>
        readMessage(asBytes(message), {
          2: (setting) => {
            charsmap = asBytes(setting);
          },
          3: (setting) => {
            addDummyPrefix = asNumber(setting) !== 0;
          },
          4: (setting) => {
            removeExtraWhitespaces = asNumber(setting) !== 0;
          },
        }),
    });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    fail(`not a SentencePiece model (${error.message})`, error);
  }
  if (pieces.length === 0) fail("not a SentencePiece model (it has no pieces)");
  if (modelType !== 1) fail(`expected a unigram model, found model_type ${modelType}`);
  if (pieces[unkId]?.type !== PIECE_TYPES.unknown) {
    unkId = pieces.findIndex(({ type }) => type === PIECE_TYPES.unknown);
    if (unkId < 0) fail("the model has no piece for what is unknown");
  }
  return { pieces, unkId, charsmap, removeExtraWhitespaces, addDummyPrefix };
}

function readPiece(bytes: Uint8Array): Piece {
  let piece = "";
  let score = 0;
  let type: number = PIECE_TYPES.normal;
  readMessage(bytes, {
    1: (field) => {
      const text = asBytes(field);
      piece = reading(() => new TextDecoder("utf-8", { fatal: true }).decode(text));
    },
    2: (field) => {
      score = asFloat(field);
    },
    3: (field) => {
      type = asNumber(field);
    },
  });
  return { piece, score, type };
}

/** Wire types of Protocol Buffers. */
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Whatever pbf or the text decoder throws is about the bytes that they read; what our own code throws is not. */
function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new InputError(firstLine(error), { cause: error });
  }
}

/** Reads a message's fields by number and skips all others. pbf itself accepts bytes that are cut off. */
function readMessage(bytes: Uint8Array, fields: Readonly<Record<number, (field: PbfReader) => void>>): void {
  const message = new PbfReader(bytes);
  while (message.pos < message.length) {
    const tag = reading(() => message.readVarint());
    message.type = tag & 7;
    const read = fields[tag >>> 3];
    if (!(Object.values(WIRE) as number[]).includes(message.type))
      throw new InputError(`unknown wire type ${message.type}`);
    if (read) read(message);
    else reading(() => message.skip(tag));
    assertWhole(message);
  }
}

function assertWhole({ pos, length }: PbfReader, more = 0): void {
  if (pos + more > length) throw new InputError("a field is cut off");
}

function assertWire({ type }: PbfReader, wanted: number): void {
  if (type !== wanted) throw new InputError(`expected wire type ${wanted}, found ${type}`);
}

function asBytes(field: PbfReader): Uint8Array {
  assertWire(field, WIRE.bytes);
  const bytes = reading(() => field.readBytes());
  assertWhole(field);
  return bytes;
}

function asNumber(field: PbfReader): number {
  assertWire(field, WIRE.varint);
  return reading(() => field.readVarint());
}

function asFloat(field: PbfReader): number {
  assertWire(field, WIRE.fixed32);
  assertWhole(field, 4);
  return reading(() => field.readFloat());
}
