import { EngineError } from "../engine/errors.js";

/** Video codecs are an optional dependency: they take 70 MB, which people who only use pictures don't need. */
async function loadCodecs(): Promise<void> {
  try {
    await import("@napi-rs/webcodecs/polyfill");
  } catch (error) {
    if (!isMissing(error)) throw error;
    throw new EngineError("video files (MP4, MOV, WebM, Matroska) need codecs, which are not installed", {
      hint: "run `npm install @napi-rs/webcodecs@1.3.1`",
    });
  }
}

function isMissing(error: unknown): boolean {
  const { code, message = "" } = error as NodeJS.ErrnoException;
  return code === "ERR_MODULE_NOT_FOUND" && message.includes("@napi-rs/webcodecs");
}

/**
 * Runs `work` with mediabunny, which finds the WebCodecs classes among the globals. Both are loaded on first use. The
 * codecs' threads don't hold Node's event loop open, so a timer does until `work` is done.
 */
export async function withMediabunny<T>(
  work: (mediabunny: typeof import("#mediabunny")) => Promise<T>,
): Promise<T> {
  const alive = setInterval(() => {}, 1000);
  try {
    await loadCodecs();
    return await work(await import("#mediabunny"));
  } finally {
    clearInterval(alive);
  }
}
