/** The part of TensorFlow.js's gradient tape that matters for memory: https://github.com/tensorflow/tfjs, tfjs-core/src/tape.ts. */
import * as tf from "../tf.js";

type Gradients = Record<string, () => tf.Tensor>;

interface TapeNode {
  saved: tf.Tensor[];
  gradient?: (dys: (tf.Tensor | null)[]) => Gradients;
}

interface TapeState {
  activeTape: TapeNode[] | null;
}

const state = (): TapeState => tf.engine().state as unknown as TapeState;

/**
 * A function to differentiate whose backward pass frees memory as it goes: what an operation saved, and its output's
 * gradient, as soon as the gradients of its inputs are known. TensorFlow.js keeps all of them until the end.
 *
 * @param kept the output's gradient, if it belongs to someone else.
 */
export function releasing<T>(f: () => T, kept?: tf.Tensor): () => T {
  return () => {
    const result = f();
    let release = (): void => {};
    for (const node of state().activeTape ?? []) {
      const { gradient } = node;
      if (gradient === undefined) continue;
      node.gradient = (dys) => {
        release(); // the previous operation, whose gradients have all been computed by now
        const given = dys.filter((dy) => dy !== null);
        release = () => tf.dispose([...node.saved, ...given.filter((dy) => dy !== kept)]);
        return ownTensors(gradient(dys), given);
      };
    }
    return result;
  };
}

/** Gradients that are all distinct tensors, and distinct from those that were given. */
function ownTensors(gradients: Gradients, given: readonly tf.Tensor[]): Gradients {
  const seen = new Set(given);
  return Object.fromEntries(
    Object.entries(gradients).map(([input, compute]) => [
      input,
      () => {
        const dx = compute();
        if (seen.has(dx)) return dx.clone();
        seen.add(dx);
        return dx;
      },
    ]),
  );
}

/** The engine keeps one tape; while another gradient is computed, the current one's is set aside. */
export function withOwnTape<T>(f: () => T): T {
  const outer = state().activeTape;
  try {
    return f();
  } finally {
    state().activeTape = outer;
  }
}
