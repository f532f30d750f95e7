/** Which processes train together: from flags, from TF_CONFIG as Kubeflow's TFJob sets it, or from Slurm's variables. */
import { quote } from "../../engine/errors.js";
import { ArgumentError, type TrainArguments } from "../arguments.js";
import { parseAddress } from "./address.js";

/** A process's place among those that train together. */
export interface Cluster {
  /** From 0. */
  readonly rank: number;
  /** `host:port` of each rank. */
  readonly hosts: readonly string[];
}

/** First port of a Slurm job's ranks; the job's number moves it, so that two jobs on a node differ. */
const SLURM_PORTS = { first: 20_000, count: 10_000 } as const;

/**
 * Finds this process's place. Flags win over TF_CONFIG, and that over Slurm.
 *
 * @returns undefined for a process that trains alone.
 * @throws ArgumentError naming the flag or variable, what was expected and what was found.
 */
export function findCluster(
  { hosts, machine_rank: rank }: Pick<TrainArguments, "hosts" | "machine_rank">,
  env: NodeJS.ProcessEnv = process.env,
): Cluster | undefined {
  if (hosts !== undefined) {
    if (rank === undefined) throw new ArgumentError("machine_rank is missing: hosts needs it");
    const each = hosts.flatMap((host) => host.split(",")).filter((host) => host !== "");
    return place("hosts", each, "machine_rank", rank);
  }
  if (rank !== undefined) throw new ArgumentError("hosts is missing: machine_rank needs it");
  const config = env.TF_CONFIG;
  if (config !== undefined && config.trim() !== "") return fromTfConfig(config);
  return fromSlurm(env);
}

function place(hostsName: string, hosts: readonly string[], rankName: string, rank: number): Cluster {
  if (hosts.length === 0)
    throw new ArgumentError(`${hostsName}: expected HOST:PORT of each rank, found none`);
  const wrong = hosts.find((host) => parseAddress(host) === undefined);
  if (wrong !== undefined) throw new ArgumentError(`${hostsName}: expected HOST:PORT, found ${quote(wrong)}`);
  const twice = hosts.find((host, i) => hosts.indexOf(host) !== i);
  if (twice !== undefined)
    throw new ArgumentError(`${hostsName}: expected a different address for each rank, found ${twice} twice`);
  if (!(Number.isInteger(rank) && rank >= 0 && rank < hosts.length)) {
    throw new ArgumentError(
      `${rankName}: expected a number from 0 to ${hosts.length - 1}, as ${hostsName} has ${hosts.length} addresses, found ${quote(rank)}`,
    );
  }
  return { rank, hosts };
}

/** TensorFlow's order of the jobs that train; the others have other tasks. */
const JOBS = ["chief", "master", "worker"];

function fromTfConfig(text: string): Cluster | undefined {
  const wrong = (expected: string, found: unknown) =>
    new ArgumentError(`TF_CONFIG: expected ${expected}, found ${quote(found)}`);
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch {
    throw wrong("JSON", text);
  }
  const { cluster, task } = (isObject(config) ? config : {}) as { cluster?: unknown; task?: unknown };
  if (!isObject(cluster)) throw wrong('"cluster" with addresses by job', cluster);
  if (!isObject(task)) throw wrong('"task" with "type" and "index"', task);
  const hosts: string[] = [];
  let first: number | undefined;
  for (const [job, addresses] of Object.entries(cluster)) {
    if (!JOBS.includes(job)) throw wrong(`jobs ${JOBS.join(", ")} in "cluster"`, job);
    if (!(Array.isArray(addresses) && addresses.every((address) => typeof address === "string")))
      throw wrong(`a list of addresses of ${job}`, addresses);
  }
  for (const job of JOBS) {
    if (job === task.type) first = hosts.length;
    hosts.push(...((cluster[job] ?? []) as string[]));
  }
  const index = Number(task.index);
  const count = ((cluster[String(task.type)] ?? []) as string[]).length;
  if (first === undefined || count === 0)
    throw wrong(`a "type" of "task" that "cluster" has (${Object.keys(cluster).join(", ")})`, task.type);
  if (!(Number.isInteger(index) && index >= 0 && index < count))
    throw wrong(`an "index" of "task" from 0 to ${count - 1}`, task.index);
  return place("TF_CONFIG", hosts, "TF_CONFIG", first + index);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A job step that `srun` started with several tasks. Batch scripts themselves have no such variables. */
function fromSlurm(env: NodeJS.ProcessEnv): Cluster | undefined {
  const count = Number(env.SLURM_STEP_NUM_TASKS);
  if (!(count > 1)) return undefined;
  const names = ["SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID", "SLURM_JOB_ID"] as const;
  const missing = names.find((name) => env[name] === undefined);
  if (missing !== undefined)
    throw new ArgumentError(`${missing} is missing: SLURM_STEP_NUM_TASKS says that ${count} tasks train`);
  const nodes = expandNodes(env.SLURM_STEP_NODELIST!);
  const tasks = expandCounts(env.SLURM_STEP_TASKS_PER_NODE!);
  if (tasks.length !== nodes.length || tasks.reduce((sum, each) => sum + each, 0) !== count) {
    throw new ArgumentError(
      `SLURM_STEP_TASKS_PER_NODE: expected ${count} tasks on ${nodes.length} nodes, found ${quote(env.SLURM_STEP_TASKS_PER_NODE)}`,
    );
  }
  const base = SLURM_PORTS.first + (Number(env.SLURM_JOB_ID) % SLURM_PORTS.count);
  const hosts = nodes.flatMap((node, i) =>
    Array.from({ length: tasks[i]! }, (_, local) => `${node}:${base + local}`),
  );
  return place("SLURM_STEP_NODELIST", hosts, "SLURM_PROCID", Number(env.SLURM_PROCID));
}

/** Slurm's short form of names: `gpu[01-03,7],login`. @throws ArgumentError for anything else. */
export function expandNodes(text: string): string[] {
  const nodes: string[] = [];
  for (const part of splitOutside(text)) {
    const [, before, ranges, after] = /^([^[\]]+)\[([\d,-]+)\]([^[\]]*)$/.exec(part) ?? [];
    if (ranges === undefined) {
      if (part === "" || /[[\]]/.test(part))
        throw new ArgumentError(`SLURM_STEP_NODELIST: expected names such as gpu[1-3], found ${quote(text)}`);
      nodes.push(part);
      continue;
    }
    for (const range of ranges.split(",")) {
      const [from = "", to = from] = range.split("-");
      for (let i = Number(from); i <= Number(to); i++)
        nodes.push(`${before}${String(i).padStart(from.length, "0")}${after}`);
    }
  }
  return nodes;
}

/** Parts between commas, except those within brackets. */
function splitOutside(text: string): string[] {
  const parts = [""];
  let inside = false;
  for (const letter of text) {
    if (letter === "[") inside = true;
    else if (letter === "]") inside = false;
    if (letter === "," && !inside) parts.push("");
    else parts[parts.length - 1] += letter;
  }
  return parts;
}

/** Slurm's short form of numbers: `2(x3),1` for 2, 2, 2, 1. */
function expandCounts(text: string): number[] {
  return text.split(",").flatMap((part) => {
    const [, count, times = "1"] = /^(\d+)(?:\(x(\d+)\))?$/.exec(part) ?? [];
    return Array.from({ length: Number(times) }, () => Number(count));
  });
}
