import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { type CommandName, commands } from "../../src/cli/commands.js";
import { projectRoot } from "./project.js";

const read = (path: string) => readFileSync(join(projectRoot, path), "utf8");
const documents = [
  "README.md",
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
        const name = /^[\w-]+/.exec(own)![0];
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

  it("the container starts the program that package.json names", () => {
    const [program, file, command] = JSON.parse(/^CMD (.*)$/m.exec(read("Dockerfile"))![1]!) as string[];
    const { bin } = JSON.parse(read("package.json")) as { bin: { firstframe: string } };
    assert.deepEqual([program, file], ["node", bin.firstframe]);
    assert.ok(command! in commands, command);
  });

  it("the container of Codespaces is the Dockerfile's", () => {
    const container = JSON.parse(read(".devcontainer/devcontainer.json")) as {
      build: { dockerfile: string };
    };
    assert.match(
      readFileSync(join(projectRoot, ".devcontainer", container.build.dockerfile), "utf8"),
      /^FROM node:/m,
    );
  });
});
