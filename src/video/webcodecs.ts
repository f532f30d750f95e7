/**
 * Runs `work` with mediabunny, which finds the WebCodecs classes among the globals. Both are loaded on first use. The
 * codecs' threads don't hold Node's event loop open, so a timer does until `work` is done.
 */
export async function withMediabunny<T>(
  work: (mediabunny: typeof import("mediabunny")) => Promise<T>,
): Promise<T> {
  const alive = setInterval(() => {}, 1000);
  try {
    await import("@napi-rs/webcodecs/polyfill");
    return await work(await import("mediabunny"));
  } finally {
    clearInterval(alive);
  }
}
