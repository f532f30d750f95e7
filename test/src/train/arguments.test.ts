import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { Ajv } from "ajv";
import { parse as parseYaml } from "yaml";
import {
  ARGUMENTS,
  type ArgumentName,
  argumentsSchema,
  completeOptions,
  LORA_TARGET_MODULES,
  readArguments,
  trainerOptions,
} from "../../../src/train/arguments.js";
import { projectRoot } from "../cli/project.js";

const schemaFile = join(projectRoot, "src/train/arguments.schema.json");

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "firstframe-arguments-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** Values out of an argument's range, or of another kind. */
const REFUSED: [ArgumentName, unknown, RegExp][] = [
  ["learning_rate", -1, /expected a number of at least 0, found -1$/],
  ["learning_rate", Number.NaN, /expected a number of at least 0, found NaN$/],
  ["learning_rate", Number.POSITIVE_INFINITY, /expected a number of at least 0, found Infinity$/],
  ["beta1", 1, /expected a number of at least 0 and below 1, found 1$/],
  ["beta2", 1.5, /expected a number of at least 0 and below 1, found 1.5$/],
  ["ema_decay", 1, /expected a number of at least 0 and below 1, found 1$/],
  ["noised_image_dropout", 1.1, /expected a number of at least 0 and at most 1, found 1.1$/],
  ["caption_dropout", 1.1, /expected a number of at least 0 and at most 1, found 1.1$/],
  ["timestep_bias_strategy", "middle", /expected one of none, earlier, later, range, found middle$/],
  ["timestep_bias_multiplier", 0, /expected a number above 0, found 0$/],
  ["timestep_bias_portion", 1.5, /expected a number of at least 0 and at most 1, found 1.5$/],
  ["timestep_bias_begin", -1, /expected a whole number of at least 0, found -1$/],
  ["timestep_bias_end", 0, /expected a whole number of at least 1, found 0$/],
  ["snr_gamma", 0, /expected a number above 0, found 0$/],
  ["divergence_factor", 1, /expected a number above 1, found 1$/],
  ["batch_size", 0, /expected a whole number of at least 1, found 0$/],
  ["batch_size", 1.5, /expected a whole number of at least 1, found 1.5$/],
  ["batch_size", 2 ** 60, /expected a whole number of at least 1, found 11529215046068\d+$/],
  ["train_steps", 0, /expected a whole number of at least 1, found 0$/],
  ["seed", -1, /expected a whole number of at least 0, found -1$/],
  ["use_ema", 1, /expected true or false, found 1$/],
  ["lr_scheduler", "step", /expected one of constant, .*, found step$/],
  ["target_modules", [], /expected a list of names, found \[\]$/],
  ["target_modules", [1], /expected a list of names, found \[1\]$/],
  ["rank", {}, /expected a whole number of at least 1, found \{\}$/],
];
const camelCase = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

describe("a training's arguments", () => {
  it("have one range, and each surface says its own name for them", async () => {
    const file = join(folder, "out-of-range.yaml");
    for (const [name, value, message] of REFUSED) {
      const refused = (promise: Promise<unknown>, where: string) =>
        assert.rejects(promise, (error: Error) => {
          assert.equal(error.name, "ArgumentError", error.stack);
          assert.ok(error.message.startsWith(`${where}: expected`), error.message);
          assert.match(error.message, message);
          return true;
        });
      await refused(completeOptions({ [camelCase(name)]: value }), camelCase(name));
      if (typeof value !== "object")
        await refused(readArguments({ flags: { [name]: String(value) } }), `--${name}`);
      const text = Number.isNaN(value)
        ? ".nan"
        : value === Number.POSITIVE_INFINITY
          ? ".inf"
          : JSON.stringify(value);
      await writeFile(file, `${name}: ${text}\n`);
      await refused(readArguments({ config: file }), `${file}: ${name}`);
    }
    // In code a value is of its kind; nothing is made of text.
    await assert.rejects(
      completeOptions({ rank: "4" as unknown as number }),
      /^ArgumentError: rank: expected .*found 4$/,
    );
  });

  it("come with the table's defaults, which fit their own ranges", async () => {
    const { output_dir, ...args } = await readArguments({});
    assert.equal(output_dir, "train_results");
    for (const [name, entry] of Object.entries(ARGUMENTS)) {
      if (!("default" in entry) || name === "output_dir") continue;
      assert.deepEqual(args[name as keyof typeof args], entry.default);
      const given = await readArguments({ flags: { [name]: [entry.default].flat().join(" ") } });
      assert.deepEqual(given[name as ArgumentName], entry.default, name);
    }
    const complete = await completeOptions({});
    assert.deepEqual(
      [complete.learningRate, complete.lrWarmupSteps, complete.targetModules.length, complete.outputDir],
      [2e-5, 100, 4, undefined],
    );
    assert.deepEqual(complete.targetModules, LORA_TARGET_MODULES);
    assert.deepEqual((await completeOptions({ allowChangedArguments: [] })).allowChangedArguments, []);
    // What the command has by default is what code has by default.
    assert.deepEqual(await completeOptions(trainerOptions({ ...args, output_dir: "x" })), {
      ...complete,
      outputDir: "x",
    });
    assert.equal(
      (await completeOptions({ divergenceFactor: Number.POSITIVE_INFINITY })).divergenceFactor,
      Infinity,
    );
  });

  it("have a schema for editors, which says what the command says", async () => {
    const stored = JSON.parse(await readFile(schemaFile, "utf8")) as object;
    assert.deepEqual(
      stored,
      argumentsSchema(),
      "firstframe train --schema > src/train/arguments.schema.json",
    );
    const validate = new Ajv({ allowUnionTypes: true }).compile(stored);
    for (const [name, value] of REFUSED) {
      const safe = typeof value !== "number" || Number.isSafeInteger(value) || Math.abs(value) < 2 ** 53;
      if (safe) assert.equal(validate({ [name]: value }), false, `${name}: ${value}`);
    }
    for (const [name, entry] of Object.entries(ARGUMENTS)) {
      assert.ok(validate({ [name]: null }), `${name}: nothing`);
      if ("default" in entry) assert.ok(validate({ [name]: entry.default }), name);
    }
    assert.equal(validate({ "learning-rate": 1 }), false);
    assert.ok(validate({ model_name: 42, target_modules: "to_q to_v", learning_rate: 1e-4 }));
  });

  it("complete in the shipped training's file", async () => {
    const file = join(projectRoot, "notebooks/models/procedural/train.yaml");
    const source = await readFile(file, "utf8");
    const line = /^# yaml-language-server: \$schema=(.+)$/m.exec(source);
    assert.equal(resolve(dirname(file), line![1]!), schemaFile);
    const validate = new Ajv({ allowUnionTypes: true }).compile(argumentsSchema());
    assert.ok(validate(parseYaml(source)), JSON.stringify(validate.errors));
    await readArguments({ config: file });
  });

  it("are the recipe's in the shipped LoRA for the real model", async () => {
    const file = join(projectRoot, "notebooks/models/lora-cogvideox1.5.yaml");
    const source = await readFile(file, "utf8");
    const line = /^# yaml-language-server: \$schema=(.+)$/m.exec(source);
    assert.equal(resolve(dirname(file), line![1]!), schemaFile);
    const args = await readArguments({ config: file });
    assert.equal(args.model_path, "zai-org/CogVideoX1.5-5B-I2V");
    assert.equal(args.training_type, "lora");
    assert.equal(args.train_resolution, "81x768x1360");
    // What the file spells out, for its readers to change, is what the table takes anyway where it names a default.
    const spelled = Object.keys(parseYaml(source) as object) as (keyof typeof ARGUMENTS)[];
    const own = [
      "output_dir",
      "fit",
      "gradient_accumulation_steps",
      "checkpointing_steps",
      "checkpointing_limit",
    ];
    for (const name of spelled) {
      const rule = ARGUMENTS[name];
      if ("default" in rule && ![...own, "gen_fps"].includes(name))
        assert.deepEqual(args[name], rule.default, name);
    }
    // The lines that are commented out are options, too: a reader takes the mark away.
    const all = source
      .replace(/^# (?=validation_\w+: )/gm, "")
      .replace("do_validation: false", "do_validation: true");
    const validate = new Ajv({ allowUnionTypes: true }).compile(argumentsSchema());
    assert.ok(validate(parseYaml(all)), JSON.stringify(validate.errors));
    assert.equal(Object.keys(parseYaml(all) as object).length, spelled.length + 4);
  });
});
