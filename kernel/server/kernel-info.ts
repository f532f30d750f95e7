/**
 * What the kernel says about itself.
 */
import { readFileSync } from "node:fs";
import { protocolVersion } from "../protocol/messages.js";
import type { KernelInfoReply } from "../protocol/replies.js";

const packageJson = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as {
  version: string;
  dependencies: Record<string, string>;
};

export function kernelInfo(): KernelInfoReply {
  const typescript = packageJson.dependencies.typescript ?? "";
  return {
    status: "ok",
    protocol_version: protocolVersion,
    implementation: "firstframe",
    implementation_version: packageJson.version,
    language_info: {
      name: "typescript",
      version: typescript,
      mimetype: "text/typescript",
      file_extension: ".ts",
      pygments_lexer: "typescript",
      codemirror_mode: "typescript",
      nbconvert_exporter: "script",
    },
    banner: `firstframe ${packageJson.version}: TypeScript ${typescript} on Node.js ${process.versions.node}`,
    help_links: [
      { text: "TypeScript", url: "https://www.typescriptlang.org/docs/" },
      { text: "Node.js", url: "https://nodejs.org/docs/latest/api/" },
    ],
    debugger: true,
    supported_features: ["debugger"],
  };
}
