/** Runs the reference libraries, where they are installed. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";

/**
 * FIRSTFRAME_PYTHON, else the project's own environment. What is needed: `pip install -r requirements.txt`
 * with the file in this folder.
 */
const python = process.env.FIRSTFRAME_PYTHON ?? resolve(".venv/bin/python");

/** Why tests that need these Python modules can't run; undefined if they can. */
export function missingPython(...modules: string[]): string | undefined {
  if (!existsSync(python)) return `no Python: FIRSTFRAME_PYTHON is not set and there is no ${python}`;
  const code = `import importlib.util as u; print(*(m for m in ${JSON.stringify(modules)} if not u.find_spec(m)))`;
  const { status, stdout, stderr } = spawnSync(python, ["-c", code], { encoding: "utf8" });
  if (status !== 0) return `${python}: ${stderr.trim().split("\n").at(-1)}`;
  if (stdout.trim() === "") return undefined;
  return `${python} lacks ${stdout.trim()}: pip install -r test/src/roundtrip/requirements.txt`;
}

/** Runs a script beside this file's source. @throws Error with its standard error when it fails. */
export function runPython(script: string, ...args: string[]): string {
  const path = resolve("test/src/roundtrip", script);
  const { status, stdout, stderr } = spawnSync(python, [path, ...args], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    env: { ...process.env, HF_HUB_OFFLINE: "1", OMP_NUM_THREADS: "2" },
  });
  if (status !== 0) throw new Error(`${script} failed with ${status}:\n${stderr}`);
  return stdout;
}
