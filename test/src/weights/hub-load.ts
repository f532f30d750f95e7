/** Finds the files of a model, as a process of its own: `node hub-load.js ID`. Prints their folder, or the error. */
import { modelFiles, resolveModel } from "../../../src/weights/hub.js";

try {
  console.log(await resolveModel(process.argv[2]!, {}, modelFiles()));
} catch (error) {
  console.log(`${(error as Error).name}: ${(error as Error).message}`);
}
