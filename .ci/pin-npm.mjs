// node .ci/pin-npm.mjs: writes the checksums of the packages that `firstframe engine install` fetches from npm's registry to
// src/engine/packages.json. Their versions are those of package.json's peerDependencies.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const root = new URL("..", import.meta.url);
const { peerDependencies } = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
const pinned = {};
for (const [name, version] of Object.entries(peerDependencies)) {
  const said = execFileSync("npm", ["view", `${name}@${version}`, "dist.integrity", "--json"], {
    encoding: "utf8",
  });
  pinned[name] = { version, integrity: JSON.parse(said) };
}
writeFileSync(new URL("src/engine/packages.json", root), `${JSON.stringify(pinned, null, 2)}\n`);
