/** A rank that sums vectors: `node member.js RANK HOST,HOST... JSON`, with what to do on every rank as JSON. */
import { Group } from "../../../../src/train/distributed/group.js";

export interface Task {
  readonly sizes: readonly number[];
  readonly bfloat16?: boolean;
  readonly silence?: number;
  readonly limit?: number;
  /** After the sums, this rank does not come again, though it lives. */
  readonly idle?: number;
  /** Sums vectors of this size again and again. */
  readonly endless?: number;
  /** After the sums, this rank computes and hears nothing. */
  readonly deaf?: number;
}

/** The vector of a rank; whole numbers, so that sums are exact. */
export const vectorOf = (rank: number, size: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: size }, (_, i) => ((i * 7 + rank * 13) % 101) - 50);

if (process.argv[2] !== undefined && process.argv[1]?.endsWith("member.js")) {
  const rank = Number(process.argv[2]);
  const hosts = process.argv[3]!.split(",");
  const task = JSON.parse(process.argv[4]!) as Task;
  let group: Group | undefined;
  try {
    group = await Group.join({ rank, hosts }, task);
    const sums: number[][] = [];
    for (const size of task.sizes) {
      const { sum, values } = await group.sum(`a sum of ${size}`, { rank }, vectorOf(rank, size));
      if (values.some((value, i) => value.rank !== i)) throw new Error(`values ${JSON.stringify(values)}`);
      sums.push([...sum]);
    }
    const said = `${JSON.stringify({ sums, bytes: group.costs.bytesSent })}\n`;
    await new Promise<void>((written) => process.stdout.write(said, () => written()));
    for (let round = 1; task.endless !== undefined; round++) {
      await group.sum(`round ${round}`, round, vectorOf(rank, task.endless));
      if (round % 5 === 0) process.stdout.write("five more rounds\n");
      await new Promise((done) => setTimeout(done, 10));
    }
    if (task.deaf === rank) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    if (task.idle === rank) await new Promise((done) => setTimeout(done, 60_000));
    await group.gather("the next step", rank);
    await group.leave();
    process.exit(0);
  } catch (error) {
    await group?.fail(error);
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit((error as { exitCode?: number }).exitCode ?? 1);
  }
}
