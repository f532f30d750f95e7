/** Registers TensorFlow.js's backend in JavaScript, by `require`: an `import` would have Node read all of it for its names. */
import { createRequire } from "node:module";

export const { version_cpu: version } = createRequire(import.meta.url)("@tensorflow/tfjs-backend-cpu") as {
  version_cpu: string;
};
