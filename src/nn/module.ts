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
import { assertHoldsInt8, holdInt8, type Int8Weight, releaseInt8 } from "../engine/ops/linear/int8.js";
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
  type Dtype,
  FLOAT_DTYPES,
  type FloatDtype,
  MODEL_DTYPES,
  type ModelDtype,
  QUANTIZATIONS,
  type Quantization,
  type TensorData,
  toFloat32,
} from "../weights/dtype.js";
import type { DeferredTensor, StoredTensor } from "../weights/safetensors.js";
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
  /** Whether it is a linear layer's weight that a quantised model holds as int8. Default false. */
  readonly quantizes?: boolean;
}

/** Where parameters' values are read from, as often as they are needed. */
export interface ParameterSource {
  /** Sets the parameter's values. */
  read(parameter: Parameter): void;
  /** Prepares for {@link read}, in the background. */
  readAhead(parameter: Parameter): void;
}

/** A named tensor of a model. Its shape is the file's (PyTorch's); in memory its axes may have another order. */
export class Parameter {
  readonly permutation: readonly number[] | undefined;
  readonly #init: Initializer;
  readonly #buffer: boolean;
  readonly #hold: ParameterOptions["hold"];
  readonly #quantizes: boolean;
  #trainable: boolean;
  #dtype: ModelDtype = "float32";
  #quantization: Quantization | null = null;
  /** One of these four, if there are values. */
  #value: tf.Variable | undefined;
  #weight: HeldWeight | Int8Weight | undefined;
  #kernel: HeldKernel | undefined;
  #numbers: tf.Tensor | undefined;
  /** Where the values can be read from. */
  #source: ParameterSource | undefined;
  /** The memory of the values as they were read; other values are at another place. */
  #asRead: object | undefined;

  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    { init, permutation, trainable = true, hold, quantizes = false }: ParameterOptions,
  ) {
    this.#hold = hold;
    this.#quantizes = quantizes;
    this.permutation = permutation;
    this.#buffer = !trainable;
    this.#trainable = trainable;
    this.#init = init;
  }

  /** Whether training changes the values: PyTorch's `requires_grad`. A buffer stays false. */
  get trainable(): boolean {
    return this.#trainable;
  }

  /** @throws InputError for weights that are quantised. */
  set trainable(trainable: boolean) {
    if (trainable && this.#quantization !== null)
      throw new InputError(`parameter ${this.name} is held as ${this.#quantization} and can't be trained`, {
        hint: "train a LoRA adapter on it, or load the model without quantization",
      });
    this.#trainable = trainable && !this.#buffer;
    if (this.#trainable) this.dtype = "float32";
    if (this.#value) this.#value.trainable = this.#trainable;
  }

  /** What its values are rounded to. A trained parameter is float32, and one of bfloat16 is frozen. */
  get dtype(): ModelDtype {
    return this.#dtype;
  }

  set dtype(dtype: ModelDtype) {
    // Widened from bfloat16, not as precise as the file has them.
    if (dtype === "float32" && this.#dtype === "bfloat16") this.#ensure();
    this.#dtype = dtype;
    if (dtype === "bfloat16") this.#trainable = false;
    if (this.#quantization !== null) return;
    if (dtype === "bfloat16") {
      const asRead = this.#isAsRead;
      if (this.#value) this.#keep(this.#value.clone());
      if (asRead) this.#asRead = this.#memory;
    } else if (this.#isHeld) {
      this.#keep(this.#widened());
    }
  }

  /** How its values are held in fewer bits than {@link dtype} has. */
  get quantization(): Quantization | null {
    return this.#quantization;
  }

  /** Holds the values that are set from now on in fewer bits, which freezes them, if it is a weight for which that is done. */
  set quantization(quantization: Quantization | null) {
    this.#quantization = this.#quantizes ? quantization : null;
    if (quantization !== null) this.#trainable = false;
  }

  get #isHeld(): boolean {
    return (this.#weight ?? this.#kernel ?? this.#numbers) !== undefined;
  }

  get #memory(): object | undefined {
    return (this.#value ?? this.#weight?.held ?? this.#kernel?.held ?? this.#numbers)?.dataId;
  }

  get #isAsRead(): boolean {
    return this.#asRead !== undefined && this.#asRead === this.#memory;
  }

  /** From now on values can be read from `source` whenever there are none; null: no longer. */
  readFrom(source: ParameterSource | null): void {
    this.#source = source ?? undefined;
  }

  /** Says that the values are those of the file that its model came from. */
  markAsRead(): void {
    this.#asRead = this.#memory;
  }

  /** Frees values that can be read again; those that were changed since they were read stay. */
  release(): void {
    if (this.#source !== undefined && this.#isAsRead) this.#free();
  }

  /** Whether its values are those that its model's file has, in memory or not. */
  get isUnchanged(): boolean {
    return this.isReleased || this.#isAsRead;
  }

  /** Whether it has values that are not in memory. */
  get isReleased(): boolean {
    return this.#memory === undefined && this.#source !== undefined;
  }

  /** Reads the values if they are not in memory. */
  #ensure(): void {
    if (!this.isReleased) return;
    this.#source!.read(this);
    this.markAsRead();
  }

  /** A convolution's kernel, if it is held. */
  get heldKernel(): HeldKernel | undefined {
    this.#ensure();
    return this.#kernel;
  }

  /** For a linear layer: the values in memory's layout, or as they are held. */
  get weight(): Weight {
    this.#ensure();
    return this.#weight ?? this.value;
  }

  /**
   * The values, in memory's layout.
   * @throws Error if the model has been neither loaded nor initialised, or is disposed.
   * @throws InputError if they are held as bfloat16 or int8.
   */
  get value(): tf.Variable {
    this.#ensure();
    if (this.#isHeld)
      throw new InputError(
        `parameter ${this.name} is held as ${this.#weight && "scale" in this.#weight ? "int8" : "bfloat16"}`,
        { hint: "read it by use() or values(), or load its model in float32" },
      );
    if (!this.#value)
      throw new InputError(`parameter ${this.name} has no values`, {
        hint: "load or initialise its model first",
      });
    return this.#value;
  }

  /** Whether it has been loaded or initialised, and is not disposed. */
  get hasValues(): boolean {
    return this.#memory !== undefined || this.#source !== undefined;
  }

  /** Bytes that its values take in memory now. */
  get bytesInMemory(): number {
    const weight = this.#weight;
    const tensors = [this.#value, weight?.held, this.#kernel?.held, this.#numbers];
    const scale = weight && "scale" in weight ? weight.scale.size * 4 : 0;
    return tensors.reduce((sum, tensor) => sum + (tensor ? tensor.size * 4 : 0), scale);
  }

  /** Calls `work` with the values as float32, in memory's layout, however they are held. They are gone when it has ended. */
  use<T>(work: (value: tf.Tensor) => T): T {
    this.#ensure();
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
    this.#ensure();
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
    const how = this.#holdsAs;
    if (how === "weight" || how === "int8") {
      // As in the file: what holds it puts it into order.
      const weight = tf.tensor2d(values, [this.shape[0]!, this.size / this.shape[0]!]);
      this.#keepWeight(how === "int8" ? holdInt8(weight) : holdWeight(weight));
      weight.dispose();
      return;
    }
    if (how === "kernel") {
      this.#keepKernel(holdFileKernel(values, this.shape));
      return;
    }
    this.#keep(
      permutation
        ? tf.tensor(permute(values, this.shape, permutation), this.#memoryShape)
        : tf.tensor(values, this.#memoryShape),
    );
  }

  /** Whether it can be set from bfloat16 numbers as a file has them, by {@link setHalves}. */
  get takesHalves(): boolean {
    const how = this.#holdsAs;
    if (!canHold() || (this.size / this.shape[0]!) % 2 !== 0) return false;
    return how === "weight" || how === "int8" || (how === "numbers" && this.permutation === undefined);
  }

  /** The same as {@link set} with the numbers' float32 values, which are not made here. The array must not change afterwards. */
  setHalves(halves: Uint16Array): void {
    const rows = this.shape[0]!;
    const whole = halves.byteOffset % 4 === 0 ? halves : halves.slice();
    const pairs = new Int32Array(whole.buffer, whole.byteOffset, whole.length / 2);
    const how = this.#holdsAs;
    if (how === "numbers") {
      const numbers = tf.keep(tf.tensor(pairs, this.shape.with(-1, this.shape.at(-1)! / 2), "int32"));
      this.#free();
      this.#numbers = numbers;
      return;
    }
    const hold = how === "int8" ? holdInt8 : holdWeight;
    const stored = tf.tensor2d(pairs, [rows, pairs.length / rows], "int32");
    this.#keepWeight(tf.tidy(() => hold(widenBfloat16(stored) as tf.Tensor2D)));
    stored.dispose();
  }

  /** Bytes that the values take in a model of this format. */
  bytesAs(dtype: ModelDtype, quantization: Quantization | null): number {
    if (quantization !== null && this.#quantizes) return this.size + 4 * this.shape[0]!;
    return this.size * (dtype === "bfloat16" && this.#hold !== undefined ? 2 : 4);
  }

  /** Sets the values from memory's layout. */
  assign(values: tf.Tensor): void {
    this.#keep(values.clone());
  }

  get #memoryShape(): number[] {
    const { permutation, shape } = this;
    return permutation ? permutation.map((axis) => shape[axis]!) : [...shape];
  }

  get #holdsAs(): ParameterOptions["hold"] | "int8" {
    if (this.#quantization === "int8") return "int8";
    let wanted = this.#dtype === "bfloat16" && canHold() ? this.#hold : undefined;
    if (wanted === "kernel" && !convolvesHeld(this.#memoryShape.at(-2)!)) wanted = "numbers";
    // Two numbers lie in one of TensorFlow.js's.
    return wanted === "numbers" && this.#memoryShape.at(-1)! % 2 !== 0 ? undefined : wanted;
  }

  /** Takes over values in memory's layout, and disposes what was there before. */
  #keep(values: tf.Tensor): void {
    const how = this.#holdsAs;
    if (how === "weight" || how === "int8") {
      const hold = how === "int8" ? holdInt8 : holdWeight;
      const held = tf.tidy(() =>
        hold(tf.reshape(this.toFileLayout(values), [this.shape[0]!, this.size / this.shape[0]!])),
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
      this.#free();
      this.#numbers = numbers;
    } else {
      const kept = this.#dtype === "bfloat16" ? rounded(values) : values;
      if (this.#value) this.#value.assign(kept);
      else {
        const value = tf.variable(kept, this.trainable);
        this.#free();
        this.#value = value;
      }
      if (kept !== values) kept.dispose();
    }
    values.dispose();
  }

  #keepWeight(weight: HeldWeight | Int8Weight): void {
    this.#free();
    tf.keep(weight.held); // as variables are, whatever tidies around this
    if ("scale" in weight) tf.keep(weight.scale);
    this.#weight = weight;
  }

  #keepKernel(kernel: HeldKernel): void {
    this.#free();
    tf.keep(kernel.held);
    this.#kernel = kernel;
  }

  /** The held values as float32, in memory's layout. */
  #widened(): tf.Tensor {
    const [weight, kernel] = [this.#weight, this.#kernel];
    if (kernel) return tf.tidy(() => tf.reshape(releaseKernel(kernel), this.#memoryShape));
    if (!weight) return widenBfloat16(this.#numbers!);
    return tf.tidy(() => {
      const wide = "scale" in weight ? releaseInt8(weight) : releaseWeight(weight);
      return this.toMemoryLayout(tf.reshape(wide, [...this.shape]));
    });
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

  /** The values in the file's layout. If they were not in memory, they are not there afterwards, either. */
  async values(): Promise<Float32Array> {
    const wasReleased = this.isReleased;
    const tensor = this.use((value) => this.toFileLayout(value));
    if (wasReleased) this.release();
    try {
      return (await tensor.data()) as Float32Array;
    } finally {
      tensor.dispose();
    }
  }

  dispose(): void {
    this.#source = undefined;
    this.#free();
  }

  #free(): void {
    const weight = this.#weight;
    this.#value?.dispose();
    weight?.held.dispose();
    if (weight && "scale" in weight) weight.scale.dispose();
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
  /** As of {@link LoadQuantizedOptions}. */
  readonly quantization?: Quantization | undefined;
  /** As of {@link LoadModelOptions}. */
  readonly lazy?: boolean;
}

/**
 * When weights that can be read again from files are in memory: "model", until {@link Model.offload} is called; "sequential", a
 * block's while it computes.
 */
export const OFFLOAD_MODES = ["model", "sequential"] as const;

export type OffloadMode = (typeof OFFLOAD_MODES)[number];

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
  #quantization: Quantization | null = null;
  /** What the weights were read from. */
  #origin: { path: string; options: LoadOptions & WeightsLocation; stamp: string } | undefined;
  /** The same, open, while weights are read when they are needed. */
  #files: WeightFiles | undefined;
  #offload: OffloadMode | undefined;

  readonly #blockList: string | undefined;

  /**
   * @param weightsName the weight files' name without extension; default: diffusers' "diffusion_pytorch_model".
   * @param blockList the name of the list of blocks that can be streamed one by one.
   */
  protected constructor({ weightsName, blockList }: { weightsName?: string; blockList?: string } = {}) {
    this.#weightsName = weightsName;
    this.#blockList = blockList;
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

  /** How linear layers' weights are held in fewer bits. */
  get quantization(): Quantization | null {
    return this.#quantization;
  }

  /** Runs what the model computes, in its precision. */
  protected compute<T>(run: () => T): T {
    try {
      return this.#dtype === "bfloat16" ? withPrecision("bfloat16", run) : run();
    } finally {
      if (this.#streams) this.offload();
    }
  }

  /** A tape needs the weights once more, for the gradient. */
  get #streams(): boolean {
    return this.#offload === "sequential" && tf.engine().state.gradientDepth === 0;
  }

  /** The block that a parameter belongs to, of those that are streamed one by one: "transformer_blocks.0". */
  blockOf(parameterName: string): string | undefined {
    const list = this.#blockList;
    if (list === undefined || !parameterName.startsWith(`${list}.`)) return undefined;
    return parameterName.slice(0, parameterName.indexOf(".", list.length + 1));
  }

  /** The model's blocks in turn; if they are streamed, each one's weights are freed after it, while the next one's are read ahead. */
  protected *inTurn<B>(blocks: readonly B[]): Generator<B, void, undefined> {
    const streams = this.#streams;
    const parametersOf = (i: number) => {
      const block = `${this.#blockList}.${i % blocks.length}`;
      return [...this.parameters.values()].filter(({ name }) => this.blockOf(name) === block);
    };
    for (const [i, block] of blocks.entries()) {
      if (!streams) yield block;
      else {
        // After the last one comes the first, of the next step.
        for (const parameter of parametersOf(i + 1)) this.#files?.readAhead(parameter);
        try {
          yield block;
        } finally {
          for (const parameter of parametersOf(i)) parameter.release();
        }
      }
    }
  }

  /**
   * From now on weights may be freed after use, and are read again from their files when they are needed. Those that were changed
   * since they were read (by training, or a fused LoRA) stay in memory.
   *
   * @returns why that can't be done with this model, whose weights then stay; undefined if it can.
   */
  async enableOffload(mode: OffloadMode): Promise<string | undefined> {
    if (this.#files === undefined) {
      const origin = this.#origin;
      if (origin === undefined) return "its weights were not read from safetensors files";
      const source = await this.#open(origin.path, origin.options);
      try {
        if (source.again?.stamp !== origin.stamp)
          return `${origin.path}: its files were changed since they were read`;
        this.#attach(source, matchWeights(this.parameters, source, origin.options));
      } finally {
        if (this.#files === undefined) await source.close();
      }
    }
    this.#offload = mode;
    this.offload();
    return undefined;
  }

  /** How its weights are freed after use; undefined if they stay in memory. */
  get offloadMode(): OffloadMode | undefined {
    return this.#offload;
  }

  /** Frees the weights that can be read again, if that was enabled. */
  offload(): void {
    if (this.#offload === undefined) return;
    for (const parameter of this.parameters.values()) parameter.release();
    this.#files?.freeBuffers();
  }

  /** Identifies weights that are those of files, and how they are held; undefined if any of them may be others. */
  get weightsId(): string | undefined {
    const isChanged = [...this.parameters.values()].some((parameter) => !parameter.isUnchanged);
    if (this.#origin === undefined || isChanged) return undefined;
    return JSON.stringify([this.#origin.path, this.#origin.stamp, this.#dtype, this.#quantization]);
  }

  #open(path: string, options: WeightsLocation): Promise<WeightSource> {
    return openWeights(path, { weightsName: this.#weightsName, ...options });
  }

  #attach(source: WeightSource, keyOf: ReadonlyMap<string, string>): void {
    this.#files = new WeightFiles(source, keyOf);
    for (const parameter of this.parameters.values()) parameter.readFrom(this.#files);
  }

  #detach(): void {
    for (const parameter of this.parameters.values()) parameter.readFrom(null);
    // Whatever closing says, nothing was written.
    this.#files?.close().catch(() => {});
    this.#files = this.#offload = undefined;
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
   * @throws InputError if it is to train and its weights are quantised.
   */
  requiresGrad(trainable: boolean): void {
    if (trainable && this.#quantization !== null)
      throw new InputError(`the weights are held as ${this.#quantization} and can't be trained`, {
        hint: "train a LoRA adapter on them, or load the model without quantization",
      });
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
    const { dtype, quantization, lazy = false } = options;
    if (dtype !== undefined) this.to({ dtype });
    if (quantization !== undefined) {
      if (!QUANTIZATIONS.includes(quantization))
        throw new InputError(
          `quantization: expected ${QUANTIZATIONS.join(" or ")}, found ${JSON.stringify(quantization)}`,
        );
      assertHoldsInt8();
      this.#quantization = quantization;
      for (const parameter of this.parameters.values()) parameter.quantization = quantization;
    }
    const source = await this.#open(path, options);
    let kept = false;
    try {
      const keyOf = matchWeights(this.parameters, source, options);
      this.#detach();
      this.#origin = undefined;
      kept = lazy && source.again !== undefined;
      if (kept) {
        for (const parameter of this.parameters.values()) parameter.dispose();
        this.#attach(source, keyOf);
      } else await readParameters(this.parameters, source, keyOf);
      if (source.again) this.#origin = { path, options, stamp: source.again.stamp };
    } finally {
      if (!kept) await source.close();
    }
  }

  /** Writes the weights into a folder, which is created if need be. */
  async saveWeights(folder: string, options: SaveOptions = {}): Promise<void> {
    const { dtype = "float32", values = (parameter: Parameter) => parameter.values(), ...rest } = options;
    if (this.#quantization !== null && options.values === undefined)
      throw new InputError(`the weights are held as ${this.#quantization}, and are not what the files had`, {
        hint: "load the model without quantization to save it",
      });
    await makeFolder(folder);
    const stored = FLOAT_DTYPES[dtype];
    if (!stored) throw new InputError(`dtype: expected float32, float16 or bfloat16, found ${dtype}`);
    const tensors = [...this.parameters].map(([name, parameter]): [string, DeferredTensor] => [
      name,
      { dtype: stored, shape: parameter.shape, load: () => values(parameter) },
    ]);
    await saveWeights(folder, tensors, { weightsName: this.#weightsName, ...rest });
  }

  /** Frees the memory of all weights. */
  dispose(): void {
    this.#detach();
    this.#origin = undefined;
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
  options: LoadOptions = {},
): Promise<void> {
  await readParameters(parameters, source, matchWeights(parameters, source, options));
}

/** The source's key for each parameter's name. @throws CheckpointError as {@link Model.loadWeights} does. */
function matchWeights(
  parameters: ReadonlyMap<string, Parameter>,
  source: WeightSource,
  { rename = (key) => key }: LoadOptions,
): Map<string, string> {
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

  return keyOf;
}

async function readParameters(
  parameters: ReadonlyMap<string, Parameter>,
  source: WeightSource,
  keyOf: ReadonlyMap<string, string>,
): Promise<void> {
  const buffers = new Buffers();
  for (const [name, parameter] of parameters) {
    const key = keyOf.get(name)!;
    const stored = await source.getData(key, buffers.for(parameter, source.info(key).dtype));
    assertFinite(stored, key, source);
    buffers.set(parameter, stored);
    parameter.markAsRead();
  }
}

/** What only passes through is read into the same memory every time, instead of leaving garbage to collect. */
class Buffers {
  readonly #read = reusedBuffer();
  readonly #widened = reusedBuffer();

  /** Where a parameter is read to; undefined for new memory, which becomes the parameter's own. */
  for(parameter: Parameter, dtype: Dtype): ((byteLength: number) => ArrayBuffer) | undefined {
    const isFloat32 = dtype === "F32";
    const isTaken = dtype === "BF16" && parameter.takesHalves;
    return (isFloat32 || isTaken) && !parameter.permutation ? undefined : this.#read;
  }

  set(parameter: Parameter, { dtype, data }: StoredTensor): void {
    if (dtype === "BF16" && parameter.takesHalves) parameter.setHalves(data as Uint16Array);
    else if (dtype === "F32" || !parameter.permutation) parameter.set(toFloat32(dtype, data));
    else {
      const widened = new Float32Array(this.#widened(4 * data.length), 0, data.length);
      parameter.set(toFloat32(dtype, data, widened));
    }
  }
}

/** A model's weights in open files, which are read when they are needed. */
class WeightFiles implements ParameterSource {
  readonly #source: WeightSource;
  readonly #keyOf: ReadonlyMap<string, string>;
  readonly #checked = new Set<string>();
  #buffers = new Buffers();

  /** @param source that can be read again. */
  constructor(source: WeightSource, keyOf: ReadonlyMap<string, string>) {
    this.#source = source;
    this.#keyOf = keyOf;
  }

  read(parameter: Parameter): void {
    const [source, buffers] = [this.#source, this.#buffers];
    const key = this.#keyOf.get(parameter.name)!;
    const stored = source.again!.getDataSync(key, buffers.for(parameter, source.info(key).dtype));
    if (!this.#checked.has(key)) assertFinite(stored, key, source);
    this.#checked.add(key);
    buffers.set(parameter, stored);
  }

  readAhead(parameter: Parameter): void {
    if (parameter.isReleased) this.#source.again!.readAhead(this.#keyOf.get(parameter.name)!);
  }

  freeBuffers(): void {
    this.#buffers = new Buffers();
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}

/** @throws CheckpointError naming the tensor. */
function assertFinite({ dtype, data }: StoredTensor, key: string, { path }: WeightSource): void {
  const bad = indexOfNonFinite(dtype, data);
  if (bad < 0) return;
  const [value] = toFloat32(dtype, data.subarray(bad, bad + 1));
  throw new CheckpointError(`"${key}" holds ${value} at index ${bad}`, { file: path });
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

/** Bits that are all set in a half that is infinite or no number. */
const EXPONENT = { F16: 0x7c00, BF16: 0x7f80 } as const;

function indexOfNonFinite(dtype: Dtype, data: TensorData): number {
  if (dtype === "F16" || dtype === "BF16") {
    const [halves, exponent] = [data as Uint16Array, EXPONENT[dtype]];
    for (let i = 0; i < halves.length; i++) if ((halves[i]! & exponent) === exponent) return i;
    return -1;
  }
  const values = data as Float32Array | Float64Array;
  // A number that float32 does not have is infinite there.
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(Math.fround(values[i]!))) return i;
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
