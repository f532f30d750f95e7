import type { AdamAttributes } from "../ops/adam/adam.js";
import * as tf from "../tf.js";

/** What the fused operations' kernels need of tfjs-node's backend. */
interface NodeBackend {
  readonly binding: {
    readonly TF_ATTR_INT: number;
    readonly TF_ATTR_FLOAT: number;
    readonly TF_ATTR_BOOL: number;
  };
  executeMultipleOutputs(
    name: string,
    attributes: object[],
    inputs: tf.TensorInfo[],
    outputs: number,
  ): tf.Tensor[];
}

type AttributeType = "TF_ATTR_INT" | "TF_ATTR_FLOAT" | "TF_ATTR_BOOL";

interface Operation {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeType>>;
  /** Default: 1. */
  readonly outputs?: number;
}

const SUMMED = { lengths: "TF_ATTR_INT", batch: "TF_ATTR_INT" } as const;
const MODULATED = { lengths: "TF_ATTR_INT", chunks: "TF_ATTR_INT" } as const;
const TRANSPOSED = { transposeA: "TF_ATTR_BOOL", transposeB: "TF_ATTR_BOOL" } as const;

/** The operations of this folder. Each has the name, the inputs and the attributes of its composite in `ops/`. */
const OPERATIONS: readonly Operation[] = [
  { name: "FirstframeGeluTanh", inputs: ["x"] },
  { name: "FirstframeGeluTanhGrad", inputs: ["x", "dy"] },
  {
    name: "FirstframeLayerNorm",
    inputs: ["x", "scale", "shift"],
    attributes: { eps: "TF_ATTR_FLOAT", lengths: "TF_ATTR_INT" },
  },
  {
    name: "FirstframeLayerNormGrad",
    inputs: ["x", "scale", "dy"],
    attributes: { eps: "TF_ATTR_FLOAT", lengths: "TF_ATTR_INT" },
  },
  { name: "FirstframeStretchSums", inputs: ["x"], attributes: SUMMED },
  { name: "FirstframeStretchDots", inputs: ["x", "y"], attributes: SUMMED },
  {
    name: "FirstframeModulatedNorm",
    inputs: ["x", "modulation", "weight", "bias"],
    attributes: { eps: "TF_ATTR_FLOAT", ...MODULATED },
  },
  {
    name: "FirstframeModulatedNormGrad",
    inputs: ["x", "modulation", "weight", "dy"],
    attributes: { eps: "TF_ATTR_FLOAT", ...MODULATED },
  },
  {
    name: "FirstframeModulatedNormParameters",
    inputs: ["x", "modulation", "weight", "bias", "dy"],
    attributes: { eps: "TF_ATTR_FLOAT", ...MODULATED },
    outputs: 3,
  },
  { name: "FirstframeGatedResidual", inputs: ["x", "branch", "modulation"], attributes: MODULATED },
  { name: "FirstframeGated", inputs: ["x", "modulation"], attributes: MODULATED },
  { name: "FirstframeGateGrad", inputs: ["branch", "modulation", "dy"], attributes: MODULATED },
  {
    name: "FirstframeHeadNorm",
    inputs: ["x", "weight", "bias", "cos", "sin"],
    attributes: { eps: "TF_ATTR_FLOAT" },
  },
  {
    name: "FirstframeHeadNormGrad",
    inputs: ["x", "weight", "cos", "sin", "dy"],
    attributes: { eps: "TF_ATTR_FLOAT" },
  },
  {
    name: "FirstframeHeadNormParameters",
    inputs: ["x", "cos", "sin", "dy"],
    attributes: { eps: "TF_ATTR_FLOAT" },
    outputs: 2,
  },
  {
    name: "FirstframeGroupNorm",
    inputs: ["x", "scale", "shift"],
    attributes: {
      groups: "TF_ATTR_INT",
      eps: "TF_ATTR_FLOAT",
      batch: "TF_ATTR_INT",
      calls: "TF_ATTR_INT",
      silu: "TF_ATTR_BOOL",
    },
    outputs: 3,
  },
  {
    name: "FirstframeGroupNormGrad",
    inputs: ["x", "scale", "shift", "mean", "rstd", "dy"],
    attributes: {
      groups: "TF_ATTR_INT",
      batch: "TF_ATTR_INT",
      calls: "TF_ATTR_INT",
      silu: "TF_ATTR_BOOL",
    },
    outputs: 3,
  },
  { name: "FirstframeMatMul", inputs: ["a", "b"], attributes: TRANSPOSED },
  { name: "FirstframeMatMulBias", inputs: ["a", "b", "bias"], attributes: TRANSPOSED },
  {
    name: "FirstframeLowRank",
    inputs: ["y", "x", "a", "b"],
    attributes: { scale: "TF_ATTR_FLOAT" },
    outputs: 2,
  },
  {
    name: "FirstframeLowRankGrad",
    inputs: ["dy", "x", "low", "a", "b", "onto"],
    attributes: { scale: "TF_ATTR_FLOAT" },
    outputs: 3,
  },
  {
    name: "FirstframeAttention",
    inputs: ["query", "key", "value"],
    attributes: { scale: "TF_ATTR_FLOAT", heads: "TF_ATTR_INT" },
    outputs: 2,
  },
  {
    name: "FirstframeAttentionGrad",
    inputs: ["query", "key", "value", "output", "dy", "logSums"],
    attributes: { scale: "TF_ATTR_FLOAT", heads: "TF_ATTR_INT" },
    outputs: 3,
  },
];

/** Puts the fused operations in the place of their composites on the `tensorflow` backend. */
export function registerFusedKernels(): void {
  for (const { name, inputs, attributes = {}, outputs = 1 } of OPERATIONS) {
    replaceKernel(name, ({ inputs: given, attrs, backend }) => {
      const node = backend as NodeBackend;
      const list = Object.entries(attributes).map(([attribute, type]) => ({
        name: attribute,
        type: node.binding[type],
        value: (attrs as Record<string, unknown>)[attribute],
      }));
      const results = node.executeMultipleOutputs(
        name,
        list,
        inputs.map((input) => given[input]!),
        outputs,
      );
      return outputs === 1 ? results[0]! : results;
    });
  }
  replaceKernel("FirstframeAdam", ({ inputs, attrs, backend }) => {
    const { beta1, beta2, eps, stepSize, correction, shrink, decay, scale } =
      attrs as unknown as AdamAttributes;
    const settings = tf.tensor1d([
      1 - beta1,
      beta2,
      1 - beta2,
      eps,
      stepSize,
      correction,
      shrink,
      decay,
      scale,
    ]);
    const given = ["weight", "gradient", "expAvg", "expAvgSq"].map((name) => inputs[name]!);
    const results = (backend as NodeBackend).executeMultipleOutputs(
      "FirstframeAdam",
      [],
      [...given, settings],
      3,
    );
    settings.dispose();
    return results;
  });
  const softmax = tf.getKernel(tf.Softmax, "tensorflow").kernelFunc;
  replaceKernel(tf.Softmax, (call) => {
    const logits = call.inputs.logits!;
    const { dim } = call.attrs as unknown as { dim: number };
    if (logits.dtype !== "float32" || dim !== logits.shape.length - 1) return softmax(call);
    return (call.backend as NodeBackend).executeMultipleOutputs("FirstframeSoftmax", [], [logits], 1)[0]!;
  });
}

/** An operation whose composite is not loaded yet has no kernel; the composite then finds this one and keeps it. */
function replaceKernel(kernelName: string, kernelFunc: tf.KernelFunc): void {
  if (tf.getKernel(kernelName, "tensorflow") !== undefined) tf.unregisterKernel(kernelName, "tensorflow");
  tf.registerKernel({ kernelName, backendName: "tensorflow", kernelFunc });
}
