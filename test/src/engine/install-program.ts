/** `firstframe engine install tensorflow` from wheels of a test: their pins, as JSON, are its argument. */
import { installWithProgress } from "../../../src/cli/engine.js";
import { CommandFailure } from "../../../src/cli/errors.js";
import type { Builds } from "../../../src/engine/install.js";

try {
  await installWithProgress("tensorflow", false, JSON.parse(process.argv[2]!) as Builds);
} catch (error) {
  if (!(error instanceof CommandFailure)) throw error;
  console.error(`firstframe: ${error.message}`);
  process.exitCode = 1;
}
