// node .ci/pin-python.mjs: pins what is fetched from PyPI by the SHA-256 of its files. It writes
//   src/engine/wheels.json             TensorFlow's wheels, for a platform each; the version is the one that the file names
//   kernel/install/locked.txt          all that requirements.txt beside it brings in, on every platform and Python
//   test/src/roundtrip/locked.txt  likewise, for the libraries that tests compare with
//   test/kernel/clients/locked.txt likewise, for the clients that tests talk with
//   test/kernel/gateway/locked.txt likewise, for Jupyter Enterprise Gateway; overrides.txt beside it is stronger than what packages ask for
//   test/kernel/provisioners/locked.txt likewise, for Gateway Provisioners
// Needs `uv` (pip install uv) on PATH. What is pinned stays at its version; with --upgrade the lists take the newest.
// The index is pip's own: PIP_INDEX_URL or `pip config`, else PyPI.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

const root = new URL("../", import.meta.url).pathname;
const index = (process.env.PIP_INDEX_URL || configured() || "https://pypi.org/simple").replace(/\/+$/, "");

/** TensorFlow is built for several Pythons; the C libraries in the wheels are the same, so one of them will do. */
const python = "3.12";
const tag = `cp${python.replace(".", "")}`;

function configured() {
  try {
    return execFileSync("python3", ["-m", "pip", "config", "get", "global.index-url"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "";
  }
}

function write(path, text) {
  writeFileSync(`${path}.tmp`, text);
  renameSync(`${path}.tmp`, path);
  console.log(path.slice(root.length));
}

function uv(args, input = "") {
  const options = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--default-index", index];
  return execFileSync("uv", [...options, ...args], { encoding: "utf8", input, maxBuffer: 1 << 26 });
}

/** The file of a release whose platform tag starts with `system` and ends with `machine`. */
async function wheel(name, version, system, machine) {
  const response = await fetch(`${index}/${name}/`, {
    headers: { accept: "application/vnd.pypi.simple.v1+json" },
  });
  if (!response.ok) throw new Error(`${index}/${name}/ answered ${response.status}`);
  const { files } = await response.json();
  const found = files.filter(({ filename }) => {
    const parts = filename.slice(0, -".whl".length).split("-");
    const [abi, platform] = [parts.at(-3) ?? "", parts.at(-1) ?? ""];
    return (
      filename.endsWith(".whl") &&
      parts[1] === version &&
      (abi === tag || abi.startsWith("py3") || abi.startsWith("py2.py3")) &&
      platform.startsWith(system) &&
      platform.endsWith(machine)
    );
  });
  if (found.length !== 1) {
    throw new Error(`${name} ${version} for ${system}*${machine}: expected one wheel, found ${found.length}`);
  }
  const [{ filename, hashes, size }] = found;
  return { name, version, filename, sha256: hashes.sha256, size };
}

async function pinEngine() {
  const file = `${root}src/engine/wheels.json`;
  const { version } = JSON.parse(readFileSync(file, "utf8"));
  const platform = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"];
  const cuda = uv([...platform, "-"], `tensorflow[and-cuda]==${version}`)
    .split("\n")
    .map((line) => /^(nvidia-[\w-]+)==(\S+)/.exec(line))
    .filter((found) => found !== null);
  const gpu = [
    await wheel("tensorflow", version, "manylinux", "x86_64"),
    ...(await Promise.all(cuda.map(([, name, release]) => wheel(name, release, "manylinux", "x86_64")))),
  ];
  const builds = {
    "linux-x64": {
      tensorflow: [await wheel("tensorflow-cpu", version, "manylinux", "x86_64")],
      "tensorflow-gpu": gpu,
    },
    // only x86-64 has a build without CUDA under a name of its own; elsewhere `tensorflow` is that build
    "linux-arm64": { tensorflow: [await wheel("tensorflow", version, "manylinux", "aarch64")] },
    "darwin-arm64": { tensorflow: [await wheel("tensorflow", version, "macosx", "arm64")] },
  };
  write(file, `${JSON.stringify({ version, builds }, null, 2)}\n`);
}

/** @param oldest the oldest Python that the packages are installed on */
function pinPackages(folder, oldest) {
  const file = `${root}${folder}/locked.txt`;
  const overrides = `${root}${folder}/overrides.txt`;
  uv([
    "--universal",
    "--generate-hashes",
    ...(process.argv.includes("--upgrade") ? ["--upgrade"] : []),
    ...(existsSync(overrides) ? ["--override", overrides] : []),
    ...["--python-version", oldest, "--output-file", file, `${root}${folder}/requirements.txt`],
  ]);
  write(
    file,
    `# What requirements.txt brings in, with the SHA-256 of every file of it: written by .ci/pin-python.mjs.\n${readFileSync(file, "utf8")}`,
  );
}

await pinEngine();
pinPackages("kernel/install", "3.10");
pinPackages("test/kernel/clients", "3.10");
pinPackages("test/src/roundtrip", "3.11");
pinPackages("test/kernel/gateway", "3.10");
pinPackages("test/kernel/provisioners", "3.10");
