import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { installKernelspec } from "../../kernel/install/kernelspec.js";
import { projectPython, projectRoot } from "../src/cli/project.js";

test("jupyter_kernel_test passes, with no sample left out", async () => {
  const prefix = mkdtempSync(join(tmpdir(), "firstframe-conformance-"));
  try {
    await installKernelspec({ prefix });
    const { code, output } = await run(
      projectPython(),
      [join(projectRoot, "test/kernel/test_kernel.py"), "-v"],
      {
        ...process.env,
        JUPYTER_PATH: join(prefix, "share/jupyter"),
        JUPYTER_RUNTIME_DIR: join(prefix, "runtime"),
        FIRSTFRAME_HISTORY: join(prefix, "history.sqlite"),
      },
    );
    assert.equal(code, 0, output);
    assert.match(output, /Ran 14 tests/);
    assert.doesNotMatch(output, /skipped/i);
  } finally {
    rmSync(prefix, { recursive: true, force: true });
  }
});

function run(
  program: string,
  parameters: string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, { env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk) => (output += String(chunk)));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}
