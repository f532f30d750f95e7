import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensurePython } from "../kernel/install/python.js";
import { installWithProgress } from "../src/cli/engine.js";
import { CommandFailure } from "../src/cli/errors.js";
import { mallocEnvironment } from "../src/engine/environment.js";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** Vulkan on the processor, which Debian's chromium brings. */
const swiftShader = "/usr/lib/chromium/vk_swiftshader_icd.json";

/**
 * Brings what the chosen test files need, where it is not there yet: the project's own Python, an engine. Returns the
 * files that can run here: those in Chromium are left out where there is none, unless this is a CI.
 *
 * @param files paths below dist/test
 */
export async function setUp(files: readonly string[]): Promise<string[]> {
  // The test processes compute: they start with the same settings as the kernel and the command line.
  Object.assign(process.env, mallocEnvironment());
  // WebGPU is tested in software, so that every machine computes the same; the user's own choice of a driver wins.
  if (existsSync(swiftShader)) process.env.VK_ICD_FILENAMES ??= swiftShader;
  const some = (...folders: string[]) =>
    files.some((file) => folders.some((folder) => file.startsWith(`${folder}/`)));
  if (some("kernel", "src/cli", "browser", "package", "bench")) await setUpPython();
  if (files.includes("kernel/clients.test.js")) await setUpClients();
  if (files.some((file) => /^(kernel|browser)\/gateway/.test(file))) await setUpGateway();
  if (some("src", "browser", "package", "bench")) await setUpEngine();
  if (process.env.CI && some("src/roundtrip", "src/train")) await setUpReference();
  if (!some("browser")) return [...files];
  process.env.CHROMIUM ??= findOnPath("chromium", "chromium-browser", "google-chrome");
  if (process.env.CHROMIUM) return [...files];
  if (process.env.CI) throw new Error("tests in test/browser need chromium on PATH, or its path in CHROMIUM");
  console.log(
    "No chromium on PATH: the tests in test/browser are left out (on Debian: apt install chromium).",
  );
  return files.filter((file) => !file.startsWith("browser/"));
}

async function setUpPython(): Promise<void> {
  await makePython({
    folder: join(root, ".venv"),
    title: "Making .venv with the Python packages that the tests run against:",
  });
}

async function setUpClients(): Promise<void> {
  await makePython({
    folder: join(root, ".firstframe", "clients"),
    requirements: join(root, "test", "kernel", "clients"),
    title: "Making a Python with jupyter console and jupytext, which the tests run against:",
  });
}

/** Enterprise Gateway, which needs an older Jupyter server than JupyterLab does. */
async function setUpGateway(): Promise<void> {
  await makePython({
    folder: join(root, ".firstframe", "gateway"),
    requirements: join(root, "test", "kernel", "gateway"),
    title: "Making a Python with Jupyter Enterprise Gateway, which starts kernels elsewhere:",
  });
  await makePython({
    folder: join(root, ".firstframe", "provisioners"),
    requirements: join(root, "test", "kernel", "provisioners"),
    title: "Making a Python with Gateway Provisioners, which do so as well:",
  });
}

/** PyTorch and diffusers, 6 GB with what PyTorch brings: a CI gets them, elsewhere FIRSTFRAME_PYTHON names a Python that has them. */
async function setUpReference(): Promise<void> {
  if (process.env.FIRSTFRAME_PYTHON) return;
  const { bin } = await makePython({
    folder: join(root, ".firstframe", "reference"),
    requirements: join(root, "test", "src", "roundtrip"),
    title: "Making a Python with PyTorch and diffusers, which some tests compare with:",
  });
  process.env.FIRSTFRAME_PYTHON = bin("python");
}

async function makePython({ title, ...where }: { folder: string; requirements?: string; title: string }) {
  const started = performance.now();
  let made = false;
  let last = -1;
  const onProgress = (step: string, done: number, total: number) => {
    if (!made) console.log(title);
    made = true;
    const tenth = Math.floor((10 * done) / total);
    if (tenth > last) console.log(`  ${String(done).padStart(3)} of ${total}: ${step}`);
    last = Math.max(last, tenth);
  };
  const environment = await ensurePython({ ...where, onProgress });
  if (made) console.log(`  done in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  return environment;
}

/** Without a compiler or a network the tests run on wasm, and those that need libtensorflow say that they were left out. */
async function setUpEngine(): Promise<void> {
  if (process.env.FIRSTFRAME_ENGINE) return;
  try {
    await installWithProgress("tensorflow");
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    console.log(error.message);
  }
}

function findOnPath(...names: string[]): string | undefined {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of names) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {}
    }
  }
  return undefined;
}
