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
  /** So many sums at a time, asked for while the main thread computes and hears nothing. Default 1. */
  readonly buckets?: number;
  /** After the sums, this rank computes and hears nothing. */
  readonly deaf?: number;
}

/** The vector of a rank; whole numbers, so that sums are exact. */
export const vectorOf = (rank: number, size: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: size }, (_, i) => ((i * 7 + rank * 13) % 101) - 50);

/** The main thread hears nothing meanwhile. */
const compute = (ms?: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

if (process.argv[2] !== undefined && process.argv[1]?.endsWith("member.js")) {
  const rank = Number(process.argv[2]);
  const hosts = process.argv[3]!.split(",");
  const task = JSON.parse(process.argv[4]!) as Task;
  const { buckets = 1 } = task;
  let group: Group | undefined;
  try {
    group = await Group.join({ rank, hosts }, task);
    const sums: number[][] = [];
    for (let at = 0; at < task.sizes.length; at += buckets) {
      const together = task.sizes.slice(at, at + buckets).map((size) => {
        // Each rank takes another time for each.
        if (buckets > 1) compute(7 * ((rank + size) % 4));
        return group!.sum(`a sum of ${size}`, { rank, size }, vectorOf(rank, size), {
          background: buckets > 1,
        });
      });
      for (const [i, { sum, values }] of (await Promise.all(together)).entries()) {
        if (values.some((value, other) => value.rank !== other || value.size !== task.sizes[at + i]))
          throw new Error(`values ${JSON.stringify(values)}`);
        sums.push([...sum]);
      }
    }
    const said = `${JSON.stringify({ sums, bytes: group.costs.bytesSent })}\n`;
    await new Promise<void>((written) => process.stdout.write(said, () => written()));
    for (let round = 1; task.endless !== undefined; round++) {
      const together = Array.from({ length: buckets }, () => {
        if (buckets > 1) compute(5);
        return group!.sum(`round ${round}`, round, vectorOf(rank, task.endless!));
      });
      await Promise.all(together);
      if (round % 5 === 0) process.stdout.write("five more rounds\n");
      await new Promise((done) => setTimeout(done, 10));
    }
    if (task.deaf === rank) compute();
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
