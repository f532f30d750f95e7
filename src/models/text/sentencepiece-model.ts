/** Reads SentencePiece's model files (`spiece.model`): a Protocol Buffers message of pieces and settings. */

import { readFile } from "node:fs/promises";
import { InputError } from "../../engine/errors.js";

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

/** @throws SentencePieceError when the file is no model, or one of another kind than unigram. */
export async function readSentencePieceModel(path: string): Promise<SentencePieceModel> {
  const fail = (problem: string): never => {
    throw new SentencePieceError(problem, { file: path });
  };
  const bytes = await readFile(path);
  const pieces: Piece[] = [];
  let unkId = 0;
  let modelType = 1;
  let charsmap: Uint8Array = new Uint8Array();
  let removeExtraWhitespaces = true;
  let addDummyPrefix = true;
  try {
    for (const { field, value } of messageFields(bytes)) {
      if (field === 1) pieces.push(readPiece(asBytes(value)));
      else if (field === 2) {
        for (const setting of messageFields(asBytes(value))) {
          if (setting.field === 3) modelType = asNumber(setting.value);
          else if (setting.field === 40) unkId = asNumber(setting.value);
        }
      } else if (field === 3) {
        for (const setting of messageFields(asBytes(value))) {
          if (setting.field === 2) charsmap = asBytes(setting.value);
          else if (setting.field === 3) addDummyPrefix = asNumber(setting.value) !== 0;
          else if (setting.field === 4) removeExtraWhitespaces = asNumber(setting.value) !== 0;
        }
      }
    }
  } catch (error) {
    fail(`not a SentencePiece model (${(error as Error).message})`);
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
  for (const { field, value } of messageFields(bytes)) {
    if (field === 1) piece = new TextDecoder("utf-8", { fatal: true }).decode(asBytes(value));
    else if (field === 2) score = asFloat(asBytes(value));
    else if (field === 3) type = asNumber(value);
  }
  return { piece, score, type };
}

/** A number, or the bytes of a text, a message or a float. */
type FieldValue = number | Uint8Array;

function asBytes(value: FieldValue): Uint8Array {
  if (typeof value === "number") throw new Error("a number where bytes were expected");
  return value;
}

function asNumber(value: FieldValue): number {
  if (typeof value !== "number") throw new Error("bytes where a number was expected");
  return value;
}

function asFloat(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat32(0, true);
}

/** The fields of a message, in the wire format of Protocol Buffers. */
function* messageFields(bytes: Uint8Array): Generator<{ field: number; value: FieldValue }> {
  let at = 0;
  const varint = (): number => {
    let result = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || factor > 2 ** 63) throw new Error("a number is cut off");
      result += (byte & 0x7f) * factor;
      if (byte < 0x80) return result;
    }
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new Error("a field is cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { field, value: varint() };
        break;
      case 1:
        yield { field, value: take(8) };
        break;
      case 2:
        yield { field, value: take(varint()) };
        break;
      case 5:
        yield { field, value: take(4) };
        break;
      default:
        throw new Error(`unknown wire type ${tag % 8}`);
    }
  }
}
