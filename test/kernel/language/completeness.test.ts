import assert from "node:assert/strict";
import { test } from "node:test";
import { completenessOf } from "../../../kernel/language/completeness.js";

for (const code of [
  "",
  "a",
  "a;",
  "foo()",
  "{ a: 1 }",
  "if (x) { y }",
  "const f = () => 1",
  "`a\nb`",
  "// only a comment",
  "x\n  .y()",
  "<div/>",
  "await x",
  "import a from 'b'",
]) {
  test(`complete: ${JSON.stringify(code)}`, () => {
    assert.deepEqual(completenessOf(code), { status: "complete" });
  });
}

for (const [code, indent] of [
  ["if (x) {", "  "],
  ["foo(", "  "],
  ["foo(\n  1,", "  "],
  ["for (;;) {\n  if (x) {\n    y();", "    "],
  ["const f = () =>", "  "],
  ["class A {", "  "],
  ["{ a: 1,", "  "],
  ["const x = [1,", "  "],
  ["function f() {\n\treturn g(", "\t\t"],
  ["a +", ""],
  ["a.", ""],
  ["`abc", ""],
  ["/* x", ""],
  ["const s = 'x)' + f(", "  "],
] as const) {
  test(`incomplete: ${JSON.stringify(code)}`, () => {
    assert.deepEqual(completenessOf(code), { status: "incomplete", indent });
  });
}

for (const code of [
  "}",
  "foo)",
  "const = 5",
  "'abc",
  "a b",
  "1 = ;",
  "foo)\n(",
  "const a = 1; const a = 2;",
]) {
  test(`invalid: ${JSON.stringify(code)}`, () => {
    assert.deepEqual(completenessOf(code), { status: "invalid" });
  });
}
