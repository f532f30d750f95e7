/** Registers TensorFlow.js's JavaScript backend through `require`: `import` would make Node parse all of it for its names. */
import { createRequire } from "node:module";

export const { version_cpu: version } = createRequire(import.meta.url)("@tensorflow/tfjs-backend-cpu") as {
  version_cpu: string;
};
