/** `firstframe/kernel-client`: starts a Jupyter kernel, of any language, from its kernelspec, and runs code in it. */

export type { ConnectionInfo } from "../protocol/connection.js";
export type { Header } from "../protocol/messages.js";
export * from "./client.js";
export * from "./kernelspecs.js";
export * from "./outputs.js";
export * from "./process.js";
