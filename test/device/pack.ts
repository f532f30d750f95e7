/**
 * `node dist/test/device/pack.js [FILE]`: all that `test/device/run.sh` needs on a machine that has a GPU and its driver but neither
 * Node nor a network: this Node, the built project with the packages that the reference numbers and benchmarks load, the numbers
 * themselves, and Vulkan's loader. Writes `out/device.tgz` unless told otherwise.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { create } from "tar";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** What must be carried in one go to a machine that is lent has to be smaller. */
const MOST_BYTES = 64 * 2 ** 20;

/** What the packed tests load; with the packages that these depend on. */
const PACKAGES = [
  ...["@tensorflow/tfjs-core", "@tensorflow/tfjs-backend-cpu", "@tensorflow/tfjs-backend-webgpu", "webgpu"],
  ...["pure-rand", "fastest-levenshtein", "proper-lockfile", "yauzl", "ajv", "yaml"],
];
const FOLDERS = ["dist/src", "dist/test/src/golden", "dist/test/device", "test/golden"];
const FILES = ["package.json", "test/bench/peer_torch.py", "dist/kernel/install/names.js"];
/** Lists that the built project reads from its sources. */
const LISTS = ["src/engine/packages.json", "src/engine/wheels.json", "src/train/arguments.schema.json"];

/** Where Debian, Fedora and Arch have it; a machine with a driver alone may lack it. */
const LOADERS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"].map((at) =>
  join(at, "libvulkan.so.1"),
);

/** Writes the archive. @throws Error if it is too large to be carried */
export async function pack(file: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "firstframe-device-"));
  try {
    for (const each of [...FOLDERS, ...FILES, ...LISTS].filter((name) => existsSync(join(root, name)))) {
      copy(join(root, each), join(folder, each));
    }
    for (const name of withDependencies(PACKAGES))
      copy(packageFolder(name), join(folder, "node_modules", name));
    copy(process.execPath, join(folder, "bin", "node"));
    const loader = LOADERS.find((path) => existsSync(path));
    if (loader) copy(loader, join(folder, "lib", "libvulkan.so.1"));
    mkdirSync(dirname(file), { recursive: true });
    await create({ gzip: { level: 9 }, file, cwd: folder, portable: true }, readdirSync(folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const { size } = statSync(file);
  if (size > MOST_BYTES)
    throw new Error(`${file}: expected at most ${MOST_BYTES} bytes, found ${size}: it can't be carried`);
}

function packageFolder(name: string): string {
  return join(root, "node_modules", name);
}

function withDependencies(names: readonly string[]): Set<string> {
  const all = new Set<string>();
  const visit = (name: string): void => {
    if (all.has(name) || name.startsWith("@types/") || name === "@webgpu/types") return;
    all.add(name);
    const { dependencies = {} } = JSON.parse(
      readFileSync(join(packageFolder(name), "package.json"), "utf8"),
    ) as {
      dependencies?: Record<string, string>;
    };
    for (const each of Object.keys(dependencies)) if (existsSync(packageFolder(each))) visit(each);
  };
  names.forEach(visit);
  return all;
}

/** Without what nothing there reads: other platforms' binaries, maps, types, bundles of whole packages. */
function copy(from: string, to: string): void {
  const platform = `${process.platform}-${process.arch}`;
  const left =
    /\.(?:map|d\.ts|md|flow)$|\/(?:darwin|win32|linux)-[a-z0-9]+$|\.(?:min|es2017|fesm)[.\w]*\.js$|_test\.js$|\/tf-[a-z-]+\.js$/;
  cpSync(from, to, {
    recursive: true,
    dereference: true,
    filter: (path) => !left.test(path) || path.endsWith(`/${platform}`),
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = process.argv[2] ?? join(root, "out", "device.tgz");
  await pack(file);
  console.log(
    `${file}: ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB; on the machine: test/device/run.sh ${file}`,
  );
}
