import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { ensurePython, PythonError, pythonEnvironment } from "../../../kernel/install/python.js";
import { PackageIndex, sha256Of, wheel } from "../engine/package-index.js";
import { projectRoot } from "./project.js";

const folder = mkdtempSync(join(tmpdir(), "firstframe-python-"));
const filename = "tiny-1.0-py3-none-any.whl";
const children = new Set<ChildProcess>();
let index: PackageIndex;
let honest: Buffer;

before(async () => {
  honest = await tiny("right");
  index = await PackageIndex.start([{ name: "tiny", filename, content: honest }]);
  process.env.PIP_INDEX_URL = index.url;
  process.env.PIP_CONFIG_FILE = "/dev/null";
  delete process.env.PIP_FIND_LINKS;
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  Object.assign(index.releases[0]!, { content: honest, speed: undefined });
});
after(async () => {
  await index.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A package with one module. */
function tiny(text: string): Promise<Buffer> {
  return wheel({
    "tiny.py": `text = ${JSON.stringify(text)}\n`.padEnd(200_000, "#"),
    "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\n",
  });
}

/** A folder that asks for the package by these lines. */
function lock(name: string, text: string): string {
  const requirements = join(folder, name);
  mkdirSync(requirements, { recursive: true });
  writeFileSync(join(requirements, "locked.txt"), text);
  return requirements;
}

const has = (venv: string, name: string) =>
  existsSync(venv) && readdirSync(venv, { recursive: true }).some((file) => String(file).endsWith(name));

describe("the project's own Python", () => {
  it("is made, and made again where it was left half made or its packages changed", async () => {
    const requirements = lock("requirements", `tiny==0.0 --hash=sha256:${sha256Of(honest)}\n`);
    const wanted = { folder: join(folder, "venv"), requirements };
    const environment = pythonEnvironment(wanted.folder);
    await assert.rejects(ensurePython(wanted), {
      name: "PythonError",
      message: /pip could not install .*locked\.txt: ERROR/,
    });
    assert.ok(existsSync(environment.bin("python")) && !has(wanted.folder, "tiny.py"), "half made");

    lock("requirements", `tiny==1.0 --hash=sha256:${sha256Of(honest)}\n`);
    const steps: [number, number][] = [];
    await ensurePython({ ...wanted, onProgress: (_, done, total) => steps.push([done, total]) });
    assert.deepEqual([steps[0], steps.at(-1)].flat(), [0, 1, 1, 1]);
    assert.ok(has(wanted.folder, "tiny.py"));
    assert.deepEqual(readdirSync(folder).sort(), ["requirements", "venv"], "no lock is left");

    let again = 0;
    await ensurePython({ ...wanted, onProgress: () => again++ });
    assert.equal(again, 0, "what is there is taken as it is");
  });

  it("has the translator for papermill, made without an index, and made again when it changed", async () => {
    const requirements = lock("translator", `tiny==1.0 --hash=sha256:${sha256Of(honest)}\n`);
    cpSync(join(projectRoot, "kernel/install/papermill"), join(requirements, "papermill"), {
      recursive: true,
    });
    const wanted = { folder: join(folder, "translator-venv"), requirements };
    await ensurePython(wanted);
    assert.ok(has(wanted.folder, "firstframe_papermill.py"));
    appendFileSync(join(requirements, "papermill/firstframe_papermill.py"), "changed = True\n");
    await ensurePython(wanted);
    const file = readdirSync(wanted.folder, { recursive: true }).find((name) =>
      String(name).endsWith("firstframe_papermill.py"),
    );
    assert.match(readFileSync(join(wanted.folder, String(file)), "utf8"), /changed = True/);
    rmSync(requirements, { recursive: true });
    rmSync(wanted.folder, { recursive: true });
  });

  it("takes no package whose bytes changed, whatever the index says of them", async () => {
    const requirements = lock("changed", `tiny==1.0 --hash=sha256:${sha256Of(honest)}\n`);
    const wanted = { folder: join(folder, "changed-venv"), requirements };
    index.releases[0]!.content = await tiny("evil!");
    await assert.rejects(ensurePython(wanted), {
      name: "PythonError",
      message:
        /locked\.txt: tiny==1\.0 has a SHA-256 that is not in the list, [0-9a-f]{64}: somebody changed/,
    });
    assert.ok(!has(wanted.folder, "tiny.py"));
  });

  it("takes no package without a SHA-256, and none that the list does not name", async () => {
    const wanted = { folder: join(folder, "bare-venv"), requirements: lock("bare", "tiny==1.0\n") };
    await assert.rejects(ensurePython(wanted), { name: "PythonError", message: /pip could not install/ });
    assert.ok(!has(wanted.folder, "tiny.py"));
  });

  it("is asked of no http index elsewhere", async () => {
    const requirements = lock("elsewhere", `tiny==1.0 --hash=sha256:${sha256Of(honest)}\n`);
    index.requests.length = 0;
    try {
      process.env.PIP_INDEX_URL = index.remoteUrl;
      const wanted = { folder: join(folder, "elsewhere-venv"), requirements };
      await assert.rejects(ensurePython(wanted), { name: "PythonError", message: /pip could not install/ });
    } finally {
      process.env.PIP_INDEX_URL = index.url;
    }
    assert.deepEqual(index.requests, []);
  });

  it("is whole after a process that made it slept while another one took over", {
    skip: process.platform === "win32" && "signals that stop a process",
  }, async () => {
    const requirements = lock("sleep", `tiny==1.0 --hash=sha256:${sha256Of(honest)}\n`);
    const venv = join(folder, "sleep-venv");
    index.releases[0]!.speed = 100_000;
    index.requests.length = 0;
    const first = maker(venv, requirements);
    while (index.downloads.length === 0) await new Promise((wake) => setTimeout(wake, 50));
    // its pip goes on, as it would if the process were killed
    first.child.kill("SIGSTOP");
    const second = maker(venv, requirements);
    assert.deepEqual(await second.ended, { code: 0, output: "made\n" });
    first.child.kill("SIGCONT");
    assert.deepEqual(await first.ended, { code: 0, output: "made\n" });
    assert.ok(has(venv, "tiny.py") && has(venv, "firstframe.json"));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes("sleep-venv")),
      ["sleep-venv"],
    );
  });

  it("is made by the next one when the process that made it was killed", async () => {
    const requirements = lock("killed", `tiny==1.0 --hash=sha256:${sha256Of(honest)}\n`);
    const venv = join(folder, "killed-venv");
    index.releases[0]!.speed = 100_000;
    const already = index.downloads.length;
    const first = maker(venv, requirements);
    while (index.downloads.length === already) await new Promise((wake) => setTimeout(wake, 50));
    first.child.kill("SIGKILL");
    await once(first.child, "exit");
    assert.ok(!has(venv, "firstframe.json"), "half made");
    const steps: string[] = [];
    await ensurePython({ folder: venv, requirements, onProgress: (step) => steps.push(step) });
    assert.equal(steps[0], `another process makes ${venv}; waiting for process ${first.child.pid}`);
    assert.equal(steps[1], "python3 -m venv");
    assert.ok(has(venv, "tiny.py") && has(venv, "firstframe.json"));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes("killed-venv")),
      ["killed-venv"],
    );
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
        '#!/bin/sh\ncase "$*" in *venv*) echo no ensurepip >&2; exit 1;; esac\necho 3.11\n',
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

/** Another process that makes the environment. */
function maker(venv: string, requirements: string) {
  const module = new URL("../../../kernel/install/python.js", import.meta.url).href;
  const code = `import { ensurePython } from ${JSON.stringify(module)};
    await ensurePython({ folder: process.argv[1], requirements: process.argv[2] });
    console.log("made");`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code, venv, requirements], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const ended = new Promise<{ code: number | null; output: string }>((done) =>
    child.on("close", (code) => done({ code, output })),
  );
  return { child, ended };
}
