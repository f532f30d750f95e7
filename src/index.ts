/** The package `firstframe`: everything that notebooks and programs use, by the name it has in diffusers where it has one. */
import "./display/tensor-picture.js"; // notebooks show tensors that are pictures as such

export { CogVideoXDDIMScheduler } from "./diffusion/ddim.js";
export { CogVideoXDPMScheduler } from "./diffusion/dpm.js";
export type { ImageInput } from "./diffusion/image-processor.js";
export { CogVideoXImageToVideoPipeline, type ImageToVideoOptions } from "./diffusion/image-to-video.js";
export type { CogVideoXSchedulerConfig } from "./diffusion/noise-schedule.js";
export type {
  GenerateOptions,
  LoadPipelineOptions,
  OutputType,
  PipelineComponents,
  StepTensors,
} from "./diffusion/pipeline.js";
export { CogVideoXPipeline } from "./diffusion/text-to-video.js";
export { type AnimateOptions, animate } from "./display/animate.js";
export { type ChannelsOptions, channels } from "./display/channels.js";
export { Figure, figure, type Layout, type Trace } from "./display/figure.js";
export { type CompareOptions, compare, type FramesOptions, frames, image } from "./display/frames.js";
export {
  type ControlSpec,
  type ControlValues,
  Interactive,
  interact,
  type SliderOptions,
} from "./display/interact.js";
export { type Displayable, jupyterDisplay, type MimeBundle } from "./display/mime.js";
export { Progress, type ProgressOptions, progress } from "./display/progress.js";
export { summary } from "./display/summary.js";
export { table } from "./display/table.js";
export * from "./engine/index.js";
export * as tf from "./engine/tf.js";
export { SentencePieceError } from "./models/text/sentencepiece-model.js";
export type { T5Config } from "./models/text/t5-config.js";
export { T5EncoderModel } from "./models/text/t5-encoder.js";
export { T5Tokenizer } from "./models/text/tokenizer.js";
export {
  get3dRotaryPosEmbed,
  getResizeCropRegionForGrid,
  type RotaryTables,
  samplingRotaryTables,
  trainingRotaryTables,
} from "./models/transformer/rotary-positions.js";
export {
  CogVideoXTransformer3DModel,
  type CogVideoXTransformer3DModelConfig,
  type TransformerInputs,
} from "./models/transformer/transformer.js";
export {
  AutoencoderKLCogVideoX,
  type AutoencoderKLCogVideoXConfig,
  type ForwardHook,
  type StreamOptions,
  type TilingOptions,
} from "./models/vae/autoencoder.js";
export { DiagonalGaussianDistribution } from "./models/vae/distribution.js";
export type { LoraAdapter, LoraConfig } from "./nn/lora.js";
export { type ProceduralClip, type ProceduralClipOptions, proceduralClip } from "./procedural/clip.js";
export { encodeImage } from "./recipe/conditioning.js";
export { dropDuplicatedFrames, duplicateFirstFrame } from "./recipe/first-frame.js";
export { assertFrameRule, firstFrameCopies } from "./recipe/geometry.js";
export {
  addImageNoise,
  type ImageNoiseDraws,
  imageNoiseSigma,
} from "./recipe/image-noise.js";
export {
  computeLoss,
  disposeLossInputs,
  drawLoss,
  prepareLoss,
} from "./recipe/loss.js";
export { ArgumentError, LORA_TARGET_MODULES, readArguments, type TrainArguments } from "./train/arguments.js";
export { DamagedCheckpointError, ResumeError } from "./train/checkpoint.js";
export {
  collate,
  encodeVideo,
  imageTensor,
  MemoryData,
  type TrainingData,
  type TrainingSample,
} from "./train/data.js";
export { type Bucket, DatasetError, parseBucket, readDataset } from "./train/dataset.js";
export { DivergenceError } from "./train/guard.js";
export { CachedData, LatentCache } from "./train/latent-cache.js";
export { getScheduler, type LrSchedulerName } from "./train/lr-scheduler.js";
export { firstFrameFidelity, frameDifference, psnr, psnrPerFrame, ssim } from "./train/metrics.js";
export { Adam, clipGradNorm } from "./train/optimizer.js";
export { TrainingPanel, type TrainingPanelOptions } from "./train/panel.js";
export { countTokens, estimateMemory, formatBytes, formatCount, type MemoryEstimate } from "./train/plan.js";
export type { DataFingerprint, RunFingerprint } from "./train/resume.js";
export { type RunOptions, type RunResult, runTraining } from "./train/run.js";
export { JsonlTracker, TensorBoardTracker, type Tracker } from "./train/trackers.js";
export { type StepReport, Trainer, type TrainerOptions, type TrainingResult } from "./train/trainer.js";
export { repeatFirstFrame, validate } from "./train/validation.js";
export { Clip, type Size } from "./video/clip.js";
export { selectFrames } from "./video/frames.js";
export { ClipError, probeClip, type ReadClipOptions, readClip } from "./video/read.js";
export { encodePng, encodeWebp, type WriteClipOptions, writeClip } from "./video/write.js";
export { CheckpointError } from "./weights/checkpoint.js";
export { ConfigError } from "./weights/config.js";
export { HubError, type HubOptions, type LoadModelOptions } from "./weights/hub.js";
export type { LoadLoraOptions, SaveLoraOptions } from "./weights/lora-files.js";
export * as safetensors from "./weights/safetensors.js";
export { SafetensorsError } from "./weights/safetensors.js";
