/** The package `firstframe`: everything that notebooks and programs use, under diffusers' names where these exist. */
export * from "./diffusion/index.js";
export * from "./display/index.js";
export * from "./engine/index.js";
export * as tf from "./engine/tf.js";
export { SentencePieceError } from "./models/text/sentencepiece-model.js";
export type { T5Config } from "./models/text/t5-config.js";
export type { T5Inputs, T5Output } from "./models/text/t5-encoder.js";
export { T5EncoderModel } from "./models/text/t5-encoder.js";
export type { EncodedTexts, EncodeOptions } from "./models/text/tokenizer.js";
export { T5Tokenizer } from "./models/text/tokenizer.js";
export type { CropRegion, RotaryConfig, RotaryPositions } from "./models/transformer/rotary-positions.js";
export {
  get3dRotaryPosEmbed,
  getResizeCropRegionForGrid,
  type RotaryTables,
  samplingRotaryTables,
  trainingRotaryTables,
} from "./models/transformer/rotary-positions.js";
export type { PerSample, TransformerHook } from "./models/transformer/transformer.js";
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
export type { ForwardContext } from "./nn/forward-context.js";
export type { Linear, LinearOptions } from "./nn/linear.js";
export type { AdapterWeights, LoraAdapter, LoraConfig } from "./nn/lora.js";
export type { LoraLayer, LoraLayerOptions } from "./nn/lora-layer.js";
export type {
  Initializer,
  LoadOptions,
  Model,
  OffloadMode,
  Parameter,
  ParameterOptions,
  ParameterScope,
  ParameterSource,
  SaveOptions,
} from "./nn/module.js";
export type { ModuleInfo } from "./nn/module-tree.js";
export { type ProceduralClip, type ProceduralClipOptions, proceduralClip } from "./procedural/clip.js";
export { DrawnClips, type DrawnClipsOptions } from "./procedural/drawn-clips.js";
export {
  type EvaluateOptions,
  type Evaluation,
  type EvaluationReport,
  evaluateMotion,
  type SamplingSettings,
  type Yardstick,
} from "./procedural/evaluate.js";
export type { MotionScore, MotionTime } from "./procedural/motion.js";
export type { SpriteTruth } from "./procedural/picture.js";
export type { Background, Scene, Sprite, WorldName } from "./procedural/scene.js";
export type { ImageEncoder, PosteriorDraw } from "./recipe/conditioning.js";
export { encodeImage, placeImageLatent } from "./recipe/conditioning.js";
export type {
  DuplicatedFrames,
  DuplicateFirstFrameOptions,
  FrameAxis,
  PadFramesOptions,
} from "./recipe/first-frame.js";
export { dropDuplicatedFrames, duplicateFirstFrame, padFrames } from "./recipe/first-frame.js";
export type { CompressionRatios, LatentSize, PatchSizes } from "./recipe/geometry.js";
export { assertFrameRule, firstFrameCopies } from "./recipe/geometry.js";
export {
  addImageNoise,
  type ImageNoiseDraws,
  imageNoiseSigma,
  imageNoiseSigmas,
} from "./recipe/image-noise.js";
export type {
  BatchShare,
  Denoiser,
  DiffusionInputs,
  DrawOptions,
  LossDraws,
  LossInputs,
  LossModels,
  LossOptions,
  LossTerms,
  NoiseProcess,
  TrainingBatch,
} from "./recipe/loss.js";
export {
  computeLoss,
  disposeLossInputs,
  drawLoss,
  dropCaptions,
  prepareLoss,
  prepareTextToVideoLoss,
} from "./recipe/loss.js";
export type { ImageNoiseDistribution, ImagePlace, Padding } from "./recipe/rules.js";
export * from "./train/index.js";
export * from "./video/index.js";
export type { SaveWeightsOptions, WeightsLocation } from "./weights/checkpoint.js";
export { CheckpointError } from "./weights/checkpoint.js";
export type { ConfigOf, ConfigOrigin, Field, Fields as ConfigFields } from "./weights/config.js";
export { ConfigError } from "./weights/config.js";
export type { Dtype, FloatDtype, ModelDtype, Quantization, TensorData } from "./weights/dtype.js";
export {
  HubError,
  type HubOptions,
  type LoadModelOptions,
  type LoadQuantizedOptions,
} from "./weights/hub.js";
export type { LoadLoraOptions, SaveLoraOptions } from "./weights/lora-files.js";
export type { LoraPattern } from "./weights/lora-settings.js";
export * as safetensors from "./weights/safetensors.js";
export { SafetensorsError } from "./weights/safetensors.js";
