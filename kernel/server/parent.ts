/**
 * Ends a kernel whose client is gone. A client that is killed sends no shutdown; jupyter_client, and the client here,
 * name their process in JPY_PARENT_PID so that its kernels can see it, as ipykernel does.
 */
const intervalMs = 1000;

/** Calls `onGone` once when the process that JPY_PARENT_PID names has ended; without that variable never. */
export function watchParent(onGone: () => void, env: NodeJS.ProcessEnv = process.env): void {
  const parent = Number(env.JPY_PARENT_PID);
  if (!Number.isInteger(parent) || parent < 1) return;
  const timer = setInterval(() => {
    if (isAlive(parent)) return;
    clearInterval(timer);
    onGone();
  }, intervalMs);
  timer.unref();
}

/** Whether there is a process of that number. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // A process of another user is there, and may not be signalled.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
