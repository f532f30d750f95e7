/** tfjs-core, by `require`; `.ci/bundle.mjs` makes the module. */
export * from "@tensorflow/tfjs-core";
