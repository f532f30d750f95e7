// node .ci/complete-lock.mjs: adds what package-lock.json lacks of packages for other platforms.
// npm leaves out optional packages that the registry it asks does not carry (mirrors often have Linux's alone), and
// `npm ci` then refuses the file. Platform and C library are in the packages' names; their checksums come from the
// registry, and where it has not the package, it is named: a registry that has it fills it in.
import { execFileSync } from "node:child_process";
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
/** The checksum that the registry gives, or undefined where it has no such package. */
function integrityOf(name, version) {
  try {
    const options = { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
    const said = JSON.parse(
      execFileSync("npm", ["view", `${name}@${version}`, "dist.integrity", "--json"], options),
    );
    return typeof said === "string" && said.startsWith("sha512-") ? said : undefined;
  } catch {
    return undefined;
  }
}

for (const [path, { version, link, integrity, ...rest }] of Object.entries(packages)) {
  if (path === "" || link || version === undefined || integrity !== undefined) continue;
  const name = rest.name ?? path.split("node_modules/").at(-1);
  const found = integrityOf(name, version);
  if (found !== undefined) packages[path] = { version, integrity: found, ...rest };
  console.log(`${name}@${version}: ${found ?? "the registry has no checksum of it"}`);
}

lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(`${file}.tmp`, `${JSON.stringify(lock, null, 2)}\n`);
renameSync(`${file}.tmp`, file);
