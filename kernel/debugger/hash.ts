/** Seed of the hash below, which front ends are told. */
export const hashSeed = 0xc70f6907;

/**
 * MurmurHash2, 32 bits, of a text's UTF-8 bytes. Jupyter's front ends name a cell's source so, to find the cell that a
 * frame belongs to.
 */
export function murmur2(text: string, seed: number): number {
  const multiplier = 0x5bd1e995;
  const bytes = new TextEncoder().encode(text);
  const view = new DataView(bytes.buffer);
  let hash = (seed ^ bytes.length) | 0;
  let at = 0;
  for (; bytes.length - at >= 4; at += 4) {
    let block = Math.imul(view.getUint32(at, true), multiplier);
    block = Math.imul(block ^ (block >>> 24), multiplier);
    hash = Math.imul(hash, multiplier) ^ block;
  }
  if (at < bytes.length) {
    for (let i = bytes.length - 1; i >= at; i -= 1) hash ^= bytes[i]! << (8 * (i - at));
    hash = Math.imul(hash, multiplier);
  }
  hash = Math.imul(hash ^ (hash >>> 13), multiplier);
  return (hash ^ (hash >>> 15)) >>> 0;
}
