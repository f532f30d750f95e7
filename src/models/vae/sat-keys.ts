/**
 * How CogVideo's own checkpoints (SwissArmyTransformer, "SAT") name what diffusers names differently in the VAE: levels
 * are "down" and "up", residual blocks "block" ("block_1", "block_2" in the middle), and "up" counts from the pixels.
 */

/**
 * The diffusers name for a key of the original VAE.
 * @param levels how many resolutions the VAE has.
 * @returns undefined for what belongs to the training loss.
 */
export function satVaeKey(key: string, levels: number): string | undefined {
  const plain = key.replace(/^(state_dict|first_stage_model)\./, "");
  if (plain.startsWith("loss.")) return undefined;
  return plain
    .replace(/^encoder\.down\.(\d+)\./, "encoder.down_blocks.$1.")
    .replace(
      /^decoder\.up\.(\d+)\./,
      (_, level: string) => `decoder.up_blocks.${levels - 1 - Number(level)}.`,
    )
    .replace(/\.mid\.block_(\d+)\./, (_, n: string) => `.mid_block.resnets.${Number(n) - 1}.`)
    .replace(/\.block\.(\d+)\./, ".resnets.$1.")
    .replace(".downsample.", ".downsamplers.0.")
    .replace(".upsample.", ".upsamplers.0.")
    .replace(".nin_shortcut.", ".conv_shortcut.");
}
