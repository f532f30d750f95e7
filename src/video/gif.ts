/**
 * True if a GIF's blocks (GIF89a specification) are complete. Decoders silently return the frames before a cut, so this is
 * checked separately. A missing trailer alone is common and harmless.
 */
export function gifIsWhole(bytes: Uint8Array): boolean {
  const colours = (flags: number) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + colours(bytes[10] ?? 0);
  const skipSubBlocks = () => {
    while (at < bytes.length && bytes[at] !== 0) at += bytes[at]! + 1;
    at++;
  };
  while (at < bytes.length) {
    const kind = bytes[at];
    if (kind === 0x3b) return true;
    if (kind === 0x21) {
      at += 2; // extension: its label, then sub-blocks
    } else if (kind === 0x2c) {
      at += 11 + colours(bytes[at + 9] ?? 0); // image: place, flags, colours, code size, then sub-blocks
    } else {
      return false;
    }
    skipSubBlocks();
  }
  return at === bytes.length;
}
