/**
 * A model's parameters by their names in diffusers' state dict, and models made of them.
 *
 * A module's constructor declares its parameters in a scope ("encoder.conv_in.conv"); they get their values afterwards,
 * from a file or from a generator. So a model knows what it expects before anything is read, and tensors go from disk to
 * the engine one at a time, in the layout that suits the engine.
 */

import { InputError } from "../engine/errors.js";
import { convolvesHeld } from "../engine/ops/conv/held-conv.js";
import {
  canHold,
  type HeldKernel,
  type HeldWeight,
  holdFileKernel,
  holdKernel,
  holdWeight,
  releaseKernel,
  releaseWeight,
  roundToBfloat16,
  widenBfloat16,
} from "../engine/ops/linear/held.js";
import type { Weight } from "../engine/ops/linear/linear.js";
import { withPrecision } from "../engine/precision.js";
import type { RandomGenerator } from "../engine/random.js";
import { fromBfloat16, toBfloat16 } from "../engine/rounding.js";
import { grouped, showAs } from "../engine/shown.js";
import { textOfTensor } from "../engine/tensor-show.js";
import * as tf from "../engine/tf.js";
import {
  CheckpointError,
  makeFolder,
  openWeights,
  type SaveWeightsOptions,
  saveWeights,
  type WeightSource,
  type WeightsLocation,
} from "../weights/checkpoint.js";
import { DEQUANTIZE } from "../weights/config.js";
import {
  FLOAT_DTYPES,
  type FloatDtype,
  MODEL_DTYPES,
  type ModelDtype,
  type TensorData,
  toFloat32,
} from "../weights/dtype.js";
import type { DeferredTensor } from "../weights/safetensors.js";
import { type ModuleInfo, moduleTree } from "./module-tree.js";

/** Fills in a new parameter's values, in the file's layout. */
export type Initializer = (values: Float32Array, generator: RandomGenerator) => void;

export const zeros: Initializer = () => {};

export const ones: Initializer = (values) => {
  values.fill(1);
};

/** Uniform in [-bound, bound). */
export const uniform =
  (bound: number): Initializer =>
  (values, generator) => {
    for (let i = 0; i < values.length; i++) values[i] = generator.uniform(-bound, bound);
  };

export const normal =
  (std: number): Initializer =>
  (values, generator) => {
    for (let i = 0; i < values.length; i++) values[i] = generator.normal(0, std);
  };

/**
 * PyTorch's default for weights and biases of linear and convolution layers: uniform within 1 / sqrt(fan in).
 * @param fanIn inputs that one output sees: input channels times kernel size.
 */
export const torchDefault = (fanIn: number): Initializer => uniform(1 / Math.sqrt(fanIn));

export interface ParameterOptions {
  readonly init: Initializer;
  /** The order of the file's axes in memory, as for `tf.transpose`; default: as in the file. */
  readonly permutation?: readonly number[];
  /** False for what PyTorch calls a buffer: stored, not trained. Default true. */
  readonly trainable?: boolean;
  /**
   * How a bfloat16 model holds it in half the memory: as a linear layer's weight, [out, ...]; as a convolution's kernel, which
   * in memory is [(time,) height, width, in, out]; or as numbers that are widened to float32 before each use. Default: as
   * float32, rounded.
   */
  readonly hold?: "weight" | "kernel" | "numbers";
}

/** A named tensor of a model. Its shape is the file's (PyTorch's); in memory its axes may have another order. */
export class Parameter {
  readonly permutation: readonly number[] | undefined;
  readonly #init: Initializer;
  readonly #buffer: boolean;
  readonly #hold: ParameterOptions["hold"];
  #trainable: boolean;
  #dtype: ModelDtype = "float32";
  /** One of these four, if there are values. */
  #value: tf.Variable | undefined;
  #weight: HeldWeight | undefined;
  #kernel: HeldKernel | undefined;
  #numbers: tf.Tensor | undefined;

  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    { init, permutation, trainable = true, hold }: ParameterOptions,
  ) {
    this.#hold = hold;
    this.permutation = permutation;
    this.#buffer = !trainable;
    this.#trainable = trainable;
    this.#init = init;
  }

  /** Whether training changes the values: PyTorch's `requires_grad`. A buffer stays false. */
  get trainable(): boolean {
    return this.#trainable;
  }

  set trainable(trainable: boolean) {
    this.#trainable = trainable && !this.#buffer;
    if (this.#trainable) this.dtype = "float32";
    if (this.#value) this.#value.trainable = this.#trainable;
  }

  /** What its values are rounded to. A trained parameter is float32, and one of bfloat16 is frozen. */
  get dtype(): ModelDtype {
    return this.#dtype;
  }

  set dtype(dtype: ModelDtype) {
    this.#dtype = dtype;
    if (dtype === "bfloat16") {
      this.#trainable = false;
      if (this.#value) this.#keep(this.#value.clone());
    } else if (this.#isHeld) {
      this.#keep(this.#widened());
    }
  }

  get #isHeld(): boolean {
    return (this.#weight ?? this.#kernel ?? this.#numbers) !== undefined;
  }

  /** A convolution's kernel, if it is held. */
  get heldKernel(): HeldKernel | undefined {
    return this.#kernel;
  }

  /** For a linear layer: the values in memory's layout, or as they are held. */
  get weight(): Weight {
    return this.#weight ?? this.value;
  }

  /**
   * The values, in memory's layout.
   * @throws Error if the model has been neither loaded nor initialised, or is disposed.
   * @throws InputError if they are held as bfloat16.
   */
  get value(): tf.Variable {
    if (this.#isHeld)
      throw new InputError(`parameter ${this.name} is held as bfloat16`, {
        hint: "read it by use() or values(), or load its model in float32",
      });
    if (!this.#value)
      throw new InputError(`parameter ${this.name} has no values`, {
        hint: "load or initialise its model first",
      });
    return this.#value;
  }

  /** Whether it has been loaded or initialised, and is not disposed. */
  get hasValues(): boolean {
    return this.#value !== undefined || this.#isHeld;
  }

  /** Calls `work` with the values as float32, in memory's layout, however they are held. They are gone when it has ended. */
  use<T>(work: (value: tf.Tensor) => T): T {
    if (!this.#isHeld) return work(this.value);
    const wide = this.#widened();
    try {
      return work(wide);
    } finally {
      wide.dispose();
    }
  }

  /** Rows of a matrix, as float32. The caller disposes them. */
  gather(rows: tf.Tensor1D): tf.Tensor2D {
    const numbers = this.#numbers;
    if (!numbers) return this.use((value) => tf.gather(value as tf.Tensor2D, rows));
    return tf.tidy(() => widenBfloat16(tf.gather(numbers, rows)) as tf.Tensor2D);
  }

  get size(): number {
    return this.shape.reduce((product, n) => product * n, 1);
  }

  /** Sets the values from the file's layout. The array must not change afterwards, since an engine may still read it. */
  set(values: Float32Array): void {
    if (values.length !== this.size)
      throw new InputError(
        `parameter ${this.name}: [${this.shape}] has ${this.size} values, found ${values.length}`,
      );
    const { permutation } = this;
    if (this.#holdsAs === "weight") {
      // As in the file: what holds it puts it into order.
      const weight = tf.tensor2d(values, [this.shape[0]!, this.size / this.shape[0]!]);
      this.#keepWeight(holdWeight(weight));
      weight.dispose();
      return;
    }
    if (this.#holdsAs === "kernel") {
      this.#keepKernel(holdFileKernel(values, this.shape));
      return;
    }
    this.#keep(
      permutation
        ? tf.tensor(permute(values, this.shape, permutation), this.#memoryShape)
        : tf.tensor(values, this.#memoryShape),
    );
  }

  /** Sets the values from memory's layout. */
  assign(values: tf.Tensor): void {
    this.#keep(values.clone());
  }

  get #memoryShape(): number[] {
    const { permutation, shape } = this;
    return permutation ? permutation.map((axis) => shape[axis]!) : [...shape];
  }

  get #holdsAs(): ParameterOptions["hold"] {
    let wanted = this.#dtype === "bfloat16" && canHold() ? this.#hold : undefined;
    if (wanted === "kernel" && !convolvesHeld(this.#memoryShape.at(-2)!)) wanted = "numbers";
    // Two numbers lie in one of TensorFlow.js's.
    return wanted === "numbers" && this.#memoryShape.at(-1)! % 2 !== 0 ? undefined : wanted;
  }

  /** Takes over values in memory's layout, and disposes what was there before. */
  #keep(values: tf.Tensor): void {
    const how = this.#holdsAs;
    if (how === "weight") {
      const held = tf.tidy(() =>
        holdWeight(tf.reshape(this.toFileLayout(values), [this.shape[0]!, this.size / this.shape[0]!])),
      );
      this.#keepWeight(held);
    } else if (how === "kernel") {
      const size = this.#memoryShape;
      const shape = [...(size.length < 5 ? [1] : []), ...size] as [number, number, number, number, number];
      const kernel = tf.reshape<tf.Rank.R5>(values, shape);
      const held = holdKernel(kernel);
      kernel.dispose();
      this.#keepKernel(held);
    } else if (how === "numbers") {
      const numbers = tf.keep(roundToBfloat16(values));
      this.dispose();
      this.#numbers = numbers;
    } else {
      const kept = this.#dtype === "bfloat16" ? rounded(values) : values;
      if (this.#value) this.#value.assign(kept);
      else {
        const value = tf.variable(kept, this.trainable);
        this.dispose();
        this.#value = value;
      }
      if (kept !== values) kept.dispose();
    }
    values.dispose();
  }

  #keepWeight(weight: HeldWeight): void {
    this.dispose();
    tf.keep(weight.held); // as variables are, whatever tidies around this
    this.#weight = weight;
  }

  #keepKernel(kernel: HeldKernel): void {
    this.dispose();
    tf.keep(kernel.held);
    this.#kernel = kernel;
  }

  /** The held values as float32, in memory's layout. */
  #widened(): tf.Tensor {
    const [weight, kernel] = [this.#weight, this.#kernel];
    if (kernel) return tf.tidy(() => tf.reshape(releaseKernel(kernel), this.#memoryShape));
    if (!weight) return widenBfloat16(this.#numbers!);
    return tf.tidy(() => this.toMemoryLayout(tf.reshape(releaseWeight(weight), [...this.shape])));
  }

  /** Draws new values. */
  initialize(generator: RandomGenerator): void {
    const values = new Float32Array(this.size);
    this.#init(values, generator);
    this.set(values);
  }

  /** A tensor of memory's layout (this parameter's gradient, say) in the file's. The caller disposes it. */
  toFileLayout(tensor: tf.Tensor): tf.Tensor {
    if (!this.permutation) return tensor.clone();
    const inverse: number[] = [];
    for (const [position, axis] of this.permutation.entries()) inverse[axis] = position;
    return tf.transpose(tensor, inverse);
  }

  /** A tensor of the file's layout in memory's. The caller disposes it. */
  toMemoryLayout(tensor: tf.Tensor): tf.Tensor {
    return this.permutation ? tf.transpose(tensor, [...this.permutation]) : tensor.clone();
  }

  /** The values in the file's layout. */
  async values(): Promise<Float32Array> {
    const tensor = this.use((value) => this.toFileLayout(value));
    try {
      return (await tensor.data()) as Float32Array;
    } finally {
      tensor.dispose();
    }
  }

  dispose(): void {
    this.#value?.dispose();
    this.#weight?.held.dispose();
    this.#kernel?.held.dispose();
    this.#numbers?.dispose();
    this.#value = this.#weight = this.#kernel = this.#numbers = undefined;
  }

  static {
    const line = ({ name, shape }: Parameter) => `Parameter ${name} [${shape.join(", ")}]`;
    showAs<Parameter>(Parameter, {
      line,
      text: (parameter) => {
        if (!parameter.hasValues) return `${line(parameter)} without values`;
        const { shape, trainable: requiresGrad } = parameter;
        const view = (x: tf.Tensor) => parameter.toFileLayout(x);
        const text = parameter.use((value) => textOfTensor(value, { shape, view, requiresGrad }));
        return `Parameter containing:\n${text}`;
      },
    });
  }
}

/** Float32 values, each rounded to bfloat16. */
function rounded(values: tf.Tensor): tf.Tensor {
  return tf.tensor(fromBfloat16(toBfloat16(values.dataSync() as Float32Array)), values.shape);
}

/** Where a module declares its parameters; `child` names a submodule, as attributes and list indices do in PyTorch. */
export class ParameterScope {
  readonly #all: Map<string, Parameter>;
  readonly #modules: Map<string, ModuleInfo>;

  constructor(
    readonly prefix = "",
    all = new Map<string, Parameter>(),
    modules = new Map<string, ModuleInfo>(),
  ) {
    this.#all = all;
    this.#modules = modules;
  }

  child(name: string | number): ParameterScope {
    return new ParameterScope(`${this.prefix}${name}.`, this.#all, this.#modules);
  }

  /**
   * Names the class of this scope's module, as diffusers or PyTorch do, for the text that shows the model.
   * @param details more to say about it whenever it is shown
   */
  module(kind: string, details?: ModuleInfo["details"]): this {
    this.#modules.set(this.prefix.slice(0, -1), { kind, details });
    return this;
  }

  /** Declares a parameter by its last name and its shape in files. */
  parameter(name: string, shape: readonly number[], options: ParameterOptions): Parameter {
    const parameter = new Parameter(this.prefix + name, shape, options);
    if (this.#all.has(parameter.name)) throw new Error(`parameter ${parameter.name} is declared twice`);
    this.#all.set(parameter.name, parameter);
    return parameter;
  }

  /** Every parameter declared so far in the whole model, by full name. */
  get all(): ReadonlyMap<string, Parameter> {
    return this.#all;
  }

  /** The modules of the whole model that named their class, by full name. */
  get modules(): ReadonlyMap<string, ModuleInfo> {
    return this.#modules;
  }
}

export interface LoadOptions {
  /** The parameter's name for a name in the file, or undefined for a tensor to leave out. Default: the same. */
  readonly rename?: (key: string) => string | undefined;
  /** As of {@link LoadModelOptions}. Default: as the model is, at first float32. */
  readonly dtype?: ModelDtype | undefined;
}

export interface SaveOptions extends SaveWeightsOptions {
  /** Number format of the weights in the files. Default float32. */
  readonly dtype?: FloatDtype;
  /** What is written for a parameter, in the file's layout, as float32 or in the format. Default: its values. */
  readonly values?: (parameter: Parameter) => Promise<TensorData>;
}

/** What all models share: their parameters by name, loading, saving, disposal. */
export abstract class Model {
  readonly #root = new ParameterScope();
  readonly #weightsName: string | undefined;
  #dtype: ModelDtype = "float32";

  /** @param weightsName the weight files' name without extension; default: diffusers' "diffusion_pytorch_model". */
  protected constructor(weightsName?: string) {
    this.#weightsName = weightsName;
  }

  /** Where the subclass's modules declare their parameters. */
  protected get scope(): ParameterScope {
    return this.#root;
  }

  /** The parameters by their names in diffusers' state dict, in its order. */
  get parameters(): ReadonlyMap<string, Parameter> {
    return this.#root.all;
  }

  /** @throws InputError when the model has no parameter of this name. */
  parameter(name: string): Parameter {
    const parameter = this.parameters.get(name);
    if (!parameter) throw new InputError(`no parameter ${name}`);
    return parameter;
  }

  /** How many numbers the model holds. */
  numParameters(): number {
    let total = 0;
    for (const parameter of this.parameters.values()) total += parameter.size;
    return total;
  }

  /** The parameters an optimiser trains. */
  protected trainableParameters(): Parameter[] {
    return [...this.parameters.values()].filter((parameter) => parameter.trainable);
  }

  /** The variables an optimiser trains. */
  trainableVariables(): tf.Variable[] {
    return this.trainableParameters().map(({ value }) => value);
  }

  /** What its weights are rounded to, and the factors of its products with them. */
  get dtype(): ModelDtype {
    return this.#dtype;
  }

  /** Runs what the model computes, in its precision. */
  protected compute<T>(run: () => T): T {
    return this.#dtype === "bfloat16" ? withPrecision("bfloat16", run) : run();
  }

  /**
   * Rounds the weights to bfloat16 and holds them so, which freezes them; or widens them to float32.
   * @throws InputError for another dtype.
   */
  to({ dtype }: { readonly dtype: ModelDtype }): this {
    if (!MODEL_DTYPES.includes(dtype)) {
      throw new InputError(`dtype: expected ${MODEL_DTYPES.join(" or ")}, found ${JSON.stringify(dtype)}`);
    }
    this.#dtype = dtype;
    for (const parameter of this.parameters.values()) parameter.dtype = dtype;
    return this;
  }

  /**
   * Freezes all parameters (false), or lets them train again (true), as PyTorch's `requires_grad_`. What trains is float32.
   */
  requiresGrad(trainable: boolean): void {
    if (trainable) this.#dtype = "float32";
    for (const parameter of this.parameters.values()) parameter.trainable = trainable;
  }

  /** Draws all values by PyTorch's defaults. The same seed gives the same model on every machine. */
  initialize(generator: RandomGenerator): void {
    for (const parameter of this.parameters.values()) parameter.initialize(generator);
  }

  /**
   * Reads all values from a folder or a safetensors file, one tensor at a time, so that a model is never there twice.
   * @throws CheckpointError listing every missing, unexpected and mismatched tensor, or naming the tensor that is not finite.
   */
  async loadWeights(path: string, options: LoadOptions & WeightsLocation = {}): Promise<void> {
    const { dtype } = options;
    if (dtype !== undefined) this.to({ dtype });
    const source = await openWeights(path, { weightsName: this.#weightsName, ...options });
    try {
      await loadParameters(this.parameters, source, options);
    } finally {
      await source.close();
    }
  }

  /** Writes the weights into a folder, which is created if need be. */
  async saveWeights(
    folder: string,
    { dtype = "float32", values = (parameter) => parameter.values(), ...options }: SaveOptions = {},
  ): Promise<void> {
    await makeFolder(folder);
    const stored = FLOAT_DTYPES[dtype];
    if (!stored) throw new InputError(`dtype: expected float32, float16 or bfloat16, found ${dtype}`);
    const tensors = [...this.parameters].map(([name, parameter]): [string, DeferredTensor] => [
      name,
      { dtype: stored, shape: parameter.shape, load: () => values(parameter) },
    ]);
    await saveWeights(folder, tensors, { weightsName: this.#weightsName, ...options });
  }

  /** Frees the memory of all weights. */
  dispose(): void {
    for (const parameter of this.parameters.values()) parameter.dispose();
  }

  static {
    const counts = (model: Model) => {
      const trainable = model.trainableParameters().reduce((sum, { size }) => sum + size, 0);
      const empty = [...model.parameters.values()].some(({ hasValues }) => !hasValues);
      return `${grouped(model.numParameters())} parameters${empty ? " without values" : `, ${grouped(trainable)} trainable`}`;
    };
    showAs<Model>(Model, {
      line: (model) => `${model.constructor.name}, ${counts(model)}`,
      text: (model) => {
        const { all, modules } = model.#root;
        return moduleTree(model.constructor.name, all, modules, counts(model));
      },
    });
  }
}

/**
 * Gives parameters their values from a source, after all names, shapes and formats have been compared.
 * @throws CheckpointError as {@link Model.loadWeights} does.
 */
export async function loadParameters(
  parameters: ReadonlyMap<string, Parameter>,
  source: WeightSource,
  { rename = (key) => key }: LoadOptions = {},
): Promise<void> {
  const keyOf = new Map<string, string>();
  const unexpected: string[] = [];
  const mismatched: string[] = [];
  for (const key of source.keys()) {
    const name = rename(key);
    if (name === undefined) continue;
    const parameter = parameters.get(name);
    if (!parameter) {
      unexpected.push(key);
      continue;
    }
    keyOf.set(name, key);
    const { dtype, shape } = source.info(key);
    if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16" && dtype !== "F64")
      mismatched.push(`${key}: expected a float format, found ${dtype}`);
    else if (String(shape) !== String(parameter.shape))
      mismatched.push(`${key}: expected shape [${parameter.shape}], found [${shape}]`);
  }
  const missing = [...parameters.keys()].filter((name) => !keyOf.has(name));
  const problems = [
    listing("missing", missing),
    listing("unexpected", unexpected),
    listing("mismatched", mismatched),
  ].filter((problem) => problem !== "");
  if (problems.length > 0) {
    const quantised = quantisedKey(source);
    if (quantised !== undefined)
      throw new CheckpointError(`its weights are quantised (${quantised}), which is not supported`, {
        file: source.path,
        hint: DEQUANTIZE,
      });
    throw new CheckpointError(`the weights do not fit the model.${problems.join("")}`, { file: source.path });
  }

  // What only passes through is read into the same memory every time, instead of leaving garbage to collect.
  const [read, widened] = [reusedBuffer(), reusedBuffer()];
  for (const [name, parameter] of parameters) {
    const key = keyOf.get(name)!;
    const inPlace = source.info(key).dtype === "F32";
    const { dtype, data } = await source.getData(key, inPlace && !parameter.permutation ? undefined : read);
    const values =
      inPlace || !parameter.permutation
        ? toFloat32(dtype, data)
        : toFloat32(dtype, data, new Float32Array(widened(4 * data.length), 0, data.length));
    const bad = indexOfNonFinite(values);
    if (bad >= 0)
      throw new CheckpointError(`"${key}" holds ${values[bad]} at index ${bad}`, { file: source.path });
    parameter.set(values);
  }
}

/** What bitsandbytes, GPTQ, AWQ, quanto, torchao and writers of 8-bit floats keep beside a weight. */
const QUANTISED =
  /\.(?:absmax|quant_map|nested_absmax|quant_state\..+|SCB|qweight|qzeros|g_idx|weight_scale|scale_weight|input_scale|weight\._data|weight\._scale)$/;

/** A key that shows that weights are not the numbers themselves, with its format; undefined if none does. */
function quantisedKey(source: WeightSource): string | undefined {
  const keys = source.keys();
  const key =
    keys.find((key) => QUANTISED.test(key)) ??
    keys.find(
      (key) => key.endsWith("weight") && ["U8", "I8", "F8_E4M3", "F8_E5M2"].includes(source.info(key).dtype),
    );
  return key === undefined ? undefined : `${key}: ${source.info(key).dtype}`;
}

function reusedBuffer(): (byteLength: number) => ArrayBuffer {
  let buffer = new ArrayBuffer(0);
  return (byteLength) => {
    if (buffer.byteLength < byteLength) buffer = new ArrayBuffer(byteLength);
    return buffer;
  };
}

function indexOfNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

/** At most 20 names; a wrong model has thousands. */
function listing(kind: string, entries: readonly string[]): string {
  if (entries.length === 0) return "";
  const shown = entries.slice(0, 20).map((entry) => `\n  ${entry}`);
  const more = entries.length > 20 ? `\n  and ${entries.length - 20} more` : "";
  return `\n${entries.length} ${kind}:${shown.join("")}${more}`;
}

/** Side of the squares in which a matrix is transposed, so that reads and writes stay in the cache. */
const TILE = 32;

/** Copies a matrix transposed; a model's large weights are all of this kind. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row += TILE) {
    const lastRow = Math.min(rows, row + TILE);
    for (let column = 0; column < columns; column += TILE) {
      const lastColumn = Math.min(columns, column + TILE);
      for (let c = column; c < lastColumn; c++)
        for (let r = row, to = c * rows + row; r < lastRow; r++) out[to++] = values[r * columns + c]!;
    }
  }
  return out;
}

/** Copies values into another order of axes, without the engine, which would hold the weight twice. */
function permute(
  values: Float32Array,
  shape: readonly number[],
  permutation: readonly number[],
): Float32Array {
  if (permutation.length === 2 && permutation[0] === 1) return transpose(values, shape[0]!, shape[1]!);
  const out = new Float32Array(values.length);
  const stride: number[] = [];
  for (let axis = shape.length - 1, size = 1; axis >= 0; size *= shape[axis]!, axis--) stride[axis] = size;
  const sizes = permutation.map((axis) => shape[axis]!);
  const strides = permutation.map((axis) => stride[axis]!);
  const last = sizes.length - 1;
  const index = new Array<number>(sizes.length).fill(0);
  for (let to = 0, from = 0; to < out.length; ) {
    for (let i = 0, at = from; i < sizes[last]!; i++, at += strides[last]!) out[to++] = values[at]!;
    // Advance the outer axes like an odometer.
    for (let axis = last - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < sizes[axis]!) break;
      from -= strides[axis]! * sizes[axis]!;
      index[axis] = 0;
    }
    if (last === 0) break;
  }
  return out;
}
