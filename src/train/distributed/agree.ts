import { quote } from "../../engine/errors.js";
import { canonicalJson } from "../fingerprint.js";
import { RankError } from "./errors.js";
import type { Group } from "./group.js";

/** Facts by kind and name: `{ arguments: { seed: 42 } }`. */
type Facts = Readonly<Record<string, object | undefined>>;

/**
 * Compares what the ranks have with what the first one has.
 *
 * @throws RankError on all ranks, naming the one that differs, and in what.
 */
export async function assertSame(group: Group, what: string, facts: Facts): Promise<void> {
  const { values } = await group.gather(what, facts, { unhurried: true });
  const [first = {}] = values;
  for (const [rank, other] of values.entries()) {
    for (const kind of Object.keys({ ...first, ...other })) {
      const [wanted, found] = [first[kind] ?? {}, other[kind] ?? {}] as Record<string, unknown>[];
      for (const name of Object.keys({ ...wanted, ...found })) {
        if (canonicalJson(wanted![name] ?? null) === canonicalJson(found![name] ?? null)) continue;
        throw new RankError(
          `${group.describe(rank)} has ${name} ${quote(found![name], 40)}, ${group.describe(0)} has ${quote(wanted![name], 40)}`,
          { hint: "all ranks train with the same arguments, data and model", exitCode: 2 },
        );
      }
    }
  }
}
