/**
 * The one place that imports TensorFlow.js, so that every file of the package works on the same engine instance.
 *
 * Under Node all `@tensorflow` packages resolve to CommonJS builds that share one tfjs-core. Its build carries neither
 * the gradients nor the chained methods (`x.add(y)`); the union package registers both on it. What `console.log` and
 * notebooks show of a tensor is put on it as well.
 */
import "@tensorflow/tfjs";
import "./tensor-show.js";

export * from "@tensorflow/tfjs-core";
