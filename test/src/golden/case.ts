/**
 * Reference numbers (test/golden, or the folder GOLDEN_DIR names): opens cases, compares results with them.
 * A value passes when |mine - golden| <= atol + 1e-5 * |golden|, with the case's own atol per tensor.
 *
 * Each kind of case has its test file, `KIND.test.ts`, which takes every case of its kind in the index:
 *
 *     for (const golden of await casesOf("vae")) test(golden.name, async () => {
 *       const video = await golden.tensor("video");
 *       ...
 *       await golden.compare("moments", moments);
 *       golden.assertAllCompared();
 *     });
 *
 * Everything a test needs to know of a case comes from its JSON (`params`, `measured`, tensor names and shapes).
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as tf from "../../../src/engine/tf.js";
import type { TensorData } from "../../../src/weights/dtype.js";
import { toFloat32 } from "../../../src/weights/dtype.js";
import { type SafetensorsFile, safeOpen } from "../../../src/weights/safetensors.js";

/** The folder the reference numbers are read from. */
export const goldenDir = resolve(process.env.GOLDEN_DIR ?? "test/golden");

/** Which cases each kind's test file takes. */
const KINDS = {
  vae: /^vae_/,
  transformer: /^transformer_/,
  tables: /^(rope_tables|timestep_embedding|sincos_tables)$/,
  schedulers: /^(scheduler_|ddim_|dpm_)/,
  loss: /^compute_loss_/,
  optim: /^(lora_|optim_|lr_schedules)/,
  t5: /^t5_/,
  pipeline: /^pipeline_/,
  data: /^(data_|image_)/,
} as const;

export type Kind = keyof typeof KINDS;

export const kinds = Object.keys(KINDS) as Kind[];

/** The kinds whose test file takes the case of this name (exactly one, if all is well). */
export function kindsOf(name: string): Kind[] {
  return kinds.filter((kind) => KINDS[kind].test(name));
}

/** What a case's JSON says of one tensor. */
export interface TensorMeta {
  readonly role: "input" | "noise" | "output" | "intermediate" | "grad" | "table";
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly layout: string;
  readonly meaning: string;
  /** Absolute tolerance; computed floats have one, whole numbers must be equal. */
  readonly atol?: number;
}

interface CaseJson {
  readonly case: string;
  readonly title: string;
  readonly components: readonly string[];
  readonly params: Readonly<Record<string, unknown>>;
  readonly measured: Readonly<Record<string, unknown>>;
  readonly rtol: number;
  readonly tensors: Readonly<Record<string, TensorMeta>>;
}

/** Names of all cases in the index. */
export async function caseNames(): Promise<string[]> {
  const path = join(goldenDir, "index.json");
  const index = JSON.parse(await readFile(path, "utf8")) as { cases: { case: string }[] };
  assert.ok(index.cases.length > 0, `${path} lists no cases`);
  return index.cases.map((entry) => entry.case);
}

/** Every case of a kind; their tensors are read when asked for. */
export async function casesOf(kind: Kind): Promise<GoldenCase[]> {
  const names = (await caseNames()).filter((name) => KINDS[kind].test(name));
  return Promise.all(names.map((name) => GoldenCase.read(name)));
}

/** Values to compare: a tensor of the engine, or plain numbers where float64 matters. */
export type Values = tf.Tensor | { readonly shape: readonly number[]; readonly data: ArrayLike<number> };

export class GoldenCase {
  readonly name: string;
  readonly title: string;
  /** Constants of the case (`params` in its JSON). */
  readonly params: Readonly<Record<string, unknown>>;
  /** What was seen while the reference ran (`measured`). */
  readonly measured: Readonly<Record<string, unknown>>;
  readonly tensors: Readonly<Record<string, TensorMeta>>;
  readonly #components: readonly string[];
  readonly #rtol: number;
  readonly #compared = new Set<string>();

  private constructor(json: CaseJson) {
    this.name = json.case;
    this.title = json.title;
    this.params = json.params;
    this.measured = json.measured;
    this.tensors = json.tensors;
    this.#components = json.components;
    this.#rtol = json.rtol;
  }

  static async read(name: string): Promise<GoldenCase> {
    return new GoldenCase(JSON.parse(await readFile(join(goldenDir, `${name}.json`), "utf8")) as CaseJson);
  }

  /** Names of the case's tensors, of one role or all. */
  names(...roles: TensorMeta["role"][]): string[] {
    const all = Object.keys(this.tensors);
    return roles.length === 0 ? all : all.filter((name) => roles.includes(this.tensors[name]!.role));
  }

  /** Names of the folders of the case's components, e.g. "vae", "t15", "scheduler_ddim_15". */
  get components(): string[] {
    return this.#components.map((path) => path.replace(/^components\//, ""));
  }

  /** The folder of a component; by default the only one. */
  component(name?: string): string {
    if (name === undefined) assert.equal(this.components.length, 1, `${this.name} has several components`);
    const wanted = name ?? this.components[0]!;
    assert.ok(
      this.components.includes(wanted),
      `${this.name} has no component ${wanted}, only ${this.components}`,
    );
    return join(goldenDir, "components", wanted);
  }

  /** One tensor of the case on the engine (float64 becomes float32); the caller disposes it. */
  async tensor<R extends tf.Rank = tf.Rank>(name: string): Promise<tf.Tensor<R>> {
    return this.#read((file) => file.getTensor(name)) as Promise<tf.Tensor<R>>;
  }

  /** One tensor's numbers, float64 and integers as they are. */
  async values(
    name: string,
  ): Promise<{ shape: number[]; data: Exclude<TensorData, BigInt64Array | BigUint64Array> }> {
    return this.#read(async (file) => {
      const { dtype, shape, data } = await file.getData(name);
      const numbers = dtype === "F16" || dtype === "BF16" ? toFloat32(dtype, data) : data;
      assert.ok(
        !(numbers instanceof BigInt64Array || numbers instanceof BigUint64Array),
        `${name} is ${dtype}`,
      );
      return { shape: [...shape], data: numbers };
    });
  }

  /**
   * Fails unless `mine` has the golden tensor's shape and agrees with it, naming the worst value.
   * Does not dispose `mine`.
   */
  async compare(name: string, mine: Values): Promise<void> {
    const meta = this.tensors[name];
    assert.ok(meta, `${this.name} has no tensor ${name}`);
    this.#compared.add(name);
    const golden = await this.values(name);
    const found = mine instanceof tf.Tensor ? { shape: mine.shape, data: await mine.data() } : mine;
    assert.deepEqual([...found.shape], golden.shape, `${this.name} ${name}: shape`);
    assert.equal(found.data.length, golden.data.length, `${this.name} ${name}: number of values`);
    const worst = worstExcess(
      found.data,
      golden.data,
      allowance(meta),
      meta.atol === undefined ? 0 : this.#rtol,
    );
    if (!worst) return;
    const at = indexOf(worst.at, golden.shape);
    assert.fail(
      `${this.name} ${name} (${meta.role}, ${meta.layout}): ${worst.count} of ${golden.data.length} values differ; ` +
        `worst at [${at}]: mine ${found.data[worst.at]}, golden ${golden.data[worst.at]}, ` +
        `difference ${worst.difference.toExponential(3)}, allowed ${worst.allowed.toExponential(3)}`,
    );
  }

  /** Fails if a tensor of these roles (default: all that were computed) was never compared. */
  assertAllCompared(...roles: TensorMeta["role"][]): void {
    const wanted = this.names(
      ...(roles.length ? roles : (["output", "intermediate", "grad", "table"] as const)),
    );
    const missed = wanted.filter((name) => !this.#compared.has(name));
    assert.deepEqual(missed, [], `${this.name}: never compared`);
  }

  async #read<T>(use: (file: SafetensorsFile) => Promise<T>): Promise<T> {
    const file = await safeOpen(join(goldenDir, `${this.name}.safetensors`));
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  }
}

/** A tensor's absolute tolerance. Whole numbers have none unless their description grants one. */
function allowance({ atol, meaning }: TensorMeta): number {
  return atol ?? Number(/allow a difference of (\d+)/.exec(meaning)?.[1] ?? 0);
}

/** The value that exceeds its tolerance by the largest factor, if one does; NaN always does. */
function worstExcess(mine: ArrayLike<number>, golden: ArrayLike<number>, atol: number, rtol: number) {
  let worst: { at: number; difference: number; allowed: number; count: number } | undefined;
  let worstRatio = 1;
  let count = 0;
  for (let i = 0; i < golden.length; i++) {
    if (mine[i] === golden[i]) continue; // also equal infinities
    const difference = Math.abs(mine[i]! - golden[i]!);
    const allowed = atol + rtol * Math.abs(golden[i]!);
    const ratio = Number.isNaN(difference) || allowed === 0 ? Number.POSITIVE_INFINITY : difference / allowed;
    if (ratio <= 1) continue;
    count++;
    if (ratio > worstRatio || !worst) worst = { at: i, difference, allowed, count };
    worstRatio = Math.max(worstRatio, ratio);
  }
  if (worst) worst.count = count;
  return worst;
}

function indexOf(flat: number, shape: readonly number[]): number[] {
  const index: number[] = [];
  for (const size of shape.toReversed()) {
    index.unshift(flat % size);
    flat = Math.floor(flat / size);
  }
  return index;
}
