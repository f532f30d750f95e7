/**
 * The one place that imports TensorFlow.js, so that every file of the package works on the same engine instance.
 *
 * Under Node all `@tensorflow` packages resolve to CommonJS builds that share one tfjs-core. Its build carries neither
 * the gradients nor the chained methods (`x.add(y)`); they are registered on it here, and the backend in JavaScript, which
 * needs no start. What `console.log` and notebooks show of a tensor is put on it as well.
 */
import "./backends/register-cpu.js";
import "./gradients.js";
import "./tensor-show.js";

export * from "./core.js";
