import * as tf from "../../tf.js";
import { normalize, normalizeGradient } from "../normalize.js";
import { defineOperation } from "../operation.js";
import { applyRotary, type SignedRotaryTables, undoRotary } from "../rotary/rotary.js";

interface HeadNormAttributes {
  readonly eps: number;
}

type Inputs = { x: tf.Tensor; weight: tf.Tensor; bias: tf.Tensor; cos: tf.Tensor; sin: tf.Tensor };

type Tables = { cos: tf.Tensor; sin: tf.Tensor };

/** [batch, tokens, heads * features] as [batch, tokens, heads, features], for tables of [tokens or 1, features]. */
function byHead(x: tf.Tensor, { cos }: Tables): tf.Tensor {
  const [batch, tokens] = x.shape as [number, number];
  return tf.reshape(x, [batch, tokens, -1, cos.shape[1]!]);
}

/** Tables that go with {@link byHead}. */
const withHeadAxis = ({ cos, sin }: Tables): Tables => ({
  cos: tf.expandDims(cos, 1),
  sin: tf.expandDims(sin, 1),
});

const inputGradient = defineOperation<Omit<Inputs, "bias"> & { dy: tf.Tensor }, HeadNormAttributes>({
  name: "FirstframeHeadNormGrad",
  native: { inputs: ["x", "weight", "cos", "sin", "dy"], outputs: ["dx"], attributes: { eps: "float" } },
  forward({ x, weight, cos, sin, dy }, { eps }) {
    const tables = { cos, sin };
    const dNormal = tf.mul(undoRotary(byHead(dy, tables), withHeadAxis(tables)), weight);
    return tf.reshape(normalizeGradient(byHead(x, tables), dNormal, eps), x.shape);
  },
});

const parameterGradients = defineOperation<
  Omit<Inputs, "weight" | "bias"> & { dy: tf.Tensor },
  HeadNormAttributes
>({
  name: "FirstframeHeadNormParameters",
  native: { inputs: ["x", "cos", "sin", "dy"], outputs: ["dWeight", "dBias"], attributes: { eps: "float" } },
  forward({ x, cos, sin, dy }, { eps }) {
    const tables = { cos, sin };
    const unrotated = undoRotary(byHead(dy, tables), withHeadAxis(tables));
    const { normal } = normalize(byHead(x, tables), eps);
    return [tf.sum(tf.mul(unrotated, normal), [0, 1, 2]), tf.sum(unrotated, [0, 1, 2])];
  },
});

const operation = defineOperation<Inputs, HeadNormAttributes & { readonly trained: boolean }>({
  name: "FirstframeHeadNorm",
  native: { inputs: ["x", "weight", "bias", "cos", "sin"], outputs: ["y"], attributes: { eps: "float" } },
  forward({ x, weight, bias, cos, sin }, { eps }) {
    const tables = { cos, sin };
    const normal = tf.add(tf.mul(normalize(byHead(x, tables), eps).normal, weight), bias);
    return tf.reshape(applyRotary(normal, withHeadAxis(tables)), x.shape);
  },
  save: { inputs: ["x", "weight", "cos", "sin"] },
  gradient([dy], [x, weight, cos, sin], attributes) {
    const inputs = { x: x!, cos: cos!, sin: sin!, dy: dy! };
    const compute = () => parameterGradients(inputs, attributes);
    const shared = attributes.trained ? compute() : undefined;
    const constant = (): never => {
      throw new Error("rotary tables are constants: they have no gradient");
    };
    return {
      x: () => inputGradient({ ...inputs, weight: weight! }, attributes)[0]!,
      weight: () => shared?.[0] ?? compute()[0]!,
      bias: () => shared?.[1] ?? compute()[1]!,
      cos: constant,
      sin: constant,
    };
  },
});

/**
 * Layer norm of each attention head's queries or keys, then rotary position embedding (Su et al. 2021, arXiv
 * 2104.09864).
 *
 * @param x [batch, tokens, heads * features]
 * @param weight [features]
 * @param bias [features]
 * @param rotary tables of [tokens, features]; with null nothing is rotated.
 * @param trained whether weight and bias are trained; their gradients are computed together.
 */
export function headNorm(
  x: tf.Tensor3D,
  weight: tf.Tensor1D,
  bias: tf.Tensor1D,
  rotary: SignedRotaryTables | null,
  { eps, trained = true }: { readonly eps: number; readonly trained?: boolean },
): tf.Tensor3D {
  return tf.tidy(() => {
    const still: [number, number] = [1, weight.shape[0]];
    const { cos, sin } = rotary ?? { cos: tf.ones(still), sin: tf.zeros(still) };
    return operation({ x, weight, bias, cos, sin }, { eps, trained })[0] as tf.Tensor3D;
  });
}
