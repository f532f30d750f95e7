// node .ci/pin-npm.mjs: writes the checksums of the packages that `firstframe engine install` fetches from npm's registry to
// src/engine/packages.json. Their versions are those of package.json's peerDependencies.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const root = new URL("..", import.meta.url);
const file = new URL("src/engine/packages.json", root);
const { peerDependencies } = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
const pinned = {};
for (const name of Object.keys(JSON.parse(readFileSync(file, "utf8")))) {
  const version = peerDependencies[name];
  const said = execFileSync("npm", ["view", `${name}@${version}`, "dist.integrity", "--json"], {
    encoding: "utf8",
  });
  pinned[name] = { version, integrity: JSON.parse(said) };
}
writeFileSync(file, `${JSON.stringify(pinned, null, 2)}\n`);
