import assert from "node:assert/strict";
import { test } from "node:test";
import { expandNodes, findCluster } from "../../../../src/train/distributed/cluster.js";

const nothing = { hosts: undefined, machine_rank: undefined };
const config = (cluster: object, task: object) => ({ TF_CONFIG: JSON.stringify({ cluster, task }) });

test("a process without flags and variables trains alone", () => {
  assert.equal(findCluster(nothing, {}), undefined);
  assert.equal(findCluster(nothing, { TF_CONFIG: "" }), undefined);
  // A batch script of Slurm's, outside srun.
  assert.equal(findCluster(nothing, { SLURM_NTASKS: "4", SLURM_PROCID: "0" }), undefined);
});

test("flags name the ranks, and win over the environment", () => {
  const hosts = ["a:1", "b:2", "[::1]:3"];
  const env = config({ worker: ["x:1"] }, { type: "worker", index: 0 });
  assert.deepEqual(findCluster({ hosts, machine_rank: 2 }, env), { rank: 2, hosts });
  const joined = { hosts: ["a:1,b:2", "[::1]:3"], machine_rank: 0 };
  assert.deepEqual(findCluster(joined, {}), { rank: 0, hosts }, "with commas, too");
});

test("TF_CONFIG as Kubeflow's TFJob sets it: chief first, then workers", () => {
  const workers = ["job-worker-0.ns.svc:2222", "job-worker-1.ns.svc:2222"];
  const env = config({ worker: workers }, { type: "worker", index: 1 });
  assert.deepEqual(findCluster(nothing, env), { rank: 1, hosts: workers });
  const cluster = { worker: workers, chief: ["job-chief-0.ns.svc:2222"] };
  const hosts = ["job-chief-0.ns.svc:2222", ...workers];
  assert.deepEqual(findCluster(nothing, config(cluster, { type: "worker", index: "0" })), { rank: 1, hosts });
  assert.deepEqual(findCluster(nothing, config(cluster, { type: "chief", index: 0 })), { rank: 0, hosts });
});

test("srun's variables: nodes and tasks in their short forms, a port for each task of a node", () => {
  const env = {
    SLURM_STEP_NUM_TASKS: "5",
    SLURM_STEP_NODELIST: "gpu[09-10],login",
    SLURM_STEP_TASKS_PER_NODE: "2(x2),1",
    SLURM_PROCID: "3",
    SLURM_JOB_ID: "12345",
  };
  const hosts = ["gpu09:22345", "gpu09:22346", "gpu10:22345", "gpu10:22346", "login:22345"];
  assert.deepEqual(findCluster(nothing, env), { rank: 3, hosts });
  assert.deepEqual(expandNodes("a[1,3-4]-ib,b"), ["a1-ib", "a3-ib", "a4-ib", "b"]);
  assert.throws(() => findCluster(nothing, { ...env, SLURM_STEP_TASKS_PER_NODE: "2" }), {
    message: 'SLURM_STEP_TASKS_PER_NODE: expected 5 tasks on 3 nodes, found "2"',
  });
  assert.throws(
    () => findCluster(nothing, { ...env, SLURM_JOB_ID: undefined }),
    /^\w+: SLURM_JOB_ID is missing/,
  );
  assert.throws(() => expandNodes("gpu[1-"), /SLURM_STEP_NODELIST: expected names such as gpu\[1-3\]/);
});

test("what is wrong is named, with what was expected", () => {
  const refused: [Parameters<typeof findCluster>[0], NodeJS.ProcessEnv, RegExp][] = [
    [{ hosts: ["a:1"], machine_rank: undefined }, {}, /machine_rank is missing: hosts needs it/],
    [{ hosts: undefined, machine_rank: 0 }, {}, /hosts is missing: machine_rank needs it/],
    [{ hosts: ["a:1", "b"], machine_rank: 0 }, {}, /hosts: expected HOST:PORT, found "b"/],
    [{ hosts: ["a:1", "b:70000"], machine_rank: 0 }, {}, /hosts: expected HOST:PORT, found "b:70000"/],
    [
      { hosts: ["a:1", "a:1"], machine_rank: 0 },
      {},
      /hosts: expected a different address for each rank, found a:1/,
    ],
    [
      { hosts: ["a:1", "b:1"], machine_rank: 2 },
      {},
      /machine_rank: expected a number from 0 to 1, .* found 2/,
    ],
    [nothing, { TF_CONFIG: "{" }, /TF_CONFIG: expected JSON/],
    [nothing, { TF_CONFIG: "[]" }, /TF_CONFIG: expected "cluster" with addresses by job/],
    [
      nothing,
      config({ ps: ["a:1"] }, { type: "ps", index: 0 }),
      /expected jobs chief, master, worker .*found "ps"/,
    ],
    [
      nothing,
      config({ worker: ["a:1"] }, { type: "worker", index: 1 }),
      /"index" of "task" from 0 to 0, found 1/,
    ],
    [
      nothing,
      config({ worker: ["a:1"] }, { type: "evaluator", index: 0 }),
      /"type" of "task" that "cluster" has/,
    ],
  ];
  for (const [flags, env, message] of refused) assert.throws(() => findCluster(flags, env), message);
});
