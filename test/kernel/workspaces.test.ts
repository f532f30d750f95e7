/** Workspaces as npm, pnpm and Yarn make them: a notebook in one package imports another one's TypeScript, and what they install. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TestKernel } from "./support.js";

const root = mkdtempSync(join(tmpdir(), "firstframe-workspaces-"));
/** npm's settings for scripts are not those of the programs that the tests start. */
const env: NodeJS.ProcessEnv = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(npm_(config_(local|prefix|global)|lifecycle|package)|INIT_CWD)/i.test(name),
  ),
);
before(() => {
  const tools = join(root, "tools");
  mkdirSync(tools);
  const options = ["--no-audit", "--no-fund", "--silent", "--prefer-offline", "--prefix", tools];
  execFileSync("npm", ["install", ...options, "pnpm@10.20.0", "@yarnpkg/cli-dist@4.12.0"], {
    env,
    cwd: tools,
  });
  env.PATH = `${join(tools, "node_modules/.bin")}${delimiter}${env.PATH}`;
  env.YARN_ENABLE_TELEMETRY = "0";
  env.YARN_ENABLE_GLOBAL_CACHE = "false";
  env.YARN_ENABLE_IMMUTABLE_INSTALLS = "false";
});
after(() => rmSync(root, { recursive: true, force: true }));

const compilerOptions = { strict: true, moduleResolution: "bundler", module: "esnext", target: "es2022" };

/** A workspace of two packages, installed. @returns the notebooks' folder in one of them. */
function workspace(
  name: string,
  files: Record<string, object | string>,
  version: string,
  install: readonly string[],
): string {
  const folder = join(root, name);
  const all = {
    "packages/lib/package.json": {
      ...{ name: "@org/lib", version: "1.0.0", type: "module" },
      ...{ exports: { ".": "./src/index.ts", "./*": "./src/*.ts" }, dependencies: { kleur: "4.1.5" } },
    },
    "packages/lib/tsconfig.json": { compilerOptions: { ...compilerOptions, paths: { "~/*": ["./src/*"] } } },
    "packages/lib/src/index.ts": `import kleur from "kleur";
import { half } from "./inner/half";
export enum Level { Low = "low", High = "high" }
export class Conf { constructor(public readonly level: Level) {} half(n: number) { return half(n); } }
export const plain = (text: string): string => (typeof kleur.red === "function" ? text : "");
export { half };
`,
    "packages/lib/src/inner/half.ts": "export const half = (n: number): number => n / 2;\n",
    "packages/lib/src/aliased.ts": `import { half } from "~/inner/half";
export const quarter = (n: number) => half(half(n));
`,
    "packages/app/package.json": {
      ...{ name: "@org/app", type: "module" },
      dependencies: { "@org/lib": version, ms: "2.1.3", "@types/ms": "2.1.0" },
    },
    "packages/app/tsconfig.json": { compilerOptions },
    "packages/app/notebooks/.keep": "",
    ...files,
  };
  for (const [path, content] of Object.entries(all)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), typeof content === "string" ? content : JSON.stringify(content));
  }
  execFileSync(install[0]!, install.slice(1), { cwd: folder, env, stdio: "pipe" });
  return join(folder, "packages/app/notebooks");
}

async function kernelIn(folder: string): Promise<TestKernel> {
  const kernel = new TestKernel();
  await kernel.start({ PATH: env.PATH! }, { cwd: folder });
  return kernel;
}

const npmRoot = { name: "mono", private: true, type: "module", workspaces: ["packages/*"] };
const yarnRoot = { ...npmRoot, packageManager: "yarn@4.12.0" };
const MANAGERS = {
  npm: () =>
    workspace("npm", { "package.json": npmRoot }, "*", ["npm", "install", "--no-audit", "--no-fund"]),
  pnpm: () =>
    workspace(
      "pnpm",
      {
        "package.json": { name: "mono", private: true },
        "pnpm-workspace.yaml": "packages:\n  - packages/*\n",
      },
      "workspace:*",
      ["pnpm", "install"],
    ),
  yarn: () =>
    workspace(
      "yarn",
      { "package.json": yarnRoot, "yarn.lock": "", ".yarnrc.yml": "nodeLinker: node-modules\n" },
      "workspace:*",
      ["yarn", "install"],
    ),
};
/** The command that `%install` runs, and where the package then stands. */
const ADDS = { npm: "npm install", pnpm: "pnpm add", yarn: "yarn add" };

for (const manager of ["npm", "pnpm", "yarn"] as const) {
  describe(`a workspace of ${manager}`, () => {
    let kernel: TestKernel;
    let folder: string;
    before(async () => {
      folder = MANAGERS[manager]();
      kernel = await kernelIn(folder);
    });
    after(() => kernel.stop());

    test("the other package's TypeScript: enums, classes, no extensions, subpaths, its own aliases", async () => {
      const { text } = await kernel.run(
        'import { Conf, half, Level, plain } from "@org/lib";\nconst conf = new Conf(Level.High);\n[conf.level, conf.half(10), half(3), plain("x")]',
      );
      assert.equal(text, "[ 'high', 5, 1.5, 'x' ]");
      assert.equal((await kernel.run('import { quarter } from "@org/lib/aliased"; quarter(8)')).text, "2");
      assert.equal(
        (await kernel.run('import ms from "ms"; ms("2 days") satisfies number')).text,
        "172800000",
      );
    });

    test("its types are checked", async () => {
      assert.match((await kernel.run("const wrong: string = half(2);")).text, /^TS2322/);
      assert.match(
        (await kernel.run('import { nope } from "@org/lib";')).text,
        /^TS2305: Module '"@org\/lib"'/,
      );
    });

    test("a change in the other package is seen by the next import", async () => {
      const file = join(folder, "../../lib/src/inner/half.ts");
      writeFileSync(file, "export const half = (n: number): number => n / 2 + 1000;\n");
      assert.equal((await kernel.run('import { half as changed } from "@org/lib"; changed(2)')).text, "1001");
    });

    test("%install adds to the package of the notebook with the workspace's own program", async () => {
      const { text, reply } = await kernel.run(
        '%install kleur@4.1.5\nimport kleur from "kleur"; typeof kleur.red',
        {
          timeout: 600_000,
        },
      );
      assert.equal(reply.status, "ok", text);
      assert.ok(text.includes(`${ADDS[manager]} kleur@4.1.5: done in`), text);
      assert.match(text, /'function'$/);
      const { dependencies } = JSON.parse(readFileSync(join(folder, "../package.json"), "utf8")) as {
        dependencies: Record<string, string>;
      };
      assert.ok(dependencies.kleur, "in the notebook's package");
    });
  });
}

test("Yarn's Plug'n'Play, which TypeScript's compiler does not read, is named with what to do", async () => {
  const folder = workspace(
    "pnp",
    { "package.json": yarnRoot, "yarn.lock": "", ".yarnrc.yml": "nodeLinker: pnp\n" },
    "workspace:*",
    ["yarn", "install"],
  );
  const kernel = await kernelIn(folder);
  try {
    const { text } = await kernel.run('import ms from "ms";');
    assert.match(
      text,
      /^TS2307: Cannot find module 'ms'.* packages are in Yarn's archives \(.*\.pnp\.cjs\).*`nodeLinker: node-modules`/,
    );
  } finally {
    await kernel.stop();
  }
});

test("a program that is not there is named with the file that asks for it", async () => {
  const folder = join(root, "bun");
  mkdirSync(folder);
  writeFileSync(join(folder, "bun.lock"), "{}");
  const kernel = new TestKernel();
  await kernel.start({ PATH: dirname(process.execPath) }, { cwd: folder });
  try {
    const { text } = await kernel.run("%install ms");
    assert.match(text, /can't start bun: .*ENOENT; it is the project's by .*bun\.lock/);
  } finally {
    await kernel.stop();
  }
});
