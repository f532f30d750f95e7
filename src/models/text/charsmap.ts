import { InputError } from "../../engine/errors.js";

/**
 * SentencePiece's text normalisation (Kudo and Richardson 2018, arXiv 1808.06226, section 3.2): rules that replace
 * runs of characters, compiled into a double-array trie over their UTF-8 bytes.
 *
 * The blob is the trie's length in bytes, the trie's 32-bit units, and the replacements, each ended by a zero byte.
 */
export class PrecompiledCharsmap {
  readonly #trie: Uint32Array;
  readonly #replacements: Uint8Array;

  /** @throws InputError when the blob is cut off. */
  constructor(blob: Uint8Array) {
    const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
    const length = blob.byteLength >= 4 ? view.getUint32(0, true) : -1;
    if (length < 0 || length % 4 !== 0 || 4 + length > blob.byteLength) {
      throw new InputError(`charsmap: expected a trie of ${length} bytes, found ${blob.byteLength - 4}`);
    }
    this.#trie = Uint32Array.from({ length: length / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#replacements = blob.subarray(4 + length);
  }

  /** Replaces, from left to right, the longest run of characters that matches a rule. */
  normalize(text: string): string {
    const bytes = new TextEncoder().encode(text);
    const out: number[] = [];
    for (let at = 0; at < bytes.length; ) {
      const match = this.#longestMatch(bytes, at);
      if (match) {
        for (let i = match.replacement; this.#replacements[i]; i++) out.push(this.#replacements[i]!);
        at += match.length;
      } else {
        const length = characterLength(bytes[at]!);
        for (let i = 0; i < length; i++) out.push(bytes[at + i]!);
        at += length;
      }
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(out));
  }

  #longestMatch(bytes: Uint8Array, start: number): { length: number; replacement: number } | undefined {
    let found: { length: number; replacement: number } | undefined;
    let node = offset(this.#trie[0] ?? 0);
    for (let at = start; at < bytes.length; at++) {
      node ^= bytes[at]!;
      const unit = this.#trie[node];
      if (unit === undefined || label(unit) !== bytes[at]) break;
      node ^= offset(unit);
      if (hasLeaf(unit)) {
        const replacement = (this.#trie[node] ?? 0) & 0x7fffffff;
        found = { length: at + 1 - start, replacement };
      }
    }
    return found;
  }
}

/** Bytes of the UTF-8 character that starts with this byte. */
function characterLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

// A unit of the trie: bits 0-7 label, 8 leaf follows, 9 scale of the offset, 10-30 offset, 31 value instead of node.
const label = (unit: number) => unit & 0x800000ff;
const hasLeaf = (unit: number) => (unit & 0x100) !== 0;
const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);

/** How SentencePiece prepares text: the rules, then spaces as "▁", one before the text and none after it. */
export function sentencePieceNormalization({
  charsmap,
  removeExtraWhitespaces,
  addDummyPrefix,
}: {
  readonly charsmap: Uint8Array;
  readonly removeExtraWhitespaces: boolean;
  readonly addDummyPrefix: boolean;
}): (text: string) => string {
  const rules = charsmap.length > 0 ? new PrecompiledCharsmap(charsmap) : null;
  return (text) => {
    let normal = rules?.normalize(text) ?? text;
    if (removeExtraWhitespaces) normal = normal.replace(/ +/g, " ").replace(/^ /, "");
    if (normal === "") return "";
    const escaped = (addDummyPrefix ? "▁" : "") + normal.replaceAll(" ", "▁");
    return removeExtraWhitespaces ? escaped.replace(/▁+$/, "") : escaped;
  };
}
