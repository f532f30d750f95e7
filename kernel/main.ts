/**
 * What the kernelspec starts: `node main.js CONNECTION_FILE`.
 */
import { RemoteLanguage } from "./language/remote.js";
import { readConnectionFile } from "./protocol/connection.js";
import { Kernel } from "./server/kernel.js";
import { watchParent } from "./server/parent.js";

const [file, ...rest] = process.argv.slice(2);
if (file === undefined || rest.length > 0) {
  console.error(
    "usage: node main.js CONNECTION_FILE (Jupyter starts it so; to install it: firstframe kernel install)",
  );
  process.exit(2);
}

try {
  const cwd = process.cwd();
  const language = new RemoteLanguage(cwd);
  const kernel = new Kernel({
    connection: readConnectionFile(file),
    cwd,
    language,
    onExit: async () => {
      language.killCompiler();
      if (await language.isStuck()) process.kill(process.pid, "SIGKILL");
      process.exit(0);
    },
  });
  process.on("SIGINT", () => kernel.interrupt());
  process.on("SIGTERM", () => void kernel.shutdown());
  watchParent(() => void kernel.shutdown());
  // Whatever goes wrong in one request, the others go on.
  process.on("uncaughtException", (error) => console.error(`firstframe: ${error.stack}`));
  process.on("unhandledRejection", (error) => console.error("firstframe:", error));
  await kernel.start();
} catch (error) {
  console.error(`firstframe: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
