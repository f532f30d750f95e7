import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { type CommandName, commands } from "../../../src/cli/commands.js";
import { readNotebook } from "../../../src/cli/notebook/format.js";
import { projectRoot } from "./project.js";

const read = (path: string) => readFileSync(join(projectRoot, path), "utf8");
const documents = [
  "README.md",
  "notebooks/zh/README.md",
  "CONTRIBUTING.md",
  "Dockerfile",
  ".ci/run",
  ".github/workflows/ci.yml",
  ".devcontainer/devcontainer.json",
];

describe("what the documents and the machines' files say to type", () => {
  for (const document of documents) {
    it(`${document}: commands, flags and scripts are there`, () => {
      const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
      const text = read(document);
      for (const [, name] of text.matchAll(/\bnpm run (?:--silent )?([\w:-]+)/g)) {
        assert.ok(name! in scripts, `npm run ${name}`);
      }
      for (const [, line] of text.matchAll(/(?:npx |`|RUN |- run: |&& )firstframe ([a-z][^\n`&|]*)/g)) {
        const [own = ""] = line!.split(" -- ");
        const [first = "", second = ""] = own.match(/[\w-]+/g)!;
        const name = Object.hasOwn(commands, `${first} ${second}`) ? `${first} ${second}` : first;
        assert.ok(name in commands, `firstframe ${name}`);
        const { options } = commands[name as CommandName];
        for (const [, flag] of own.matchAll(/ --([\w-]+)/g)) {
          assert.ok(flag === "help" || flag! in options, `firstframe ${name} --${flag}`);
        }
      }
    });
  }

  it("the workflow runs what the README says, on every supported Node", () => {
    const workflow = parse(read(".github/workflows/ci.yml")) as {
      jobs: Record<string, { strategy?: { matrix: { node: number[] } }; steps: { run?: string }[] }>;
    };
    assert.deepEqual(workflow.jobs.test!.strategy!.matrix.node, [20, 22, 24]);
    assert.ok(workflow.jobs.test!.steps.some(({ run }) => run === ".ci/run"));
    assert.match(read(".ci/run"), /^npm ci && npm test$/m);
    assert.match(read("README.md"), /^npm ci && npm test$/m);
    assert.match(read("README.md"), /^npm ci && npm start$/m);
  });

  it("the containers start the program that package.json names", () => {
    const { bin } = JSON.parse(read("package.json")) as { bin: { firstframe: string } };
    const dockerfile = read("Dockerfile");
    const [, folder] = /^WORKDIR (.*)$/m.exec(dockerfile)!;
    const started = [...dockerfile.matchAll(/^CMD (.*)$/gm)].map(
      ([, words]) => JSON.parse(words!) as string[],
    );
    assert.equal(started.length, 2);
    for (const [program, file, first, second] of started) {
      assert.deepEqual([program, file!.replace(`${folder}/`, "")], ["node", bin.firstframe]);
      assert.ok(
        [first, `${first} ${second}`].some((command) => command! in commands),
        first,
      );
    }
  });

  it("the container of Codespaces is the Dockerfile's", () => {
    const container = JSON.parse(read(".devcontainer/devcontainer.json")) as {
      build: { dockerfile: string };
      remoteEnv: Record<string, string>;
      postCreateCommand: string;
    };
    const dockerfile = readFileSync(join(projectRoot, ".devcontainer", container.build.dockerfile), "utf8");
    assert.match(dockerfile, /^FROM node:/m);
    // The image holds the commit that it was built from; the kernel, Jupyter and packages are to be the workspace's.
    const [, folder] = /^WORKDIR (.*)$/m.exec(dockerfile)!;
    const of = [...dockerfile.matchAll(/(?:^ENV|^ {4,})\s*(\w+)=(\S+)/gm)].filter(([, , value]) =>
      value!.includes(folder!),
    );
    assert.ok(of.length >= 2);
    for (const [, name, value] of of) {
      const path = value!.split(":")[0]!.replace(folder!, "$" + "{containerWorkspaceFolder}");
      assert.ok(container.remoteEnv[name!]?.startsWith(path), `${name}: ${container.remoteEnv[name!]}`);
    }
    assert.match(container.postCreateCommand, /npm run build.*lab --own --setup/);
  });
});

describe("links and pictures", () => {
  const notebooks = ["notebooks", "notebooks/zh"].flatMap((folder) =>
    readdirSync(join(projectRoot, folder))
      .filter((name) => name.endsWith(".ipynb"))
      .map((name) => `${folder}/${name}`),
  );
  /** As GitHub names the place of a heading. */
  const anchor = (heading: string) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(/\s/g, "-");
  const textOf = async (path: string) => {
    if (!path.endsWith(".ipynb")) return read(path);
    const { cells } = await readNotebook(join(projectRoot, path));
    return cells.map(({ cell_type, source }) => (cell_type === "code" ? "" : source)).join("\n\n");
  };
  for (const document of ["README.md", "CONTRIBUTING.md", "notebooks/zh/README.md", ...notebooks]) {
    it(`${document}: lead to files and headings that are there`, async () => {
      const prose = (await textOf(document)).replace(/^```[\s\S]+?^```/gm, "");
      for (const [, address] of prose.matchAll(/\]\((?![a-z]+:)([^)\s]+)\)/g)) {
        const [path = "", heading] = decodeURIComponent(address!).split("#");
        const target = path === "" ? document : join(dirname(document), path);
        assert.ok(existsSync(join(projectRoot, target)), address);
        // On GitHub a symbolic link is a page that says where it leads, and has nothing below it.
        assert.equal(
          realpathSync(join(projectRoot, target)),
          join(realpathSync(projectRoot), target),
          address,
        );
        if (heading === undefined) continue;
        const headings = [...read(target).matchAll(/^#+ (.*)$/gm)].map(([, text]) => anchor(text!));
        assert.ok(headings.includes(heading), address);
      }
    });
  }
});

describe("what is fetched from elsewhere", () => {
  it("is an image or an action of known bytes, with its version beside it", () => {
    const stages = [...read("Dockerfile").matchAll(/^FROM (\S+)(?: AS (\w+))?$/gm)];
    const own = stages.map(([, , name]) => name);
    const images = stages.map(([, image]) => image!).filter((image) => !own.includes(image));
    assert.ok(images.length > 0);
    for (const image of images) assert.match(image, /^[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}$/);
    const workflows = readdirSync(join(projectRoot, ".github/workflows"));
    const actions = workflows.flatMap((name) =>
      [...read(`.github/workflows/${name}`).matchAll(/uses: (.*)$/gm)].map(([, action]) => action!),
    );
    assert.ok(actions.length > 0);
    for (const action of actions) assert.match(action, /^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  it("is a package whose checksum the lock file has", () => {
    const { packages } = JSON.parse(read("package-lock.json")) as {
      packages: Record<string, { version?: string; link?: boolean; integrity?: string; optional?: boolean }>;
    };
    const without = Object.entries(packages).filter(
      ([path, { version, link, integrity }]) => path !== "" && version && !link && !integrity,
    );
    // For other platforms, and not on the mirror that the file was made with; .ci/complete-lock.mjs fills them in from a
    // registry that has them.
    const missing = /^node_modules\/(@napi-rs\/webcodecs|@oxc-transform\/binding)-(?!linux-x64-gnu$)/;
    for (const [path, { optional }] of without) {
      assert.match(path, missing);
      assert.ok(optional, path);
    }
    assert.ok(without.length <= 25, `${without.length} entries without integrity`);
    for (const [path, { integrity }] of Object.entries(packages)) {
      if (integrity !== undefined) assert.match(integrity, /^sha512-[A-Za-z0-9+/]{86}==$/, path);
    }
  });

  for (const folder of ["kernel/install", "test/src/roundtrip"]) {
    it(`is a Python package whose checksums ${folder}/locked.txt has`, () => {
      const normal = (name: string) => name.toLowerCase().replace(/[-_.]+/g, "-");
      const entries = read(`${folder}/locked.txt`)
        .replace(/^#.*\n/gm, "")
        .split(/\n(?=\S)/);
      const versions = new Map<string, string[]>();
      for (const entry of entries) {
        const [, name, version] = /^([\w.-]+)==(\S+)/.exec(entry) ?? [];
        assert.ok(name && version, entry);
        assert.match(entry, /^[^\n]+ \\(\n {4}--hash=sha256:[0-9a-f]{64}( \\)?)+\s*$/);
        versions.set(normal(name), [...(versions.get(normal(name)) ?? []), version]);
      }
      for (const [, name, version] of read(`${folder}/requirements.txt`).matchAll(
        /^([\w.-]+)(?:==(\S+))?$/gm,
      )) {
        const locked = versions.get(normal(name!));
        assert.ok(locked, name);
        if (version) assert.deepEqual(locked, [version], name);
      }
    });
  }

  it("is a wheel of TensorFlow whose bytes are known, for every platform that has one", () => {
    const { version, builds } = JSON.parse(read("src/engine/wheels.json")) as {
      version: string;
      builds: Record<
        string,
        Record<string, { name: string; version: string; filename: string; sha256: string; size: number }[]>
      >;
    };
    assert.deepEqual(
      Object.entries(builds).map(([platform, engines]) => [platform, Object.keys(engines)]),
      [
        ["linux-x64", ["tensorflow", "tensorflow-gpu"]],
        ["linux-arm64", ["tensorflow"]],
        ["darwin-arm64", ["tensorflow"]],
      ],
    );
    for (const wheels of Object.values(builds).flatMap((engines) => Object.values(engines))) {
      assert.equal(wheels[0]!.version, version);
      for (const wheel of wheels) {
        assert.ok(wheel.filename.startsWith(`${wheel.name.replaceAll("-", "_")}-${wheel.version}-`));
        assert.match(wheel.sha256, /^[0-9a-f]{64}$/);
        assert.ok(wheel.size > 1e6, wheel.filename);
      }
    }
  });
});

describe("what the documents say to publish", () => {
  for (const document of documents) {
    it(`${document}: ports of this machine alone`, () => {
      for (const [, port] of read(document).matchAll(/docker run[^\n`]* (?:-p|--publish)[ =](\S+)/g)) {
        assert.match(port!, /^127\.0\.0\.1:/);
      }
    });
  }
});
