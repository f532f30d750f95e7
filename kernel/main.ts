/**
 * What the kernelspec starts: `node main.js CONNECTION_FILE`. The build puts all modules that a start needs in the place of this one
 * (`.ci/bundle.mjs`), since Node takes a millisecond for each.
 */
import "./server/main.js";
