/** `firstframe/display`: what notebooks show. */
import "./tensor-picture.js"; // tensors that are pictures are shown as such

export type { Animation } from "./animate.js";
export { type AnimateOptions, animate } from "./animate.js";
export { type ChannelsOptions, channels } from "./channels.js";
export {
  type BarsOptions,
  bars,
  type ChartOptions,
  type Curve,
  type HeatmapOptions,
  heatmap,
  INTERVAL_COLORS,
  type IntervalRow,
  type IntervalsOptions,
  intervals,
  type LinesOptions,
  lines,
  SEQUENCE_COLORS,
  type SequencePictureOptions,
  type SequenceRow,
  sequencePicture,
} from "./charts.js";
export type { Spec as FigureSpec } from "./figure.js";
export { Figure, figure, type Layout, type Trace } from "./figure.js";
export { type CompareOptions, compare, type FramesOptions, frames, image } from "./frames.js";
export type { ControlValue } from "./interact.js";
export {
  type ControlSpec,
  type ControlValues,
  Interactive,
  interact,
  type SliderOptions,
} from "./interact.js";
export { type Displayable, jupyterDisplay, type MimeBundle } from "./mime.js";
export type { ClipLike, PictureSource, RangeOption } from "./pixels.js";
export type { TrackedAsyncIterable, TrackedIterable } from "./progress.js";
export { Progress, type ProgressOptions, progress } from "./progress.js";
export type { Picture, PlacedPicture, PlacedText, Sheet } from "./sheet.js";
export type { TensorStatistics, TensorSummary } from "./summary.js";
export { summary } from "./summary.js";
export type { Cell as TableCell, Table, TableOptions } from "./table.js";
export { table } from "./table.js";
export { AnyWidget, type AnyWidgetContext, type AnyWidgetOptions, anywidget } from "./widgets/any-widget.js";
