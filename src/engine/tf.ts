/**
 * The only file that imports TensorFlow.js, so that the whole package works on one engine instance.
 *
 * Under Node all `@tensorflow` packages resolve to CommonJS builds that share one tfjs-core. Its build carries neither
 * the gradients nor the chained methods (`x.add(y)`); these are registered here, as are the JavaScript backend, which
 * needs no start, and what `console.log` and notebooks show of a tensor.
 */
import "./backends/register-cpu.js";
import "./gradients.js";
import "./tensor-show.js";

export * from "./core.js";
