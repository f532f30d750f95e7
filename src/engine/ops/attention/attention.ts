import { currentEngine } from "../../running.js";
import * as tf from "../../tf.js";
import { defineOperation } from "../operation.js";

export interface AttentionAttributes {
  /** Multiplies the scores; normally 1 / sqrt(features). */
  scale: number;
  /** The largest score matrix that may be held, in numbers. Default {@link scoreLimit}. */
  maxScores: number;
  /** How many heads are packed in a row: [batch, tokens, heads * features]. */
  heads: number;
}

type AttentionOptions = Partial<Omit<AttentionAttributes, "heads">>;

type Qkv = { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor };

/** The fewest queries at a time, so that matrix products stay efficient. */
const MIN_ROWS = 64;

/**
 * The largest score matrix in memory, in numbers: 8 MiB on a processor, where it has to stay in the cache between passes,
 * 256 MiB on a GPU. It is never smaller than 64 queries of one head.
 */
export function scoreLimit(): number {
  const engine = currentEngine()?.name;
  return engine === "tensorflow-gpu" || engine === "webgpu" ? 2 ** 26 : 2 ** 21;
}

/**
 * How many heads and queries are computed at a time, for a number of keys. Many queries of one head make better matrix
 * products than a few of every head: twice as fast for 1,600 tokens on TensorFlow's CPU.
 */
export function attentionBlocks(
  heads: number,
  queries: number,
  keys: number,
  maxScores: number,
): { heads: number; rows: number } {
  const most = Math.max(MIN_ROWS, Math.floor(maxScores / keys));
  const rows = Math.ceil(queries / Math.ceil(queries / most)); // in parts of about the same size
  return { rows, heads: Math.min(heads, Math.max(1, Math.floor(maxScores / (rows * keys)))) };
}

type GradientInputs = Qkv & { output: tf.Tensor; dy: tf.Tensor; logSums?: tf.Tensor };

const gradient = defineOperation<GradientInputs, AttentionAttributes>({
  name: "FirstframeAttentionGrad",
  native: {
    inputs: ["query", "key", "value", "output", "dy", "logSums"],
    outputs: ["dQuery", "dKey", "dValue"],
    attributes: { scale: "float", heads: "int" },
    products: true,
  },
  forward({ query, key, value, output, dy }, { scale, maxScores, heads }) {
    const folded = [query, key, value, output, dy].map((x) => unpackHeads(x, heads));
    const [q, k, v, o, d] = folded as [tf.Tensor3D, tf.Tensor3D, tf.Tensor3D, tf.Tensor3D, tf.Tensor3D];
    const block = attentionBlocks(q.shape[0], q.shape[1], k.shape[1], maxScores);
    const groups = ranges(q.shape[0], block.heads).map(([head, heads]) =>
      tf.tidy(() => {
        const [kh, vh] = [part(k, head, heads), part(v, head, heads)];
        let dk = tf.zerosLike(kh);
        let dv = tf.zerosLike(vh);
        const dq: tf.Tensor3D[] = [];
        for (const [row, rows] of ranges(q.shape[1], block.rows)) {
          const step = tf.tidy(() => {
            const [qb, ob, db] = [q, o, d].map((x) => part(x, head, heads, row, rows)) as [
              tf.Tensor3D,
              tf.Tensor3D,
              tf.Tensor3D,
            ];
            const scaled = tf.mul(qb, scale);
            const weights = tf.softmax(tf.matMul(scaled, kh, false, true));
            const dWeights = tf.matMul(db, vh, false, true);
            const dScores = tf.mul(
              weights,
              tf.sub(dWeights, tf.sum(tf.mul(db, ob), -1, true)),
            ) as tf.Tensor3D;
            return {
              dq: tf.mul(tf.matMul(dScores, kh), scale) as tf.Tensor3D,
              dk: tf.add(dk, tf.matMul(dScores, scaled as tf.Tensor3D, true, false)) as tf.Tensor3D,
              dv: tf.add(dv, tf.matMul(weights as tf.Tensor3D, db, true, false)) as tf.Tensor3D,
            };
          });
          tf.dispose([dk, dv]);
          dk = step.dk;
          dv = step.dv;
          dq.push(step.dq);
        }
        return [dq.length === 1 ? dq[0]! : tf.concat(dq, 1), dk, dv];
      }),
    );
    return [0, 1, 2].map((i) => packHeads(joined(groups.map((group) => group[i]!)), heads));
  },
});

const operation = defineOperation<Qkv, AttentionAttributes>({
  name: "FirstframeAttention",
  native: {
    inputs: ["query", "key", "value"],
    outputs: ["y", "logSums"],
    attributes: { scale: "float", heads: "int" },
    products: true,
  },
  forward({ query, key, value }, { scale, maxScores, heads }) {
    const folded = [query, key, value].map((x) => unpackHeads(x, heads));
    const [q, k, v] = folded as [tf.Tensor3D, tf.Tensor3D, tf.Tensor3D];
    const block = attentionBlocks(q.shape[0], q.shape[1], k.shape[1], maxScores);
    const groups = ranges(q.shape[0], block.heads).map(([head, heads]) =>
      tf.tidy(() => {
        const [kh, vh] = [part(k, head, heads), part(v, head, heads)];
        const outputs = ranges(q.shape[1], block.rows).map(([row, rows]) =>
          tf.tidy(() => {
            const scaled = tf.mul(part(q, head, heads, row, rows), scale) as tf.Tensor3D;
            return tf.matMul<tf.Tensor3D>(tf.softmax(tf.matMul(scaled, kh, false, true)), vh);
          }),
        );
        return outputs.length === 1 ? outputs[0]! : tf.concat(outputs, 1);
      }),
    );
    return packHeads(joined(groups), heads);
  },
  // A fused kernel has a second output, the logarithms of the weights' sums, which its gradient needs.
  save: { inputs: ["query", "key", "value"], outputs: [true, true] },
  gradient([dy], [query, key, value, output, logSums], attributes) {
    const inputs = { query: query!, key: key!, value: value!, output: output!, dy: dy! };
    const [dq, dk, dv] = gradient(logSums ? { ...inputs, logSums } : inputs, attributes) as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    return { query: () => dq, key: () => dk, value: () => dv };
  },
});

/**
 * Scaled dot-product attention (Vaswani et al. 2017, arXiv 1706.03762), softmax(scale * q k^T) v, for packed heads, which
 * are side by side in one row, as projections leave them.
 *
 * It is computed for some heads and queries at a time, and its gradient computes the weights anew (as Dao et al. 2022,
 * arXiv 2205.14135), so that no score matrix above {@link scoreLimit} is ever in memory: that of CogVideoX-1.5's 45,000
 * tokens and 48 heads would take 390 GB.
 *
 * @param query [batch, queries, heads * features]
 * @param key [batch, keys, heads * features]
 * @param value [batch, keys, heads * features]
 * @returns [batch, queries, heads * features]
 */
export function multiHeadAttention(
  query: tf.Tensor3D,
  key: tf.Tensor3D,
  value: tf.Tensor3D,
  heads: number,
  { scale = 1 / Math.sqrt(query.shape[2] / heads), maxScores = scoreLimit() }: AttentionOptions = {},
): tf.Tensor3D {
  return tf.tidy(() => operation({ query, key, value }, { scale, maxScores, heads })[0] as tf.Tensor3D);
}

/** Packed heads, [batch, tokens, heads * features], as [batch * heads, tokens, features]. */
function unpackHeads(x: tf.Tensor, heads: number): tf.Tensor3D {
  const [batch, tokens, width] = x.shape as [number, number, number];
  const apart = tf.transpose(tf.reshape(x, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
  return tf.reshape(apart, [batch * heads, tokens, width / heads]);
}

/** The inverse of {@link unpackHeads}. */
function packHeads(x: tf.Tensor3D, heads: number): tf.Tensor3D {
  const [all, tokens, features] = x.shape;
  const apart = tf.reshape(x, [all / heads, heads, tokens, features]);
  return tf.reshape(tf.transpose(apart, [0, 2, 1, 3]), [all / heads, tokens, heads * features]);
}

/** [start, length] of consecutive pieces. */
function ranges(total: number, size: number): [start: number, length: number][] {
  const pieces: [number, number][] = [];
  for (let start = 0; start < total; start += size) pieces.push([start, Math.min(size, total - start)]);
  return pieces;
}

/** Some heads of x, and some of their rows; not a copy if it is all of them. */
function part(x: tf.Tensor3D, head: number, heads: number, row = 0, rows = x.shape[1]): tf.Tensor3D {
  if (heads === x.shape[0] && rows === x.shape[1]) return x;
  return tf.slice(x, [head, row, 0], [heads, rows, -1]);
}

function joined(groups: tf.Tensor3D[]): tf.Tensor3D {
  return groups.length === 1 ? groups[0]! : tf.concat(groups, 0);
}
