// node .ci/complete-lock.mjs: adds what package-lock.json lacks of packages for other platforms.
// npm leaves out optional packages that the registry it asks does not carry (mirrors often have Linux's alone), and
// `npm ci` then refuses the file. Platform and C library are in the packages' names.
import { readFileSync, renameSync, writeFileSync } from "node:fs";

const file = new URL("../package-lock.json", import.meta.url).pathname;
const lock = JSON.parse(readFileSync(file, "utf8"));
const { packages } = lock;
const systems = [
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "win32",
];
const processors = ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

/** Whether a package finds another one in its own node_modules or one further up. */
function resolves(from, name) {
  const folders =
    from === ""
      ? [""]
      : from.split(/\/?node_modules\//).map((_, i, parts) => parts.slice(0, i + 1).join("/node_modules/"));
  return folders.some((at) => `${at.replace(/^\//, "")}/node_modules/${name}`.replace(/^\//, "") in packages);
}

for (const [from, { optionalDependencies = {}, dev }] of Object.entries(packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    if (resolves(from, name)) continue;
    const words = name.split("/").at(-1).split("-");
    const os = words.filter((word) => systems.includes(word));
    const cpu = words.filter((word) => processors.includes(word));
    const libc = words.some((word) => word.startsWith("musl"))
      ? "musl"
      : words.some((word) => word.startsWith("gnu")) && "glibc";
    packages[`node_modules/${name}`] = {
      version,
      ...(cpu.length > 0 && { cpu }),
      ...(dev && { dev }),
      ...(os.includes("linux") && libc && { libc: [libc] }),
      optional: true,
      ...(os.length > 0 && { os }),
    };
    console.log(`added ${name}@${version}`);
  }
}
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(`${file}.tmp`, `${JSON.stringify(lock, null, 2)}\n`);
renameSync(`${file}.tmp`, file);
