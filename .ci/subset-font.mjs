// node .ci/subset-font.mjs: makes .ci/fonts/NotoSansSC.ttf, the Chinese of pictures' labels: GB 2312's characters (those of
// simplified Chinese in everyday use) from Noto Sans SC, which npm has as @fontsource/noto-sans-sc, without what only browsers
// and hinting need. The package has every weight in hundreds of pieces, 76 MB: too much to install for one file.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { inflateSync } from "node:zlib";
import * as tar from "tar";

const PACKAGE = "@fontsource/noto-sans-sc@5.3.0";
const FILE = "files/noto-sans-sc-chinese-simplified-400-normal.woff";
const out = new URL("fonts/", import.meta.url).pathname;

/** A WOFF file's font: its tables unpacked (https://www.w3.org/TR/WOFF/, sections 3 to 5). */
function unpacked(woff) {
  const count = woff.readUInt16BE(12);
  const head = Buffer.alloc(12 + 16 * count);
  const power = 2 ** Math.floor(Math.log2(count));
  head.writeUInt32BE(woff.readUInt32BE(4), 0);
  for (const [i, value] of [count, power * 16, Math.log2(power), (count - power) * 16].entries())
    head.writeUInt16BE(value, 4 + 2 * i);
  const parts = [head];
  let at = head.length;
  for (let i = 0; i < count; i++) {
    const [tag, offset, packed, length, checksum] = [0, 1, 2, 3, 4].map((j) =>
      woff.readUInt32BE(44 + 20 * i + 4 * j),
    );
    const bytes = woff.subarray(offset, offset + packed);
    const table = packed < length ? inflateSync(bytes) : bytes;
    for (const [j, value] of [tag, checksum, at, length].entries())
      head.writeUInt32BE(value, 12 + 16 * i + 4 * j);
    parts.push(table, Buffer.alloc((4 - (length % 4)) % 4));
    at += length + ((4 - (length % 4)) % 4);
  }
  return Buffer.concat(parts);
}

/** A font with only these characters, by HarfBuzz's subsetter. */
function subset(font, characters) {
  const require = createRequire(import.meta.url);
  const wasm = join(dirname(require.resolve("harfbuzzjs")), "harfbuzz-subset.wasm");
  const { exports: hb } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(wasm)));
  hb._initialize();
  const start = hb.malloc(font.length);
  new Uint8Array(hb.memory.buffer).set(font, start);
  const face = hb.hb_face_create(hb.hb_blob_create(start, font.length, 2, 0, 0), 0);
  const input = hb.hb_subset_input_create_or_fail();
  for (const character of characters)
    hb.hb_set_add(hb.hb_subset_input_unicode_set(input), character.codePointAt(0));
  // The sets are numbered in hb-subset.h: 6 is the features, of which labels need none; flag 1 drops the hinting.
  hb.hb_set_clear(hb.hb_subset_input_set(input, 6));
  hb.hb_subset_input_set_flags(input, 1);
  const blob = hb.hb_face_reference_blob(hb.hb_subset_or_fail(face, input));
  const at = hb.hb_blob_get_data(blob, 0);
  return Buffer.from(hb.memory.buffer.slice(at, at + hb.hb_blob_get_length(blob)));
}

// Rows 1 to 9 are signs, 16 to 87 characters.
const decoder = new TextDecoder("gb2312");
let characters = "";
for (let row = 0xa1; row <= 0xf7; row++)
  for (let cell = 0xa1; cell <= 0xfe; cell++) characters += decoder.decode(Uint8Array.of(row, cell));

const folder = mkdtempSync(join(tmpdir(), "firstframe-font-"));
try {
  const [{ filename }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--pack-destination", folder, PACKAGE], { encoding: "utf8" }),
  );
  const paths = [`package/${FILE}`, "package/LICENSE"];
  await tar.extract({ file: join(folder, filename), cwd: folder }, paths);
  mkdirSync(out, { recursive: true });
  writeFileSync(
    join(out, "NotoSansSC.ttf"),
    subset(unpacked(readFileSync(join(folder, paths[0]))), characters),
  );
  copyFileSync(join(folder, paths[1]), join(out, "NotoSansSC.LICENSE.txt"));
} finally {
  rmSync(folder, { recursive: true });
}
