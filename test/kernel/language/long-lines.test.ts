import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { CellSyntaxError } from "../../../kernel/language/language.js";
import { assertFewErrors, hasLongLines } from "../../../kernel/language/long-lines.js";

const size = 1_000_000;
const fill = (unit: string) => unit.repeat(size / unit.length);

test("long lines that would be an error every few characters are refused, with the first errors in their places", () => {
  for (const [unit, place, message] of [
    ["export ", "export", /modifier already seen/],
    ["let a;", "a", /already been declared/],
    ["return;", "return", /only be used within a function/],
    ["08,", "08", /leading zeros/],
    ["const a;", "a", /initializer/],
  ] as const) {
    const code = fill(unit);
    assert.ok(hasLongLines(code));
    assert.throws(
      () => assertFewErrors(code),
      (error) => {
        assert.ok(error instanceof CellSyntaxError);
        assert.equal(error.diagnostics.length, 20);
        for (const found of error.diagnostics) {
          assert.equal(code.slice(found.start, found.end), place);
          assert.match(found.message, message);
        }
        return true;
      },
    );
  }
});

test("errors in short lines are the parser's", () => {
  const code = fill("let a;\n");
  assert.ok(!hasLongLines(code));
  assertFewErrors(code);
});

test("data on one line is let through, whatever its texts say, and so are minified programs", () => {
  for (const code of [
    `const numbers = [${fill("1,")}];`,
    `const text = "${fill("return;")}";`,
    `const text = \`${fill("export ")}\`;`,
    `f(); /* ${fill("let a;")} */`,
    `const records = [${fill('{"a":"return; return","b":[1,2,/[/"]/]},')}];`,
  ]) {
    assert.ok(hasLongLines(code));
    assertFewErrors(code);
  }
  const require = createRequire(import.meta.url);
  for (const file of [
    "plotly.js-strict-dist-min",
    "katex/dist/katex.min.js",
    "@tensorflow/tfjs-core/dist/tf-core.min.js",
  ]) {
    const code = readFileSync(require.resolve(file), "utf8");
    assert.ok(hasLongLines(code), file);
    assertFewErrors(code);
  }
});
