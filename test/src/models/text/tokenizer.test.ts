import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import {
  readSentencePieceModel,
  SentencePieceError,
} from "../../../../src/models/text/sentencepiece-model.js";
import { T5Tokenizer } from "../../../../src/models/text/tokenizer.js";

const spiece = resolve("test/src/models/text/spiece");
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-tokenizer-"));
});
after(() => rm(folder, { recursive: true }));

test("a SentencePiece model gives SentencePiece's own tokens, then the end of text", async () => {
  const tokenizer = await T5Tokenizer.fromPretrained(spiece);
  assert.equal(tokenizer.vocabSize, 100 + 100, "the pieces and T5's sentinels");
  assert.deepEqual([tokenizer.padTokenId, tokenizer.eosTokenId], [0, 1]);
  const rows = JSON.parse(await readFile(join(spiece, "expected.json"), "utf8")) as {
    text: string;
    ids: number[];
  }[];
  assert.ok(rows.length > 40);
  for (const { text, ids } of rows)
    assert.deepEqual(tokenizer.tokenize(text), [...ids, 1], JSON.stringify(text));
});

test("special tokens in the text are themselves, as in transformers", async () => {
  const tokenizer = await T5Tokenizer.fromPretrained(spiece);
  const [first, ...rest] = tokenizer.tokenize("<pad>a kitten</s>");
  assert.equal(first, 0);
  assert.deepEqual(rest, [...tokenizer.tokenize("a kitten"), 1]);
  assert.deepEqual(tokenizer.tokenize("<extra_id_0>"), [199, 1]);
});

test("texts are padded, and cut off before the end of text", async () => {
  const tokenizer = await T5Tokenizer.fromPretrained(spiece);
  const [short, long] = ["a kitten", "a kitten walks across the green meadow"];
  const { inputIds, attentionMask, truncated } = tokenizer.encode([short, long], { maxLength: 8 });
  const [a, b] = [tokenizer.tokenize(short), tokenizer.tokenize(long)];
  assert.ok(a.length < 8 && b.length > 8);
  assert.deepEqual(inputIds[0], [...a, ...Array(8 - a.length).fill(0)]);
  assert.deepEqual(attentionMask[0], [...a.map(() => 1), ...Array(8 - a.length).fill(0)]);
  assert.deepEqual(inputIds[1], [...b.slice(0, 7), 1]);
  assert.equal(truncated[0], "");
  assert.equal(tokenizer.decode(b.slice(0, 7)), tokenizer.decode(inputIds[1]!));
  assert.ok(truncated[1]!.length > 0 && long.endsWith(truncated[1]!));
  const longest = tokenizer.encode([short, long], { maxLength: 226, padding: "longest" });
  assert.equal(longest.inputIds[0]!.length, b.length);
  assert.equal(tokenizer.encode("a", { maxLength: 226 }).inputIds[0]!.length, 226);
  assert.throws(
    () => tokenizer.encode("a", { maxLength: 0 }),
    /maxLength: expected a positive integer, found 0/,
  );
});

test("decoding gives the text back", async () => {
  const tokenizer = await T5Tokenizer.fromPretrained(spiece);
  for (const text of ["a kitten walks across the green meadow.", "two fish; 4k"]) {
    assert.equal(tokenizer.decode(tokenizer.tokenize(text)), text);
  }
  assert.equal(tokenizer.decode([0, 0, 1]), "");
});

test("a tokenizer is written and read again, from either kind of file", async () => {
  const text = "a kitten walks, slowly.";
  const fromModel = await T5Tokenizer.fromPretrained(spiece);
  await fromModel.savePretrained(join(folder, "model"));
  const again = await T5Tokenizer.fromPretrained(join(folder, "model"));
  assert.deepEqual(again.tokenize(text), fromModel.tokenize(text));
  assert.deepEqual(
    await readFile(join(folder, "model/spiece.model")),
    await readFile(join(spiece, "spiece.model")),
  );

  const made = T5Tokenizer.fromVocabulary([
    ["▁a", -1],
    ["▁kitten", -2],
    ["▁", -5],
    ["k", -6],
    ["i", -6],
  ]);
  assert.deepEqual(made.tokenize("a kitten  a\nki?"), [3, 4, 3, 5, 6, 7, 2, 1]);
  await made.savePretrained(join(folder, "json"));
  const read = await T5Tokenizer.fromPretrained(join(folder, "json"));
  assert.deepEqual(read.tokenize("a kitten  a\nki?"), made.tokenize("a kitten  a\nki?"));
  assert.deepEqual(JSON.stringify(read), JSON.stringify(made));
});

test("the rules in a tokenizer.json are applied as SentencePiece does, alone or first in a sequence", async () => {
  // The rules of spiece.model, taken out of it as transformers would.
  const model = await readFile(join(spiece, "spiece.model"));
  const path = join(folder, "rules");
  await T5Tokenizer.fromVocabulary([
    ["▁caf", -2],
    ["é", -3],
    ["▁fi", -3],
    ["ﬁ", -3],
    ["fi", -3],
    ["▁", -4],
  ]).savePretrained(path);
  const file = join(path, "tokenizer.json");
  const json = JSON.parse(await readFile(file, "utf8"));
  const precompiled = { type: "Precompiled", precompiled_charsmap: charsmapOf(model).toString("base64") };
  for (const normalizer of [
    precompiled,
    { type: "Sequence", normalizers: [precompiled, { type: "Strip", strip_left: false, strip_right: true }] },
  ]) {
    await writeFile(file, JSON.stringify({ ...json, normalizer }));
    const tokenizer = await T5Tokenizer.fromPretrained(path);
    assert.deepEqual(tokenizer.tokenize("cafe\u0301\u3000\ufb01"), [3, 4, 5, 1]);
  }
});

/** Field 3 of the message is the normaliser's settings; their field 2 the rules. */
function charsmapOf(model: Buffer): Buffer {
  const varint = (at: number): [number, number] => {
    let [value, shift] = [0, 0];
    for (; ; at++, shift += 7) {
      value |= (model[at]! & 0x7f) << shift;
      if (model[at]! < 128) return [value, at + 1];
    }
  };
  const find = (from: number, to: number, wanted: number): [number, number] => {
    for (let at = from; at < to; ) {
      const tag = model[at++]!;
      let length: number;
      if (tag % 8 === 2) {
        [length, at] = varint(at);
        if (tag >> 3 === wanted) return [at, at + length];
        at += length;
      } else if (tag % 8 === 5) at += 4;
      else [, at] = varint(at);
    }
    throw new Error(`no field ${wanted}`);
  };
  const [start, end] = find(0, model.length, 3);
  return model.subarray(...find(start, end, 2));
}

test("a tokenizer.json that the library can't use is refused by name, and so are rules that are cut off", async () => {
  const path = join(folder, "unusable");
  await T5Tokenizer.fromVocabulary([["▁a", -1]]).savePretrained(path);
  const file = join(path, "tokenizer.json");
  const json = JSON.parse(await readFile(file, "utf8"));
  const refused = async (changed: object, message: RegExp) => {
    await writeFile(file, JSON.stringify({ ...json, ...changed }));
    await assert.rejects(T5Tokenizer.fromPretrained(path), { name: "ConfigError", file, message });
  };
  await refused({ model: null }, /tokenizer\.json: not a tokenizer that can be used \(.+\)$/);
  await refused({ model: { ...json.model, vocab: 7 } }, /not a tokenizer that can be used/);
  await refused(
    { normalizer: { type: "Precompiled", precompiled_charsmap: "AAEAAA==" } },
    /tokenizer\.json: charsmap: expected a trie of 256 bytes, found 0$/,
  );
});

test("folders without a tokenizer, and files that are none, are refused by name", async () => {
  const nothing = join(folder, "nothing");
  await assert.rejects(T5Tokenizer.fromPretrained(nothing), /nothing: no such file or folder/);
  await mkdir(nothing);
  await assert.rejects(
    T5Tokenizer.fromPretrained(nothing),
    /nothing: found neither tokenizer.json nor spiece.model/,
  );
  const broken = join(folder, "broken");
  await cp(spiece, broken, { recursive: true });
  const file = join(broken, "spiece.model");
  const whole = await readFile(file);
  await writeFile(file, whole.subarray(0, whole.length - 20));
  await assert.rejects(
    T5Tokenizer.fromPretrained(broken),
    /spiece.model: not a SentencePiece model \(a field is cut off\)/,
  );
  await writeFile(file, "hello");
  await assert.rejects(T5Tokenizer.fromPretrained(broken), /spiece.model: not a SentencePiece model/);
  await writeFile(file, "");
  await assert.rejects(T5Tokenizer.fromPretrained(broken), /not a SentencePiece model \(it has no pieces\)/);
  await writeFile(join(broken, "tokenizer.json"), "{}");
  await assert.rejects(T5Tokenizer.fromPretrained(broken), /tokenizer.json: /);
});

test("what the library or the decoder says of a model's bytes is the reason it is refused for", async () => {
  const file = join(folder, "bytes.model");
  const refused = async (bytes: readonly number[], reason: RegExp, cause?: { name: string }) => {
    await writeFile(file, Uint8Array.from(bytes));
    await assert.rejects(readSentencePieceModel(file), (error) => {
      assert.ok(error instanceof SentencePieceError, String(error));
      assert.equal(error.file, file);
      assert.match(error.message, reason);
      const inner = error.cause as Error;
      assert.equal((inner.cause as Error | undefined)?.name, cause?.name);
      return true;
    });
  };
  await refused([...Array<number>(11).fill(0xff)], /bytes\.model: not a SentencePiece model \(.+\)$/, Error);
  await refused([0x0a, 3, 0x0a, 1, 0xff], /not a SentencePiece model \(.*utf-8.*\)$/i, TypeError);
  await refused([0x0b], /not a SentencePiece model \(unknown wire type 3\)$/);
  await refused([0x08, 1], /not a SentencePiece model \(expected wire type 2, found 0\)$/);
  await assert.rejects(readSentencePieceModel(folder), { name: "SentencePieceError", file: folder });
  const gone = join(folder, "gone.model");
  await assert.rejects(readSentencePieceModel(gone), { message: `${gone}: no such file` });
});

test("a damaged model is read or refused by name: nothing else happens, wherever the damage is", async () => {
  const whole = await readFile(join(spiece, "spiece.model"));
  const file = join(folder, "damaged.model");
  const fine = await readSentencePieceModel(join(spiece, "spiece.model"));
  let refused = 0;
  const look = async (bytes: Uint8Array) => {
    await writeFile(file, bytes);
    try {
      const { pieces } = await readSentencePieceModel(file);
      assert.ok(pieces.length <= fine.pieces.length + 1);
    } catch (error) {
      assert.ok(error instanceof SentencePieceError, String((error as Error).stack));
      assert.equal(error.file, file);
      refused++;
    }
  };
  for (let cut = 1; cut < 150; cut++) await look(whole.subarray(0, whole.length - cut));
  assert.ok(refused > 100, `${refused} of 149 cut files were refused`);
  for (let i = 0; i < 300; i++) {
    const bytes = Uint8Array.from(whole);
    bytes[(i * 7919) % 4000] = (i * 37) % 256;
    await look(bytes);
  }
});
