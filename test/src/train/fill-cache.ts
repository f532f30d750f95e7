/** A process that fills a latent cache, to be killed: `node fill-cache.js DATA_ROOT CACHE_DIR`. */
import { useEngine } from "../../../src/engine/index.js";
import { parseBucket, readDataset } from "../../../src/train/dataset.js";
import { LatentCache } from "../../../src/train/latent-cache.js";
import { captionEmbedding, tinyModels } from "./tiny.js";

const [dataRoot, cacheDir] = process.argv.slice(2) as [string, string];
await useEngine();
const { vae } = tinyModels();
const cache = await LatentCache.open({
  cacheDir,
  modelName: "tiny",
  vae,
  promptEncoder: { id: "words", encode: async (prompt) => captionEmbedding(prompt) },
});
process.stdout.write("encoding\n");
for (const entry of await readDataset({ dataRoot })) await cache.ensure(entry, parseBucket("9x32x48"));
