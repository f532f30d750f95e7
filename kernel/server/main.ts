/**
 * The kernel as a program; see main.ts above.
 */
import { readConnectionFile } from "../protocol/connection.js";
import { watchParent } from "./parent.js";
import { runKernel } from "./run.js";

const [file, ...rest] = process.argv.slice(2);
if (file === undefined || rest.length > 0) {
  console.error(
    "usage: node main.js CONNECTION_FILE (Jupyter starts it so; to install it: firstframe kernel install)",
  );
  process.exit(2);
}

try {
  const kernel = await runKernel(readConnectionFile(file));
  watchParent(() => void kernel.shutdown());
} catch (error) {
  console.error(`firstframe: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
