/**
 * The backward pass over the tape that TensorFlow.js records (https://github.com/tensorflow/tfjs, tfjs-core/src/tape.ts), with its
 * arithmetic in its order. Unlike TensorFlow.js's own it frees memory as it goes, and says when a gradient is final.
 */
import * as tf from "../tf.js";

interface TapeNode {
  readonly id: number;
  readonly kernelName: string;
  readonly inputs: Readonly<Record<string, tf.Tensor>>;
  readonly outputs: readonly tf.Tensor[];
  readonly saved: readonly tf.Tensor[];
  readonly gradient?: (dys: readonly (tf.Tensor | null)[]) => Record<string, () => tf.Tensor>;
}

/** What TypeScript takes for private. */
interface TapeEngine {
  readonly state: { activeTape: TapeNode[] | null };
  startTape(): void;
  endTape(): void;
}

const engine = () => tf.engine() as unknown as TapeEngine;

/**
 * Is told that no more is added to the gradient of `xs[index]`, while the backward pass goes on. The gradient is the receiver's to
 * dispose, whatever scope it is in; null if the result does not depend on that input.
 */
export type GradientReady = (index: number, gradient: tf.Tensor | null) => void;

export interface GradientOptions {
  /** The gradient of the result; it stays the caller's. Default: 1. */
  readonly dy?: tf.Tensor;
  /** Takes over the gradients, which are not returned then. */
  readonly ready?: GradientReady;
}

/**
 * The result of `f`, and its gradients with respect to `xs`, in their order; null for those without influence.
 *
 * What an operation saved, and its output's gradient, are freed as soon as the gradients of its inputs are known; TensorFlow.js keeps
 * all of them until the end.
 */
export function gradients<T extends tf.Tensor>(
  f: () => T,
  xs: readonly tf.Tensor[],
  { dy, ready }: GradientOptions = {},
): { value: T; grads: (tf.Tensor | null)[] } {
  const tape: TapeNode[] = [];
  try {
    const value = withOwnTape(() => recorded(f, tape));
    let grads: (tf.Tensor | null)[] = [];
    tf.tidy("backward", () => {
      grads = walk(tape, xs, value, dy, ready);
      return grads.filter((gradient) => gradient !== null);
    });
    return { value, grads };
  } finally {
    for (const { saved } of tape) tf.dispose([...saved]);
  }
}

function recorded<T extends tf.Tensor>(f: () => T, tape: TapeNode[]): T {
  const { state } = engine();
  engine().startTape();
  state.activeTape = tape;
  try {
    return tf.tidy("forward", f);
  } finally {
    engine().endTape();
  }
}

/** The engine keeps one tape; while another gradient is computed, the current one's is set aside. */
export function withOwnTape<T>(f: () => T): T {
  const { state } = engine();
  const outer = state.activeTape;
  try {
    return f();
  } finally {
    state.activeTape = outer;
  }
}

/** As `tf.variableGrads`, with the memory of {@link gradients}: a scalar and its gradients by the variables' names. */
export function variableGrads(
  f: () => tf.Scalar,
  variables: readonly tf.Variable[],
  ready?: GradientReady,
): { value: tf.Scalar; grads: tf.NamedTensorMap } {
  const { value, grads } = gradients(f, variables, { ready });
  const named = variables.flatMap(({ name }, i) => (grads[i] ? [[name, grads[i]] as const] : []));
  return { value, grads: Object.fromEntries(named) };
}

/** What lies on a way from an input to the result: the nodes in their order, with those of their inputs that do. */
function onTheWay(tape: readonly TapeNode[], xs: readonly tf.Tensor[], y: tf.Tensor) {
  const fromX = new Set(xs.map(({ id }) => id));
  const reached = tape.filter(({ inputs, outputs }) => {
    const depends = Object.values(inputs).some(({ id }) => fromX.has(id));
    if (depends) for (const { id } of outputs) fromX.add(id);
    return depends;
  });
  const toY = new Set([y.id]);
  const nodes = reached.reverse().filter(({ inputs, outputs }) => {
    const leads = outputs.some(({ id }) => toY.has(id));
    if (leads) for (const { id } of Object.values(inputs)) toY.add(id);
    return leads;
  });
  return nodes.map((node) => {
    const inputs = Object.entries(node.inputs).filter(([, { id }]) => fromX.has(id));
    return { node, inputs };
  });
}

function walk(
  tape: readonly TapeNode[],
  xs: readonly tf.Tensor[],
  y: tf.Tensor,
  dy: tf.Tensor | undefined,
  ready: GradientReady | undefined,
): (tf.Tensor | null)[] {
  const backward = onTheWay(tape, xs, y);
  const needed = new Set(backward.map(({ node }) => node.id));
  for (const { id, saved } of tape) if (!needed.has(id)) tf.dispose([...saved]);

  const indices = new Map(xs.map(({ id }, i) => [id, i]));
  /** How often each input's gradient is still added to. */
  const uses = xs.map(() => 0);
  for (const { inputs } of backward) {
    for (const [, { id }] of inputs) if (indices.has(id)) uses[indices.get(id)!]!++;
  }
  if (ready) for (const [i, count] of uses.entries()) if (count === 0) ready(i, null);

  const found = new Map<number, tf.Tensor>([[y.id, dy ?? tf.ones(y.shape)]]);
  for (const { node, inputs } of backward) {
    const dys = node.outputs.map(({ id }) => found.get(id) ?? null);
    for (const { id } of node.outputs) found.delete(id);
    if (node.gradient === undefined) throw new Error(`${node.kernelName} has no gradient`);
    const compute = node.gradient(dys);
    const given = dys.filter((each) => each !== null);
    // Some gradients hand on the tensor that they were given, or one to several inputs.
    const taken = new Set([...given, ...node.saved]);
    for (const [name, x] of inputs) {
      const backprop = compute[name];
      if (backprop === undefined) throw new Error(`${node.kernelName} has no gradient of its input ${name}`);
      const dx = tf.tidy(() => {
        const own = backprop();
        return taken.has(own) ? own.clone() : own;
      });
      taken.add(dx);
      if (dx.dtype !== "float32" || String(dx.shape) !== String(x.shape))
        throw new Error(
          `${node.kernelName}: the gradient of ${name} is ${dx.dtype} [${dx.shape}], not float32 [${x.shape}]`,
        );
      const before = found.get(x.id);
      found.set(x.id, before ? tf.add(before, dx) : dx);
      if (before) tf.dispose([before, dx]);
    }
    tf.dispose([...node.saved, ...given.filter((each) => each !== dy)]);
    for (const [, { id }] of inputs) {
      const index = indices.get(id);
      if (index === undefined || --uses[index]! > 0 || !ready) continue;
      const gradient = tf.keep(found.get(id)!);
      found.delete(id);
      ready(index, gradient);
    }
  }
  return xs.map(({ id }) => found.get(id) ?? null);
}
