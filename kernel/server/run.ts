/**
 * A kernel as the whole of a process: what signals mean to it, and how the process ends with it.
 */
import { RemoteLanguage } from "../language/remote.js";
import type { ConnectionInfo } from "../protocol/connection.js";
import { Kernel } from "./kernel.js";

/** Starts the kernel of this process, in its working folder. Resolves once the sockets are bound. */
export async function runKernel(connection: ConnectionInfo): Promise<Kernel> {
  const cwd = process.cwd();
  const language = new RemoteLanguage(cwd);
  const kernel = new Kernel({
    connection,
    cwd,
    language,
    onExit: async () => {
      language.killCompiler();
      if (await language.isStuck()) process.kill(process.pid, "SIGKILL");
      process.exit();
    },
  });
  process.on("SIGINT", () => kernel.interrupt());
  process.on("SIGTERM", () => void kernel.shutdown());
  // Whatever goes wrong in one request, the others go on.
  process.on("uncaughtException", (error) => console.error(`firstframe: ${error.stack}`));
  process.on("unhandledRejection", (error) => console.error("firstframe:", error));
  try {
    await kernel.start();
  } catch (error) {
    language.killCompiler();
    // Its thread would keep the process; the caller prints the error first.
    setImmediate(() => process.exit());
    throw error;
  }
  return kernel;
}
