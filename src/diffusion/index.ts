/** `firstframe/diffusion`: schedulers and pipelines. */
export { CogVideoXDDIMScheduler } from "./ddim.js";
export { CogVideoXDPMScheduler } from "./dpm.js";
export { dynamicGuidanceScale } from "./guidance.js";
export type { ImageInput } from "./image-processor.js";
export { CogVideoXImageToVideoPipeline, type ImageToVideoOptions } from "./image-to-video.js";
export { estimateSamplingMemory, type SamplingMemory, type SamplingMemoryQuestion } from "./memory.js";
export type { CogVideoXSchedulerConfig, NoiseSchedule } from "./noise-schedule.js";
export type {
  CogVideoXPipelineBase,
  GenerateOptions,
  LatentShape,
  LoadPipelineOptions,
  OutputType,
  PipelineComponents,
  PipelineFrames,
  StepCallback,
  StepTensors,
} from "./pipeline.js";
export type { GeneratorInput } from "./randn.js";
export type {
  CogVideoXScheduler,
  LoadSchedulerOptions,
  SchedulerStep,
  SchedulerStepOutput,
  Timesteps,
} from "./scheduler.js";
export { CogVideoXPipeline } from "./text-to-video.js";
