/**
 * Gradients and chained methods (`x.add(y)`) of TensorFlow.js, which tfjs-core's build for Node leaves out. Its union
 * package has them, along with 200 MB that nothing here uses. `.ci/bundle.mjs` makes the module from tfjs-core's own files.
 */
import "@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js";
