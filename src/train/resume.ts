/** Whether a checkpoint belongs to a run: compares what it was made with and what the run has, item by item. */
import { passedOn } from "../engine/errors.js";
import { SafetensorsError } from "../weights/safetensors.js";
import { ALLOW_ALL, ARGUMENTS, type ArgumentName, type Spelling } from "./arguments.js";
import {
  type CheckpointPlace,
  DamagedCheckpointError,
  isLost,
  ResumeError,
  readCheckpoint,
} from "./checkpoint.js";
import { canonicalJson } from "./fingerprint.js";

/** Identifies the clips, wherever they lie; hashes are compared only if both sides have them. */
export interface DataFingerprint {
  readonly samples: number;
  readonly clips?: string;
  readonly captions?: string;
}

/** Everything that decides what a run computes. It is kept in every checkpoint. */
export interface RunFingerprint {
  /** By name, the arguments that must not change between a checkpoint and the run that resumes from it. */
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly data?: DataFingerprint;
  /** Hashes by component. */
  readonly model?: Readonly<Record<string, string>>;
}

/** What a checkpoint must say to be recognised. */
export interface ResumableState {
  readonly fingerprint?: RunFingerprint;
  /** What the run began with, if that was changed later. */
  readonly began?: RunFingerprint;
}

export interface Difference {
  /** The argument; `data_root` for another data set, `model_path` for another model. */
  readonly name: string;
  /** Values in readable form. */
  readonly before: string;
  readonly now: string;
}

/** The arguments of a run that must not change. */
export function fixedArguments(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const names = (Object.keys(ARGUMENTS) as ArgumentName[]).filter((name) =>
    ["fixed", "never"].includes(ARGUMENTS[name].resume),
  );
  return Object.fromEntries(
    names.flatMap((name) => (values[name] === undefined ? [] : [[name, values[name]]])),
  );
}

const ruleOf = (name: string): { resume: string; default?: unknown } | undefined =>
  Object.hasOwn(ARGUMENTS, name) ? ARGUMENTS[name as ArgumentName] : undefined;

/** The argument's name for an option in code: `learning_rate` for `learningRate`. */
export const argumentName = (option: string): string =>
  option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** What differs; parts that `now` leaves out are not compared. */
export function differences(before: RunFingerprint, now: RunFingerprint): Difference[] {
  const found: Difference[] = [];
  const compare = (name: string, was: unknown, is: unknown, show = shown) => {
    if (normal(was) !== normal(is)) found.push({ name, before: show(was), now: show(is) });
  };
  for (const name of union(before.arguments, now.arguments)) {
    // An argument added since then behaved as its default does.
    const preset = ruleOf(name)?.default;
    compare(name, before.arguments[name] ?? preset, now.arguments[name] ?? preset);
  }
  if (before.data && now.data) {
    const { samples } = before.data;
    if (samples !== now.data.samples) {
      compare("data_root", samples, now.data.samples, (count) => `${count} clips`);
    } else {
      for (const part of ["clips", "captions"] as const) {
        const [was, is] = [before.data[part], now.data[part]];
        if (was !== undefined && is !== undefined)
          compare("data_root", was, is, (hash) => `${part} ${short(hash)}`);
      }
    }
  }
  if (before.model && now.model) {
    for (const part of union(before.model, now.model)) {
      const name = part === "transformer_config" ? part : "model_path";
      const show = (hash: unknown) => `${part} ${short(hash)}`;
      compare(name, before.model[part], now.model[part], show);
    }
  }
  return found;
}

const union = (a: object, b: object): string[] => [...new Set([...Object.keys(a), ...Object.keys(b)])];
const short = (hash: unknown): string => (typeof hash === "string" ? hash.slice(0, 8) : "none");
const shown = (value: unknown): string =>
  value === undefined ? "nothing" : Array.isArray(value) ? value.join(" ") : String(value);
/** Ignores the order of lists: those among the arguments are sets. */
const normal = (value: unknown): string =>
  canonicalJson(Array.isArray(value) ? [...value].sort() : (value ?? null));

export interface ResumeOptions {
  /** Names that may differ. */
  readonly allowed?: readonly string[];
  /** Only this checkpoint is acceptable: anything wrong with it is an error. */
  readonly named?: boolean;
  /** How errors name options. */
  readonly spelling: Spelling;
  /** Is told of checkpoints that are passed over, and why. */
  readonly log?: (line: string) => void;
}

/**
 * Restores the first checkpoint that is whole and belongs to this run.
 *
 * @param places in the order to try them.
 * @param restore may find a file damaged as it reads it, and is then called with the next checkpoint.
 * @returns whether there was one; false where there are no checkpoints at all.
 * @throws ResumeError naming what differs or what is damaged, if none is usable.
 */
export async function resumeFrom<S extends ResumableState>(
  places: readonly CheckpointPlace[],
  now: RunFingerprint,
  { allowed = [], named = false, spelling, log = () => {} }: ResumeOptions,
  restore: (
    place: CheckpointPlace,
    state: S & { format: number },
    changed: readonly Difference[],
  ) => Promise<void>,
): Promise<boolean> {
  const unexpected = (fingerprint: RunFingerprint) =>
    differences(fingerprint, now).filter(
      ({ name }) => isNever(name) || !(allowed.includes(name) || allowed.includes(ALLOW_ALL)),
    );
  const foreign: ResumeError[] = [];
  const damaged: DamagedCheckpointError[] = [];
  for (const place of places) {
    try {
      const state = await readCheckpoint<S>(place);
      const { fingerprint, began } = state;
      if (fingerprint === undefined && !allowed.includes(ALLOW_ALL)) {
        throw new ResumeError("does not say what it was made with, since an earlier version wrote it", {
          file: place.path,
          hint:
            spelling.otherRun ??
            `if it belongs to this run, go on with ${spelling.set("allow_changed_arguments", ALLOW_ALL)}`,
        });
      }
      const unlike = fingerprint ? unexpected(fingerprint) : [];
      if (unlike.length > 0) {
        const error = new ResumeError(`was made with other arguments: ${listed(unlike, spelling)}`, {
          file: place.path,
          hint: advice(unlike, spelling),
        });
        // The run's own newest, made after a change that this call does not repeat: an older one would lose its steps.
        if (named || (began && unexpected(began).length === 0)) throw error;
        foreign.push(error);
        continue;
      }
      await restore(place, state, fingerprint ? differences(fingerprint, now) : []);
      for (const { message } of [...damaged, ...foreign]) log(`passed over ${message}`);
      return true;
    } catch (error) {
      const damage = asDamage(error, place);
      if (damage === undefined || named) throw damage ?? error;
      damaged.push(damage);
    }
  }
  if (foreign.length + damaged.length === 0) return false;
  const damage = damaged.map(({ message }) => message).join("; ");
  const [newest] = foreign;
  if (newest === undefined) throw new ResumeError(`${damage}; no whole checkpoint is left`);
  throw damage === "" ? newest : passedOn(ResumeError, newest, `${damage}; `);
}

/** The error as damage, if a file's content or the disk is to blame; otherwise undefined. */
function asDamage(error: unknown, { path }: CheckpointPlace): DamagedCheckpointError | undefined {
  if (error instanceof DamagedCheckpointError) return error;
  if (error instanceof SafetensorsError)
    return new DamagedCheckpointError(error.problem, { file: error.file });
  return isLost(error) ? new DamagedCheckpointError(error.message, { file: path }) : undefined;
}

const listed = (found: readonly Difference[], spelling: Spelling): string =>
  found
    .map(({ name, before, now }) => `${spelling.name(name)}: ${before} in the checkpoint, ${now} now`)
    .join("; ");
const advice = (found: readonly Difference[], spelling: Spelling): string | undefined => {
  if (found.some(({ name }) => isNever(name))) return undefined;
  const names = [...new Set(found.map(({ name }) => name))];
  return (
    spelling.otherRun ?? `if that is meant, go on with ${spelling.set("allow_changed_arguments", ...names)}`
  );
};
const isNever = (name: string): boolean => ruleOf(name)?.resume === "never";

/** For a line that says which allowed changes were made. */
export const describeChanges = (found: readonly Difference[], spelling: Spelling): string =>
  found.map(({ name, before, now }) => `${spelling.name(name)} ${before} -> ${now}`).join(", ");
