/** `firstframe/train`: data sets, training, its trackers and measures. */

export type {
  ArgumentName,
  ArgumentOptions,
  CamelCase,
  CompleteOptions,
  Preset,
  Spelling,
  TrainerArgument,
  ValueOf as ArgumentValue,
} from "./arguments.js";
export { ArgumentError, LORA_TARGET_MODULES, readArguments, type TrainArguments } from "./arguments.js";
export type { CheckpointPlace } from "./checkpoint.js";
export { DamagedCheckpointError, ResumeError } from "./checkpoint.js";
export {
  collate,
  encodeVideo,
  imageTensor,
  MemoryData,
  type TrainingData,
  type TrainingSample,
} from "./data.js";
export type { DatasetEntry, DatasetLocation, PreprocessOptions } from "./dataset.js";
export { type Bucket, DatasetError, parseBucket, readDataset } from "./dataset.js";
export { type Cluster, findCluster } from "./distributed/cluster.js";
export { RankError } from "./distributed/errors.js";
export { type Gathered, Group, type GroupOptions, type RankCosts, type Summed } from "./distributed/group.js";
export { DivergenceError } from "./guard.js";
export type {
  CachedEntry,
  EncodeReport,
  LatentCacheOptions,
  PromptCacheOptions,
  PromptEncoder,
} from "./latent-cache.js";
export { CachedData, LatentCache, PromptCache } from "./latent-cache.js";
export type { LrSchedulerOptions } from "./lr-scheduler.js";
export { getScheduler, type LrSchedulerName } from "./lr-scheduler.js";
export { firstFrameFidelity, frameDifference, psnr, psnrPerFrame, ssim } from "./metrics.js";
export type { AdamOptions, ClippedGradients, Optimizer } from "./optimizer.js";
export { Adam, clipGradNorm } from "./optimizer.js";
export { TrainingPanel, type TrainingPanelOptions } from "./panel.js";
export type { MemoryQuestion } from "./plan.js";
export { countTokens, estimateMemory, formatBytes, formatCount, type MemoryEstimate } from "./plan.js";
export type { DataFingerprint, RunFingerprint } from "./resume.js";
export { type RunOptions, type RunResult, runTraining } from "./run.js";
export { JsonlTracker, TensorBoardTracker, type Tracker } from "./trackers.js";
export type { Options as ResolvedTrainerOptions, TrainerRun, TrainingModels } from "./trainer.js";
export { type StepReport, Trainer, type TrainerOptions, type TrainingResult } from "./trainer.js";
export type {
  GeneratedSample,
  ValidationMeasure,
  ValidationOptions,
  ValidationResult,
  ValidationSample,
} from "./validation.js";
export { repeatFirstFrame, validate } from "./validation.js";
