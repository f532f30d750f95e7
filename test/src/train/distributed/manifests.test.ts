import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { findCluster } from "../../../../src/train/distributed/cluster.js";

/** The files for schedulers in the documentation: they can be read, and what they start are commands that there are. */

const path = fileURLToPath(
  new URL("../../../../../src/train/distributed/docs/several-machines.md", import.meta.url),
);
const main = fileURLToPath(new URL("../../../../src/cli/main.js", import.meta.url));
const blocks = [...readFileSync(path, "utf8").matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(
  ([, kind, text]) => ({ kind: kind!, text: text! }),
);
const manifests = blocks
  .filter(({ kind }) => kind === "yaml")
  .flatMap(({ text }) =>
    parseAllDocuments(text).map((document) => {
      assert.deepEqual(document.errors, []);
      return document.toJS() as Manifest;
    }),
  );

interface Container {
  readonly command: string[];
  readonly args?: string[];
}
interface PodTemplate {
  readonly spec: { readonly subdomain?: string; readonly containers: Container[] };
}
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template?: PodTemplate;
    readonly completions?: number;
    readonly selector?: Record<string, string>;
    readonly tfReplicaSpecs?: {
      readonly Worker: { readonly replicas: number; readonly template: PodTemplate };
    };
  };
}

const ofKind = (kind: string) => manifests.find((manifest) => manifest.kind === kind)!;

/** What `train` says of its options: the configuration's file is not there, and nothing else is wrong. */
function assertKnown(words: readonly string[], env: Record<string, string> = {}): void {
  const start = words.indexOf("firstframe");
  const { status, stderr } = spawnSync(process.execPath, [main, ...words.slice(start + 1)], {
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  assert.equal(status, 2, stderr);
  assert.match(stderr, /lora\.yaml.*(?:does not exist|not found|ENOENT|no such file)/i);
}

const wordsOf = (line: string) =>
  line
    .trim()
    .split(/\s+/)
    .map((word) => word.replaceAll('"', ""));

test("Kubeflow's TFJob starts train, which finds its rank in TF_CONFIG", () => {
  const { replicas, template } = ofKind("TFJob").spec.tfReplicaSpecs!.Worker;
  const [{ command } = { command: [] }] = template.spec.containers;
  const worker = Array.from({ length: replicas }, (_, i) => `firstframe-worker-${i}.default.svc:2222`);
  const TF_CONFIG = JSON.stringify({
    cluster: { worker },
    task: { type: "worker", index: 3 },
    environment: "cloud",
  });
  assertKnown(command, { TF_CONFIG });
  assert.deepEqual(findCluster({ hosts: undefined, machine_rank: undefined }, { TF_CONFIG }), {
    rank: 3,
    hosts: worker,
  });
});

test("the indexed Job's pods have the names that its ranks are told", () => {
  const { metadata, spec } = ofKind("Job");
  const service = ofKind("Service");
  const pod = spec.template!.spec;
  assert.deepEqual(service.spec.selector, { "job-name": metadata.name });
  assert.equal(pod.subdomain, service.metadata.name);
  const [{ args } = { args: [] }] = pod.containers;
  const words = wordsOf(args![0]!);
  const hosts = words[words.indexOf("--hosts") + 1]!.split(",");
  const names = Array.from(
    { length: spec.completions! },
    (_, i) => `${metadata.name}-${i}.${pod.subdomain}:4000`,
  );
  assert.deepEqual(hosts, names);
  assertKnown(words.map((word) => word.replace("$JOB_COMPLETION_INDEX", "1")));
});

test("the batch script is bash, and starts train", () => {
  const script = blocks.find(({ text }) => text.startsWith("#!/bin/bash"))!.text;
  const { status, stderr } = spawnSync("bash", ["-n"], { input: script, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const line = script.split("\n").find((each) => each.includes("srun "))!;
  assertKnown(wordsOf(line.replace(/\|\|.*/, "")));
});

test("the commands by hand are train's", () => {
  const lines = blocks
    .find(({ text }) => text.startsWith("npx"))!
    .text.trim()
    .split("\n");
  for (const line of lines.slice(0, 2)) assertKnown(wordsOf(line.replace(/#.*/, "")));
  const launch = wordsOf(lines[2]!.replace(/#.*/, ""));
  assert.deepEqual(launch.slice(0, 5), ["npx", "firstframe", "launch", "--nproc", "2"]);
});
