import { createHash } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { replaceFolderAtomic } from "../../src/files/atomic.js";
import { dataFolder } from "./kernelspec.js";

/**
 * Installs the JupyterLab extension: prebuilt, without Python, without a bundler. JupyterLab loads the remote entry as a
 * script and asks it for modules (module federation's container: `init` and `get`); the modules are the ES modules in
 * `labextension/`, which browsers load as they are.
 */

const NAME = "firstframe";
const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "labextension");
const root = join(here, "../../..");

/** The modules that JupyterLab asks for, by the names in package.json. */
const EXPOSED = { extension: "./plugin", mimeExtension: "./renderers" } as const;

export interface InstallLabextensionOptions {
  /** As Python's `sys.prefix`: `share/jupyter/labextensions` below it; else the user's data folder. */
  readonly prefix?: string | undefined;
}

/**
 * Installs or replaces the extension; JupyterLab 4 and Notebook 7 find it when they start.
 *
 * @returns the extension's folder
 * @throws Error if plotly.js-dist is not installed beside this package, or the folder can't be written
 */
export async function installLabextension({ prefix }: InstallLabextensionOptions = {}): Promise<string> {
  const target = labextensionFolder(prefix);
  await replaceFolderAtomic(target, build);
  return target;
}

/** Removes the extension; nothing happens if it is not there. */
export async function uninstallLabextension({ prefix }: InstallLabextensionOptions = {}): Promise<void> {
  await rm(labextensionFolder(prefix), { recursive: true, force: true });
}

/** Where the extension is, beside the kernelspec of the same prefix. */
export function labextensionFolder(prefix?: string): string {
  return join(dataFolder(prefix), "labextensions", NAME);
}

async function build(folder: string): Promise<void> {
  const names = (await readdir(modules)).filter((name) => name.endsWith(".js")).sort();
  const sources = await Promise.all(names.map((name) => readFile(join(modules, name), "utf8")));
  const plotly = createRequire(import.meta.url).resolve("plotly.js-dist");
  const plotlyVersion = await versionOf(dirname(plotly));
  // Browsers keep what they loaded; new content has to have a new address.
  const hash = createHash("sha256")
    .update(sources.join("\0"))
    .update(plotlyVersion)
    .digest("hex")
    .slice(0, 16);

  const code = join(folder, "static", hash);
  await mkdir(code, { recursive: true });
  for (const [i, name] of names.entries()) {
    await writeFile(join(code, name), sources[i]!.replace(/^\/\/# sourceMappingURL=.*$/m, ""));
  }
  await copyFile(plotly, join(code, "plotly.js"));
  await writeFile(join(folder, "static", `remoteEntry.${hash}.js`), remoteEntry(hash));
  await writeFile(
    join(folder, "package.json"),
    `${JSON.stringify(manifest(hash, await versionOf(root)), null, 2)}\n`,
  );
}

async function versionOf(folder: string): Promise<string> {
  return (JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as { version: string }).version;
}

/** What JupyterLab's server reads. */
function manifest(hash: string, version: string) {
  return {
    name: NAME,
    version,
    description: "Figures, controls and help while typing in JupyterLab, for the firstframe kernel",
    license: "Apache-2.0",
    jupyterlab: { _build: { load: `static/remoteEntry.${hash}.js`, ...EXPOSED } },
  };
}

/** The federation container. A classic script, as JupyterLab loads it with a plain `<script>`. */
function remoteEntry(hash: string): string {
  return `"use strict";
(() => {
  const folder = new URL("${hash}/", document.currentScript.src);
  let scope;
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[${JSON.stringify(NAME)}] = {
    init(shared) {
      scope = shared;
    },
    async get(name) {
      const module = await import(new URL(name + ".js", folder).href);
      const exported = await module.default(scope);
      return () => ({ __esModule: true, default: exported });
    },
  };
})();
`;
}
