import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, it } from "node:test";
import { promisify } from "node:util";
import { inflateSync } from "node:zlib";
import * as firstframe from "../../../src/index.js";
import { projectRoot } from "./project.js";

const folder = mkdtempSync(join(tmpdir(), "firstframe-api-"));
after(() => rmSync(folder, { recursive: true }));

it("typedoc makes a page of everything that the package exports, and its search finds it", async () => {
  const { stderr } = await promisify(execFile)(process.execPath, [
    join(projectRoot, ".ci/api-reference.mjs"),
    folder,
  ]);
  assert.doesNotMatch(stderr, /\berror\b/i);
  const pages = readdirSync(folder, { recursive: true }).map(String);
  // Compressed and in a script, so that the search works from a file as well.
  const [, packed] = /"([A-Za-z0-9+/=]{100,})"/.exec(readFileSync(join(folder, "assets/search.js"), "utf8"))!;
  const index = inflateSync(Buffer.from(packed!, "base64")).toString();
  const names = Object.keys(firstframe);
  assert.ok(names.length > 50);
  for (const name of names) {
    assert.ok(
      pages.some((page) => /[/._]/.test(page.at(-name.length - 6)!) && page.endsWith(`${name}.html`)),
      `no page of ${name}`,
    );
    assert.ok(index.includes(`"name":"${name}"`), `the search does not know ${name}`);
  }
  const page = readFileSync(join(folder, "classes/firstframe.AutoencoderKLCogVideoX.html"), "utf8");
  assert.match(page, /<h1>Class AutoencoderKLCogVideoX/);
  assert.match(page, /href="\.\.\/\.\.\/index\.html"[^>]*>Tutorials/);
  assert.ok(!page.includes(projectRoot), "no path of this machine");
});
