import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ensurePython, PythonError, pythonEnvironment } from "../../kernel/install/python.js";

const folder = mkdtempSync(join(tmpdir(), "firstframe-python-"));
after(() => rmSync(folder, { recursive: true, force: true }));

describe("the project's own Python", () => {
  it("is made, and made again where it was left half made or its versions changed", async () => {
    const requirements = join(folder, "requirements");
    mkdirSync(requirements);
    const wanted = { folder: join(folder, "venv"), requirements };
    const environment = pythonEnvironment(wanted.folder);
    const has = (name: string) =>
      readdirSync(wanted.folder, { recursive: true }).some((file) => String(file).endsWith(name));
    writeFileSync(join(requirements, "requirements.txt"), "-c constraints.txt\nwebencodings\n");
    writeFileSync(join(requirements, "constraints.txt"), "webencodings==0.0.0\n");
    await assert.rejects(ensurePython(wanted), {
      name: "PythonError",
      message: /pip could not install .*requirements\.txt: ERROR/,
    });
    assert.ok(existsSync(environment.bin("python")) && !has("webencodings-0.5.1.dist-info"), "half made");

    writeFileSync(join(requirements, "constraints.txt"), "webencodings==0.5.1\n");
    const steps: [number, number][] = [];
    await ensurePython({ ...wanted, onProgress: (_, done, total) => steps.push([done, total]) });
    assert.deepEqual([steps[0], steps.at(-1)].flat(), [0, 1, 1, 1]);
    assert.ok(has("webencodings-0.5.1.dist-info"));

    let again = 0;
    await ensurePython({ ...wanted, onProgress: () => again++ });
    assert.equal(again, 0, "what is there is taken as it is");
  });

  it("says what to do where there is no usable Python", async () => {
    const bin = join(folder, "bin");
    mkdirSync(bin);
    const path = process.env.PATH;
    try {
      process.env.PATH = bin;
      const wanted = { folder: join(folder, "none") };
      await assert.rejects(
        ensurePython(wanted),
        new PythonError("Python 3.10 or newer is needed on PATH, found none"),
      );
      writeFileSync(join(bin, "python3"), "#!/bin/sh\necho 3.6\n", { mode: 0o755 });
      symlinkSync("/bin/sh", join(bin, "sh"));
      await assert.rejects(ensurePython(wanted), { message: /found python3 3\.6$/ });
      writeFileSync(
        join(bin, "python3"),
        '#!/bin/sh\n[ "$1" = -c ] && echo 3.11 && exit 0\necho no ensurepip >&2; exit 1\n',
        {
          mode: 0o755,
        },
      );
      await assert.rejects(ensurePython(wanted), {
        name: "PythonError",
        message: /python3 -m venv failed \(no ensurepip\); on Debian and Ubuntu install python3-venv/,
      });
    } finally {
      process.env.PATH = path;
    }
  });
});
