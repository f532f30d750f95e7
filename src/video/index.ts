/** `firstframe/video`: clips in and out. */

export type { RgbFrames, WebpOptions } from "./animated.js";
export { Clip, type Size } from "./clip.js";
export { selectFrames } from "./frames.js";
export type { ClipInfo } from "./read.js";
export { ClipError, probeClip, type ReadClipOptions, readClip } from "./read.js";
export { cutStrip, filmGrid, filmStrip } from "./strip.js";
export { encodePng, encodeWebp, type WriteClipOptions, writeClip } from "./write.js";
