import assert from "node:assert/strict";
import { test } from "node:test";
import { suggestion } from "../../../src/engine/suggestion.js";

test("a name that is nearly right is known, and others are not guessed at", () => {
  const names = ["run", "lab", "train", "procedural dataset", "--check", "learning_rate"];
  for (const [found, meant] of [
    ["rnu", "run"],
    ["rum", "run"],
    ["TRAIN", "train"],
    ["trian", "train"],
    ["procedural datset", "procedural dataset"],
    ["--chekc", "--check"],
    ["lerning_rat", "learning_rate"],
  ] as const) {
    assert.equal(suggestion(found, names), ` (did you mean ${meant}?)`, found);
  }
  for (const found of ["cat", "xyz", "--verbose", "weight_decay", ""])
    assert.equal(suggestion(found, names), "");
  assert.equal(suggestion("x", []), "");
});
