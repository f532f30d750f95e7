/** LoRA adapters of a model (Hu et al. 2021, arXiv 2106.09685), with PEFT's options and diffusers' methods. */
import { InputError } from "../engine/errors.js";
import type { RandomGenerator } from "../engine/random.js";
import { grouped, showAs } from "../engine/shown.js";
import { isRank, type LoraPattern, patternProblem, patternValue } from "../weights/lora-settings.js";
import type { Linear } from "./linear.js";
import { LoraLayer } from "./lora-layer.js";
import { type Initializer, normal, type Parameter, ParameterScope, torchDefault, zeros } from "./module.js";
import { moduleTree } from "./module-tree.js";

/** The part of PEFT's `LoraConfig` that concerns linear layers. */
export interface LoraConfig {
  /** Rank of the updates. */
  readonly r: number;
  /** The update is scaled by loraAlpha / r. */
  readonly loraAlpha: number;
  /**
   * Ranks of layers that have another than `r`: by names, ends of names after a dot, or regular expressions for one of these
   * ("^" for the whole name); of several that match, the first.
   */
  readonly rankPattern?: LoraPattern;
  /** The same for `loraAlpha`. */
  readonly alphaPattern?: LoraPattern;
  /**
   * The layers to adapt: names, or the ends of names after a dot ("to_q"); "all-linear"; or a regular expression that
   * matches the whole name.
   */
  readonly targetModules: readonly string[] | "all-linear" | RegExp;
  /**
   * How A starts: true for PyTorch's default, "gaussian" for a standard deviation of 1 / r; B starts at zero in both
   * cases. false draws both. Default true.
   */
  readonly initLoraWeights?: boolean | "gaussian";
  /** Probability of dropout on the adapters' input in training. Default 0. */
  readonly loraDropout?: number;
  /** Scales by loraAlpha / sqrt(r) instead (Kalajdzievski 2023, arXiv 2312.03732). Default false. */
  readonly useRslora?: boolean;
}

/** One adapter: its layers by the module they are on. */
export interface LoraAdapter {
  readonly config: LoraConfig;
  readonly layers: ReadonlyMap<string, LoraLayer>;
  /** "transformer_blocks.0.attn1.to_q.lora_A.weight" and so on, in the model's order. */
  readonly parameters: ReadonlyMap<string, Parameter>;
}

class Adapter implements LoraAdapter {
  readonly #scope: ParameterScope;

  constructor(
    readonly config: LoraConfig,
    readonly layers: LoraAdapter["layers"],
    scope: ParameterScope,
  ) {
    this.#scope = scope;
  }

  get parameters(): ReadonlyMap<string, Parameter> {
    return this.#scope.all;
  }

  static {
    const facts = ({ config: { r, loraAlpha }, layers, parameters }: Adapter) => {
      const size = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
      return `r=${r}, loraAlpha=${loraAlpha}, ${layers.size} layers, ${grouped(size)} parameters`;
    };
    showAs<Adapter>(Adapter, {
      line: (adapter) => `LoraAdapter, ${facts(adapter)}`,
      text: (adapter) =>
        moduleTree("LoraAdapter", adapter.parameters, adapter.#scope.modules, facts(adapter)),
    });
  }
}

/** How a layer of an adapter is made, from the adapter's configuration or from what a file holds. */
export interface LayerPlan {
  readonly rank: number;
  readonly scaling: number;
}

/** Factors on adapters, as diffusers' `set_adapters` takes them: one for all, or one each; null is 1. */
export type AdapterWeights = number | null | readonly (number | null)[];

/** The adapters of a model's linear layers. */
export class LoraAdapters {
  readonly #linears: ReadonlyMap<string, Linear>;
  readonly #adapters = new Map<string, LoraAdapter>();

  constructor(linears: ReadonlyMap<string, Linear>) {
    this.#linears = linears;
  }

  /** Names of the layers that can be adapted. */
  get moduleNames(): Iterable<string> {
    return this.#linears.keys();
  }

  /** Names of the adapters, in the order in which they were added. */
  get names(): string[] {
    return [...this.#adapters.keys()];
  }

  /** @throws InputError if there is no adapter of this name. */
  get(name: string): LoraAdapter {
    const adapter = this.#adapters.get(name);
    if (!adapter) {
      throw new InputError(
        `adapter: expected one of ${JSON.stringify(this.names)}, found ${JSON.stringify(name)}`,
      );
    }
    return adapter;
  }

  /** A new adapter with values from `generator`. It becomes the active one. */
  add(name: string, config: LoraConfig, generator: RandomGenerator): LoraAdapter {
    checkLoraConfig(config);
    const modules = [...this.#linears.values()]
      .filter((linear) => isTarget(linear, config.targetModules))
      .map((linear) => linear.name);
    if (modules.length === 0) {
      throw new InputError(
        `targetModules: no linear layer of the model matches ${String(config.targetModules)}`,
      );
    }
    const { r, loraAlpha, rankPattern = {}, alphaPattern = {} } = config;
    const plan = new Map(
      modules.map((module): [string, LayerPlan] => {
        const rank = patternValue(rankPattern, module) ?? r;
        return [
          module,
          { rank, scaling: loraScaling(config, rank, patternValue(alphaPattern, module) ?? loraAlpha) },
        ];
      }),
    );
    const adapter = this.create(name, config, plan);
    for (const parameter of adapter.parameters.values()) parameter.initialize(generator);
    return adapter;
  }

  /** Declares an adapter's layers; their parameters have no values yet. */
  create(name: string, config: LoraConfig, plan: ReadonlyMap<string, LayerPlan>): LoraAdapter {
    if (this.#adapters.has(name)) {
      throw new InputError(`adapter ${JSON.stringify(name)} exists already`, {
        hint: "choose another adapterName",
      });
    }
    const scope = new ParameterScope();
    const layers = new Map<string, LoraLayer>();
    for (const [module, linear] of this.#linears) {
      const entry = plan.get(module);
      if (!entry) continue;
      const { rank, scaling } = entry;
      const layer = new LoraLayer(
        scope.child(module),
        linear.inFeatures,
        linear.outFeatures,
        { rank, scaling, dropout: config.loraDropout ?? 0, ...initializers(config, linear.inFeatures, rank) },
        linear.patchShape,
      );
      layers.set(module, layer);
    }
    const adapter = new Adapter(config, layers, scope);
    this.#adapters.set(name, adapter);
    for (const [module, layer] of layers) this.#linears.get(module)!.lora.set(name, layer);
    this.setActive([name]);
    return adapter;
  }

  /** Makes these adapters the active ones, each with a factor, 1 where it is null; all others are off. */
  setActive(names: readonly string[], weights: AdapterWeights = null): void {
    const factors = weights === null || typeof weights === "number" ? names.map(() => weights) : weights;
    if (factors.length !== names.length) {
      throw new InputError(
        `adapterWeights: expected ${names.length} (one an adapter), found ${factors.length}`,
      );
    }
    for (const [i, name] of names.entries()) {
      this.get(name);
      if (names.indexOf(name) !== i) throw new InputError(`adapter ${JSON.stringify(name)} is named twice`);
      if (!Number.isFinite(factors[i] ?? 1))
        throw new InputError(
          `adapterWeights: expected numbers, found ${factors[i]} for ${JSON.stringify(name)}`,
        );
    }
    for (const [name, { layers }] of this.#adapters) {
      const weight = names.includes(name) ? (factors[names.indexOf(name)] ?? 1) : 0;
      for (const layer of layers.values()) layer.weight = weight;
    }
  }

  /** Adds the adapters' updates to the weights, so that they cost nothing at run time. */
  fuse(names: readonly string[] = this.names, loraScale = 1): void {
    const quantized = this.#layersOf(names).find(
      ([module]) => this.#linears.get(module)!.weight.quantization !== null,
    );
    if (quantized)
      throw new InputError(
        `fuseLora: ${quantized[0]}.weight is held as ${this.#linears.get(quantized[0])!.weight.quantization}, which an update would be rounded to`,
        { hint: "leave the adapters unfused, or load the model without quantization" },
      );
    for (const [module, layer] of this.#layersOf(names)) {
      const factor = layer.weight * loraScale;
      if (layer.fused !== null || factor === 0) continue;
      const delta = layer.delta();
      this.#linears.get(module)!.addToWeight(delta, factor);
      delta.dispose();
      layer.fused = factor;
    }
  }

  /** Takes the updates out of the weights again (exact up to rounding). */
  unfuse(): void {
    for (const [module, layer] of this.#layersOf(this.names)) {
      if (layer.fused === null) continue;
      const delta = layer.delta();
      this.#linears.get(module)!.addToWeight(delta, -layer.fused);
      delta.dispose();
      layer.fused = null;
    }
  }

  /** Removes adapters from the model; what they fused stays in the weights. */
  delete(names: readonly string[]): void {
    for (const name of names) {
      const { layers, parameters } = this.get(name);
      for (const module of layers.keys()) this.#linears.get(module)!.lora.delete(name);
      for (const parameter of parameters.values()) parameter.dispose();
      this.#adapters.delete(name);
    }
  }

  /** The parameters of all adapters that train. */
  trainableParameters(): Parameter[] {
    return [...this.#adapters.values()].flatMap(({ parameters }) =>
      [...parameters.values()].filter(({ trainable }) => trainable),
    );
  }

  #layersOf(names: readonly string[]): [string, LoraLayer][] {
    return names.flatMap((name) => [...this.get(name).layers]);
  }
}

/** PEFT's factor on an update. */
export function loraScaling(
  { useRslora = false }: Partial<LoraConfig>,
  r: number,
  loraAlpha: number,
): number {
  return loraAlpha / (useRslora ? Math.sqrt(r) : r);
}

/** Whether PEFT would adapt the module. */
export function isTarget(
  { name, patchShape }: Pick<Linear, "name" | "patchShape">,
  targets: LoraConfig["targetModules"],
): boolean {
  if (targets === "all-linear") return patchShape === undefined; // not a convolution
  if (targets instanceof RegExp) return new RegExp(`^(?:${targets.source})$`, targets.flags).test(name);
  return targets.some((target) => name === target || name.endsWith(`.${target}`));
}

function initializers(
  { initLoraWeights = true }: LoraConfig,
  inFeatures: number,
  rank: number,
): { initA: Initializer; initB: Initializer } {
  const initA = initLoraWeights === "gaussian" ? normal(1 / rank) : torchDefault(inFeatures);
  return { initA, initB: initLoraWeights === false ? torchDefault(rank) : zeros };
}

function checkLoraConfig({ r, loraAlpha, loraDropout = 0, rankPattern, alphaPattern }: LoraConfig): void {
  for (const [name, pattern, fits] of [
    ["rankPattern", rankPattern, isRank],
    ["alphaPattern", alphaPattern, Number.isFinite],
  ] as const) {
    const problem = pattern && patternProblem(pattern, fits);
    if (problem) throw new InputError(`${name}: ${problem}`);
  }
  if (!Number.isInteger(r) || r < 1) throw new InputError(`r: expected a positive integer, found ${r}`);
  if (!Number.isFinite(loraAlpha)) throw new InputError(`loraAlpha: expected a number, found ${loraAlpha}`);
  if (!(loraDropout >= 0 && loraDropout < 1)) {
    throw new InputError(`loraDropout: expected a number from 0 to below 1, found ${loraDropout}`);
  }
}
