/** `firstframe/video`: clips in and out. */

export type { RgbFrames, WebpOptions } from "./animated.js";
export { Clip, type Size } from "./clip.js";
export {
  countParts,
  extractFrames,
  FRAME_EXTRACTIONS,
  type FrameExtraction,
  resampleFrames,
  selectFrames,
} from "./frames.js";
export type { ClipInfo } from "./read.js";
export { ClipError, probeClip, type ReadClipOptions, readClip } from "./read.js";
export { cutStrip, filmGrid, filmStrip } from "./strip.js";
export { encodePng, encodeWebp, type WriteClipOptions, writeClip } from "./write.js";
