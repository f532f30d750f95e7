import { Worker } from "node:worker_threads";
import { InputError } from "../../engine/errors.js";
import type { RenderReply, RenderRequest, StaticPicture } from "./worker.js";

/** plotly.js and its window take about 250 MB: the thread ends when nobody has drawn for this long. */
const IDLE_MS = 60_000;

/** A figure is drawn in well under a second; a thread that is silent for this long is stuck. */
const STUCK_MS = 120_000;

interface Pending {
  resolve(reply: RenderReply): void;
  reject(error: Error): void;
  readonly timer: NodeJS.Timeout;
}

let worker: Worker | undefined;
let idle: NodeJS.Timeout | undefined;
let nextId = 0;
const pending = new Map<number, Pending>();

/**
 * Draws a figure in the background.
 *
 * @returns the picture, or why only a browser can draw this figure
 * @throws InputError if the spec is wrong: each wrong attribute with what was expected
 */
export async function renderFigure(
  request: Omit<RenderRequest, "id">,
): Promise<StaticPicture | { readonly undrawable: string }> {
  const reply = await ask({ ...request, id: nextId++ });
  if (reply.kind === "error") throw new InputError(`figure: ${reply.message}`);
  return reply.kind === "undrawable" ? { undrawable: reply.reason } : reply;
}

function ask(request: RenderRequest): Promise<RenderReply> {
  clearTimeout(idle);
  worker ??= start();
  worker.ref();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(new Error("figure: drawing took too long")), STUCK_MS);
    pending.set(request.id, { resolve, reject, timer });
    worker!.postMessage(request);
  });
}

function start(): Worker {
  // Only its own flags: the main thread's inspector or loaders are not meant for plotly.
  const started = new Worker(new URL("./worker.js", import.meta.url), { execArgv: [] });
  started.on("message", (reply: RenderReply) => {
    const waiting = pending.get(reply.id);
    pending.delete(reply.id);
    clearTimeout(waiting?.timer);
    waiting?.resolve(reply);
    if (pending.size === 0) rest(started);
  });
  started.on("error", (error) => {
    if (worker === started) fail(error);
  });
  started.on("exit", () => {
    if (worker === started) fail(new Error("figure: the drawing thread ended"));
  });
  return started;
}

/** Lets the process end, and frees the thread's memory after a while. */
function rest(resting: Worker): void {
  resting.unref();
  idle = setTimeout(() => {
    if (worker !== resting || pending.size > 0) return;
    worker = undefined;
    void resting.terminate();
  }, IDLE_MS).unref();
}

function fail(error: Error): void {
  const broken = worker;
  worker = undefined;
  for (const { reject, timer } of pending.values()) {
    clearTimeout(timer);
    reject(error);
  }
  pending.clear();
  void broken?.terminate();
}
