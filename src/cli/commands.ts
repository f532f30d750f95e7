import { GATEWAYS, kernelImage, kernelName } from "../../kernel/install/names.js";
import { PIPELINE_TRAINING } from "../procedural/pipeline-training.js";
import { WORLD_NAMES } from "../procedural/scene.js";
import { IMAGE_PLACES, PADDINGS } from "../recipe/rules.js";
import { ARGUMENTS, pickOptions, REFUSED_ARGUMENTS, trainOptions } from "../train/arguments.js";
import { MODEL_DTYPES, QUANTIZATIONS } from "../weights/dtype.js";
import type { Command } from "./arguments.js";

const command = <const C extends Command>(entry: C): C => entry;

const sanitizeOption = {
  type: "boolean",
  help: "takes scripts, styles and frames out of the HTML of outputs, too, as nbconvert's flag does",
} as const;

const kernelOption = {
  type: "string",
  value: "NAME",
  help: "the kernel to run with, instead of the one that the notebook names",
} as const;

/** Where a kernel is installed. */
const kernelPlaces = {
  user: { type: "boolean", help: "for this user: the data folder that `jupyter --paths` lists first" },
  prefix: { type: "string", value: "DIR", help: "below DIR/share/jupyter" },
  "sys-prefix": { type: "boolean", help: "below the prefix of the active Python environment" },
} as const;

const modelOption = { type: "string", value: "MODEL", help: "the same as --model_path" } as const;

const smallPipelineOption = {
  type: "string",
  value: "DIR",
  default: "notebooks/models/procedural",
  help: "the pipeline's folder, with the small VAE in it",
} as const;

/** What procedural clips are like. */
const clipOptions = {
  frames: { type: "integer", value: "N", min: 1, default: 17, help: "frames of a clip" },
  height: { type: "integer", value: "N", min: 1, default: 64, help: "pixels" },
  width: { type: "integer", value: "N", min: 1, default: 96, help: "pixels" },
  fps: { type: "number", value: "X", min: 1, default: 8, help: "frames per second" },
  world: {
    type: "string",
    choices: WORLD_NAMES,
    value: "NAME",
    default: "full",
    help: "what may be in the clips, from one plain sprite that drifts to all there is",
  },
} as const;

/** A number that means the same in another command as in training. */
const fromTable = <
  const A extends {
    readonly kind: "integer" | "number";
    readonly value: string;
    readonly min: number;
    readonly default: number;
  },
>(
  { kind, value, min, default: preset }: A,
  help: string,
) => ({ type: kind as A["kind"], value, min, default: preset, help }) as const;

/**
 * Every command of the program, in the order of the help page; some have two words. Parsing, `--help` and errors about flags come from
 * here; the command itself is loaded only when it runs (`main.ts`).
 */
const dtypeOption = {
  type: "string",
  value: "NAME",
  choices: MODEL_DTYPES,
  default: "float32",
  help: "of weights in memory and of products' factors; bfloat16 takes half the memory",
} as const;

export const commands = {
  doctor: command({
    summary: "shows what this machine offers, which engine will run and why, and what would make it faster",
    usage: "[options]",
    positionals: [0, 0],
    options: { json: { type: "boolean", help: "print the findings as JSON" } },
  }),
  engine: command({
    summary: "installs, lists and chooses the engine that does the numerics",
    usage: "install [tensorflow | tensorflow-gpu] | list | use NAME",
    positionals: [1, 2],
    positional: "install, list or use",
    options: {
      force: { type: "boolean", help: "install: fetch and build again what is there already" },
      json: { type: "boolean", help: "list: print as JSON" },
    },
  }),
  "kernel install": command({
    summary: "installs the Jupyter kernel, here or for a gateway that starts it on other machines",
    usage: "[options]",
    description: [
      "Installs the kernelspec and the JupyterLab extension that draws its figures. Without an option they go where Jupyter looks first: into the Python environment that is active, if the `jupyter` on PATH prefers it, else into this user's data folder. `firstframe start` and `firstframe lab` bring their own, in .firstframe.",
      "",
      "With --for only a kernelspec is installed, where a gateway runs: Enterprise Gateway, or a Jupyter server with Gateway Provisioners. It starts `firstframe kernel launch` in a container made from --image (the Dockerfile's target `kernel`), or on the gateway's hosts, which have this package at the same path.",
    ].join("\n"),
    positionals: [0, 0],
    options: {
      ...kernelPlaces,
      for: { type: "string", value: "GATEWAY", choices: GATEWAYS, help: "what starts the kernel" },
      image: {
        type: "string",
        value: "NAME",
        help: `the container's image, for Kubernetes and Docker (default ${kernelImage})`,
      },
      launcher: {
        type: "string",
        value: "FILE",
        help: "the gateway's own script that starts a pod or a container, where it is not at its usual place",
      },
      name: {
        type: "string",
        value: "NAME",
        default: kernelName,
        help: "the kernel's name, by which notebooks ask for it; one gateway may have several",
      },
    },
    examples: [
      "firstframe kernel install",
      "firstframe kernel install --prefix /opt/jupyter",
      "firstframe kernel install --for enterprise-gateway-docker --image example/firstframe-kernel",
    ],
  }),
  "kernel list": command({
    summary: "lists the kernels that Jupyter finds",
    usage: "[options]",
    positionals: [0, 0],
    options: { json: { type: "boolean", help: "print as JSON" } },
  }),
  "kernel uninstall": command({
    summary: "removes the Jupyter kernel",
    usage: "[options]",
    description: "Takes the same options for the place as `firstframe kernel install`.",
    positionals: [0, 0],
    options: {
      ...kernelPlaces,
      name: { type: "string", value: "NAME", default: kernelName, help: "the kernel's name" },
    },
  }),
  "kernel launch": command({
    summary: "starts a kernel for a gateway on another machine",
    usage: "[options]",
    description:
      "What the kernelspecs of `firstframe kernel install --for` start: Enterprise Gateway and Gateway Provisioners fill in the values. In a container they come from the environment. The kernel chooses its ports, sends them encrypted to the response address, and takes signals and the request to shut down at a port of its own.",
    positionals: [0, 0],
    options: {
      "kernel-id": {
        type: "string",
        value: "ID",
        aliases: ["RemoteProcessProxy.kernel-id"],
        help: "the gateway's number of the kernel (else $KERNEL_ID)",
      },
      "response-address": {
        type: "string",
        value: "HOST:PORT",
        aliases: ["RemoteProcessProxy.response-address"],
        help: "where the gateway waits for the connection info (else $RESPONSE_ADDRESS)",
      },
      "public-key": {
        type: "string",
        value: "KEY",
        aliases: ["RemoteProcessProxy.public-key"],
        help: "the gateway's RSA key, in DER form as base64 (else $PUBLIC_KEY)",
      },
      "port-range": {
        type: "string",
        value: "LOWER..UPPER",
        aliases: ["RemoteProcessProxy.port-range"],
        help: "where the kernel's six ports are taken from; 0..0 is anywhere (else $PORT_RANGE)",
      },
      "transport-encryption": {
        type: "string",
        value: "POLICY",
        mayBeEmpty: true,
        help: "auto or required: the sockets are encrypted; disabled (else $TRANSPORT_ENCRYPTION)",
      },
      "spark-context-initialization-mode": {
        type: "string",
        value: "MODE",
        choices: ["none"],
        aliases: ["RemoteProcessProxy.spark-context-initialization-mode"],
        help: "this kernel has no Spark",
      },
    },
    refused: {
      "kernel-class-name": "it names a class of ipykernel's, which this kernel is not: leave it out",
      "cluster-type": "this kernel has neither Spark nor Dask: leave it out",
    },
  }),
  lab: command({
    summary: "opens JupyterLab on the notebooks with the kernel",
    usage: "[DIR] [options] [-- JUPYTER-OPTION...]",
    description:
      "Uses the `jupyter` on PATH where it has JupyterLab 4, else a .venv of the project's own with pinned versions, which is made at the first time. DIR is the folder to open (default: the tutorials, in a project that installed the package a copy of them, firstframe-tutorials).",
    positionals: [0, 1],
    options: {
      own: { type: "boolean", help: "use the project's own .venv even where there is a jupyter on PATH" },
      setup: { type: "boolean", help: "only set up what JupyterLab needs" },
    },
    passThrough: "jupyter lab",
    examples: ["firstframe lab -- --no-browser --port 8890"],
  }),
  run: command({
    summary: "executes notebooks headless and writes them, with a web page of each",
    usage: "NOTEBOOK... [options]",
    description: [
      "Runs every cell through the notebook's kernel, without Python, and writes the executed notebook and a self-contained HTML page of it. The first failing cell ends it: exit code 1, and what was executed so far is written. Bad input is found before anything runs: exit code 2, and nothing is written.",
      "",
      "Parameters work as in papermill: the cell tagged `parameters` declares them with their defaults, and a cell that sets them is put behind it. A value is read as the declared type; without one, numbers, booleans, null and JSON are what they look like, and all else is a string. A parameter called `clip`, or ending in `Clip`, names a video, an animated picture or a folder of pictures: it is looked for from here, not from the notebook's folder, and has to be readable; the declared value itself may be a word of another meaning. Any string that starts with ./ or ../ is a path from here, too.",
      "",
      'With --check the outputs are compared with the notebook\'s own: text exactly or by a tolerance, pictures by kind and size, figures by their traces. A cell\'s metadata can state the tolerance, as in {"firstframe": {"check": {"rtol": 1e-3}}}, or "ignore" in its place.',
      "",
      "Pages run no script of a notebook's text, pictures, figures or metadata, and show pictures from its folder or the web. The text/html of outputs is shown as it is, with its scripts, as nbconvert does; --sanitize-html takes them out. Of what a cell prints the first and last 8 MB are kept, and 256 MB of all outputs.",
    ].join("\n"),
    positionals: [1, Number.POSITIVE_INFINITY],
    positional: "a notebook",
    options: {
      out: { type: "string", value: "DIR", help: "where to write", default: "out" },
      param: { type: "string", value: "NAME=VALUE", short: "p", multiple: true, help: "sets a parameter" },
      timeout: {
        type: "number",
        value: "S",
        min: 0.001,
        help: "interrupts a cell after S seconds; the notebook has failed",
      },
      "notebook-timeout": { type: "number", value: "S", min: 0.001, help: "the same for a whole notebook" },
      "allow-errors": {
        type: "boolean",
        help: "goes on after a failing cell, as cells tagged `raises-exception` do",
      },
      jobs: {
        type: "integer",
        value: "N",
        short: "j",
        min: 1,
        default: 1,
        help: "how many notebooks run at a time",
      },
      kernel: kernelOption,
      inplace: { type: "boolean", help: "writes the outputs into the notebooks themselves, and no pages" },
      html: { type: "boolean", help: "writes only the pages" },
      "sanitize-html": sanitizeOption,
      check: { type: "boolean", help: "compares outputs with those in the notebooks and writes a report" },
      rtol: {
        type: "number",
        value: "X",
        min: 0,
        default: 0,
        help: "with --check: relative tolerance for numbers in text",
      },
      atol: {
        type: "number",
        value: "X",
        min: 0,
        default: 0,
        help: "with --check: absolute tolerance for numbers in text",
      },
      junit: { type: "string", value: "FILE", help: "writes the results as JUnit XML" },
    },
    examples: [
      "firstframe run notebooks/*.ipynb",
      "firstframe run notebooks/01-vae-compression.ipynb --param clip=kitten.mp4",
      "firstframe run --check --jobs 2 notebooks/*.ipynb --junit out/junit.xml",
    ],
  }),
  site: command({
    summary: "builds web pages, with an index, from notebooks as they are",
    usage: "[NOTEBOOK...] [options]",
    description:
      "Nothing is executed: the pages show the outputs that the notebooks carry (default: the tutorials, in English and Chinese). No script in a notebook's text, pictures, figures or metadata runs on its page, and pictures come from the notebook's folder or the web. The text/html of outputs is shown as it is, with its scripts, as nbconvert does; --sanitize-html takes them out: use it for notebooks of people you don't know.",
    positionals: [0, Number.POSITIVE_INFINITY],
    options: {
      out: { type: "string", value: "DIR", default: "out/site", help: "where to write" },
      title: { type: "string", value: "TEXT", default: "firstframe", help: "the index page's heading" },
      "sanitize-html": sanitizeOption,
    },
  }),
  encode: command({
    summary: "encodes clips into latents, or a data set into a latent cache",
    usage: "--model MODEL (CLIP... | --data_root DIR) [options]",
    description:
      "With clips: each one's latents go to a safetensors file. Long clips are encoded a few frames at a time. With a data set: clips and prompts go to the cache that training reads; what is there already is not computed again, so it can be stopped, and several machines can share one.",
    positionals: [0, Number.POSITIVE_INFINITY],
    options: {
      model: modelOption,
      config: {
        type: "string",
        value: "FILE",
        help: "a training's YAML file, whose data set, model and cache these are; a flag wins",
      },
      out: { type: "string", value: "DIR", default: "latents", help: "where clips' latents go" },
      ...pickOptions(
        "model_path",
        "revision",
        "model_name",
        "model_type",
        "transformer_config",
        "data_root",
        "caption_column",
        "video_column",
        "image_column",
        "id_token",
        "train_resolution",
        "video_resolution_buckets",
        "fit",
        "short_clips",
        "fps",
        "frame_extraction",
        "broken_clips",
        "cache_dir",
        "enable_slicing",
        "enable_tiling",
        "mixed_precision",
      ),
      frames: {
        type: "integer",
        value: "N",
        help: "takes N frames of each clip, 8N+1 (default: all of them); with --data_root, --train_resolution says how many",
      },
      "skip-broken": {
        type: "boolean",
        help: "the same as --broken_clips skip: goes on after a clip that can't be read; exit code 1 at the end",
      },
      shard: {
        type: "string",
        value: "I/N",
        default: "1/1",
        help: "encodes the I-th of N parts of the data set",
      },
      seed: {
        type: "integer",
        value: "N",
        help: "of single clips' noise (default 0); a data set's latents do not depend on it",
      },
      "no-slicing": { type: "boolean", help: "the same as --enable_slicing false" },
      "no-tiling": { type: "boolean", help: "the same as --enable_tiling false" },
    },
    examples: [
      "firstframe encode --model zai-org/CogVideoX1.5-5B-I2V kitten.mp4 --out latents",
      "firstframe encode --model DIR phone.mov --fps 16 --frames 81 --frame_extraction head",
      "firstframe encode --model DIR --data_root clips --train_resolution 81x768x1360 --shard 1/4",
      "firstframe encode --config lora.yaml",
    ],
    numerics: true,
  }),
  train: command({
    summary: "trains a CogVideoX image-to-video or text-to-video model: SFT or LoRA",
    usage: "--config FILE.yaml [options]",
    description:
      "What zai-org/CogVideo's fine-tuning does, with options of the same names, from a YAML file, from flags or from both; a flag wins. Latents are encoded once and kept. SIGINT and SIGTERM save a checkpoint and leave; --resume latest goes on from the newest one and ends with the same weights.",
    positionals: [0, 0],
    options: {
      config: { type: "string", value: "FILE", help: "YAML: one line an option, `learning_rate: 1e-4`" },
      "dry-run": { type: "boolean", help: "says what would happen, how much memory and time it takes" },
      schema: { type: "boolean", help: "prints a JSON Schema of the YAML file, for editors" },
      resume: { type: "string", value: "latest|DIR", help: "the same as --resume_from_checkpoint" },
      ...trainOptions,
    },
    refused: REFUSED_ARGUMENTS,
    examples: [
      "firstframe train --config lora.yaml --dry-run",
      "firstframe train --config lora.yaml --resume latest",
    ],
    numerics: true,
  }),
  launch: command({
    summary: "trains in several processes of this machine, as torchrun does",
    usage: "--nproc N -- train [options]",
    description:
      "Starts N processes of `firstframe train` with the arguments that follow, which train as one: every batch is batch_size clips of each. Their lines begin with their rank. Signals go to all; when one fails, all end. Several machines need no launcher: each process of `train` finds the others by TF_CONFIG (Kubeflow), by srun's variables, or by --hosts and --machine_rank. What ranks say to each other is not encrypted: use a network of their own; FIRSTFRAME_RANKS_SECRET, the same for all, keeps strangers out. Exit code 75: a rank is gone, and --resume latest goes on.",
    positionals: [0, 0],
    options: {
      nproc: { type: "integer", value: "N", min: 1, default: 2, help: "how many processes" },
    },
    passThrough: "firstframe train",
    examples: ["firstframe launch --nproc 2 -- train --config lora.yaml --resume latest"],
  }),
  sample: command({
    summary: "makes a video from an image and a prompt",
    usage: "--model MODEL --image FILE --prompt TEXT [options]",
    positionals: [0, 0],
    options: {
      model: modelOption,
      ...pickOptions("model_path", "revision"),
      image: { type: "string", value: "FILE", help: "the first frame; text-to-video models go without" },
      prompt: { type: "string", value: "TEXT", help: "what happens in the video" },
      "negative-prompt": { type: "string", value: "TEXT", help: "what to steer away from" },
      "prompt-embeds": {
        type: "string",
        value: "FILE",
        help: "instead of a prompt: safetensors with prompt_embeds (and negative_prompt_embeds), or a file of the latent cache's prompt_embeddings",
      },
      out: {
        type: "string",
        value: "FILE",
        default: "sample.mp4",
        help: ".mp4, .webp, .gif, or a folder for PNGs",
      },
      height: {
        type: "integer",
        value: "N",
        min: 1,
        help: "in pixels (default: the model's own; for CogVideoX 1.5 the picture's aspect within 768x1360)",
      },
      width: {
        type: "integer",
        value: "N",
        min: 1,
        help: "in pixels (default: the model's own; for CogVideoX 1.5 the picture's aspect within 768x1360)",
      },
      "num-frames": {
        type: "integer",
        value: "N",
        min: 1,
        help: "8N + 1 (default: the model's sample_frames)",
      },
      num_inference_steps: fromTable(ARGUMENTS.num_inference_steps, "denoising steps"),
      guidance_scale: fromTable(ARGUMENTS.guidance_scale, "how closely to follow the prompt; 1 is off"),
      "use-dynamic-cfg": { type: "boolean", help: "varies the guidance over the steps" },
      image_place: {
        type: "string",
        value: "NAME",
        choices: IMAGE_PLACES,
        default: ARGUMENTS.image_place.default,
        help: "at which latent frames the image lies, as in training",
      },
      padding: {
        type: "string",
        value: "NAME",
        choices: PADDINGS,
        default: ARGUMENTS.padding.default,
        help: "what fills the latent frames up to whole patches, as in training",
      },
      scheduler: {
        type: "string",
        value: "NAME",
        choices: ["ddim", "dpm"],
        help: "another scheduler than the model's, with trailing timesteps",
      },
      seed: fromTable(ARGUMENTS.seed, "of all noise"),
      fps: { type: "number", value: "X", min: 1, help: "of the video (default 16; 8 for 1.0 models)" },
      lora: {
        type: "string",
        value: "PATH|ID...",
        multiple: true,
        spread: "list",
        help: "LoRAs of diffusers, PEFT, kohya, musubi-tuner or ComfyUI; several add up",
      },
      "lora-weight-name": {
        type: "string",
        value: "FILE...",
        multiple: true,
        spread: "list",
        help: "the LoRA's file, where its folder has several under other names than theirs; one for each LoRA",
      },
      lora_alpha: {
        ...fromTable(
          ARGUMENTS.lora_alpha,
          "what it was trained with, where its file does not say; one for all or each",
        ),
        default: undefined,
        multiple: true,
        spread: "list",
      },
      "lora-scale": {
        type: "number",
        value: "X...",
        multiple: true,
        spread: "list",
        help: "a factor on it, of either sign; one for all or each (default 1)",
      },
      dtype: dtypeOption,
      quantization: {
        type: "string",
        value: "NAME",
        choices: QUANTIZATIONS,
        help: "of the linear layers' weights in T5 and transformer; int8 takes a byte a weight",
      },
      "enable-model-cpu-offload": {
        type: "boolean",
        help: "T5, VAE and transformer are in memory one after the other, read when they are needed",
      },
      "enable-sequential-cpu-offload": {
        type: "boolean",
        help: "of T5 and transformer one block at a time is in memory, read in every step: least memory, slowest",
      },
      cache_dir: {
        type: "string",
        value: "DIR",
        help: "a latent cache of `train` or `encode`: prompts whose embeddings are in it need no T5; new ones are added",
      },
      tiling: { type: "boolean", help: "the VAE works tile by tile, for less memory" },
      variant: { type: "string", value: "NAME", help: "weights of this name, such as fp16" },
      "max-sequence-length": {
        type: "integer",
        value: "N",
        min: 1,
        help: "tokens that prompts are cut off at",
      },
      "dry-run": { type: "boolean", help: "checks the flags and files, and says how much memory it takes" },
    },
    examples: [
      'firstframe sample --model zai-org/CogVideoX1.5-5B-I2V --image kitten.png --prompt "the kitten yawns"',
    ],
    numerics: true,
  }),
  "procedural dataset": command({
    summary: "writes procedural clips with captions as a data set, and held-out ones beside them",
    usage: "[options]",
    description:
      "Clips are lossless animated WebP, in the recipe's layout. Clip i is that of seed SEED + i, whatever the others are. Those in DIR/held-out are in no training: the small VAE's stays away from them, too. procedural.json says which scenes the clips show, so that train can measure motion when it validates with them.",
    positionals: [0, 0],
    options: {
      out: { type: "string", value: "DIR", default: "out/procedural", help: "where to write" },
      clips: { type: "integer", value: "N", min: 0, default: 1024, help: "how many to train on" },
      "held-out": { type: "integer", value: "N", min: 0, default: 32, help: "how many to validate with" },
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of the first clip" },
      ...clipOptions,
      sprites: {
        type: "integer",
        value: "N",
        min: 1,
        help: "in each clip (default: as many as the world has)",
      },
    },
    examples: ["firstframe procedural dataset --out out/procedural --clips 1200 --held-out 24"],
  }),
  "procedural pipeline": command({
    summary: "makes tokenizer, T5 and an untrained transformer around a small VAE",
    usage: "[options]",
    description:
      "In diffusers' layout, so that everything runs offline. The tokenizer knows the words of the clips' captions; T5 and the transformer, CogVideoX-1.5's in small, are drawn from the seed. With --text-steps, T5 is trained until each word tells all about the sprite that it is said of, which a transformer needs that is to move several of them.",
    positionals: [0, 0],
    options: {
      out: smallPipelineOption,
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of the weights" },
      vae: { type: "string", value: "DIR", help: "the folder of a small VAE (default: the one in --out)" },
      worlds: {
        type: "string",
        value: "NAME[,NAME...]",
        default: "full",
        help: `whose captions' words the tokenizer knows: ${WORLD_NAMES.join(", ")}, or all`,
      },
      "text-layers": { type: "integer", value: "N", min: 1, default: 2, help: "blocks of T5" },
      "text-steps": { type: "integer", value: "N", min: 0, default: 0, help: "of T5's training; 0 for none" },
      layers: { type: "integer", value: "N", min: 1, default: 2, help: "blocks of the transformer" },
      heads: { type: "integer", value: "N", min: 1, default: 6, help: "its heads, of 32 channels each" },
      "patch-size": {
        type: "integer",
        value: "N",
        min: 1,
        default: 2,
        help: "its patches' height and width",
      },
    },
    examples: [
      "firstframe procedural pipeline --out out/moving --vae out/small-vae/vae --worlds all --text-steps 600",
    ],
    numerics: true,
  }),
  "procedural train-transformer": command({
    summary: "trains a small pipeline's transformer until sprites move as they are told, and measures it",
    usage: "[options]",
    description:
      "On clips that are drawn as they are needed, from the newest checkpoint in --work on. A tenth of the captions is dropped, and 30 % of the timesteps are the last one, pure noise, where image and caption alone say what moves. At intervals held-out clips are sampled, measured as by `procedural evaluate`, and drawn in --work. From then on the moving average of the weights is the pipeline's transformer.",
    positionals: [0, 0],
    options: {
      model: { ...smallPipelineOption, default: "out/moving", help: "the pipeline's folder" },
      work: {
        type: "string",
        value: "DIR",
        default: "out/moving-work",
        help: "checkpoints, losses and pictures",
      },
      from: { type: "string", value: "DIR", help: "a transformer to begin with (default: random weights)" },
      worlds: {
        type: "string",
        value: "NAME[,NAME...]",
        help: "that clips are drawn from in turn, or all; one named twice is drawn twice as often (default: --world)",
      },
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of everything that is drawn" },
      steps: { type: "integer", value: "N", min: 1, default: 400, help: "optimizer steps" },
      clips: { type: "integer", value: "N", min: 1, default: 1600, help: "drawn before one comes again" },
      "batch-size": { type: "integer", value: "N", min: 1, default: 32, help: "clips a step" },
      "learning-rate": { type: "number", value: "X", above: 0, default: 3e-3, help: "at its height" },
      "lr-scheduler": {
        type: "string",
        value: "NAME",
        choices: ["constant_with_warmup", "cosine"],
        default: "cosine",
        help: "constant_with_warmup for a training that is to be gone on from",
      },
      "mixed-precision": {
        type: "string",
        value: "NAME",
        choices: ARGUMENTS.mixed_precision.choices,
        default: ARGUMENTS.mixed_precision.default,
        help: ARGUMENTS.mixed_precision.help,
      },
      "evaluation-steps": { type: "integer", value: "N", min: 1, default: 100, help: "between looks" },
      "evaluation-clips": {
        type: "integer",
        value: "N",
        min: 1,
        default: 12,
        help: "held-out clips of a look",
      },
      ...clipOptions,
      frames: { ...clipOptions.frames, min: 2 },
      width: { ...clipOptions.width, default: 64 },
    },
    examples: ["firstframe procedural train-transformer --model out/moving --world plain --steps 400"],
    numerics: true,
  }),
  "procedural train": command({
    summary: "trains a pipeline of procedural clips from nothing: VAE, T5, transformer",
    usage: "[options]",
    description:
      "Part by part, with the settings of notebooks/models/moving: a VAE of 4x in space at 8 and 16 frames per second, a T5 that knows which word belongs to which sprite, and a transformer, on clips of all worlds. It takes hours, goes on where it was stopped, and does not train again what --out holds already; the single parts are `procedural train-vae`, `procedural pipeline` and `procedural train-transformer`.",
    positionals: [0, 0],
    options: {
      out: { type: "string", value: "DIR", default: "out/moving", help: "the pipeline's folder" },
      work: {
        type: "string",
        value: "DIR",
        default: "out/moving-work",
        help: "checkpoints, losses and pictures",
      },
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of everything that is drawn" },
      "vae-steps": {
        type: "integer",
        value: "N",
        min: 1,
        default: PIPELINE_TRAINING.vae.trainSteps,
        help: "optimizer steps of the VAE",
      },
      "text-steps": {
        type: "integer",
        value: "N",
        min: 0,
        default: PIPELINE_TRAINING.text.textSteps,
        help: "of T5",
      },
      steps: {
        type: "integer",
        value: "N",
        min: 1,
        default: PIPELINE_TRAINING.training.steps,
        help: "of the transformer",
      },
      "evaluation-clips": {
        type: "integer",
        value: "N",
        min: 1,
        default: PIPELINE_TRAINING.training.evaluationClips,
        help: "held-out clips of a look at how sprites move",
      },
    },
    examples: ["firstframe procedural train --out out/moving"],
    numerics: true,
  }),
  "procedural train-vae": command({
    summary: "trains a small VAE on procedural clips, and measures it",
    usage: "[options]",
    description:
      "Goes on from the newest checkpoint in --work. The learning rate stays the same until --decay-steps before the end, so a run that was stopped before then and goes on with more --steps is the same run as one with so many from the start. At the end held-out clips are measured, and the VAE goes to --out with its figures, vae-training.json.",
    positionals: [0, 0],
    options: {
      out: smallPipelineOption,
      work: { type: "string", value: "DIR", default: "out/small-vae", help: "checkpoints and losses" },
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of everything that is drawn" },
      steps: { type: "integer", value: "N", min: 1, default: 600, help: "optimizer steps" },
      ratio: {
        type: "string",
        value: "N",
        choices: ["8", "4"],
        default: "8",
        help: "pixels in height and width that become one latent pixel",
      },
      from: { type: "string", value: "DIR", help: "a VAE to begin with (default: random weights)" },
      "image-steps": {
        type: "integer",
        value: "N",
        min: 0,
        default: 250,
        help: "the first see single images",
      },
      "decay-steps": { type: "integer", value: "N", min: 0, default: 250, help: "the last slow down to 0" },
      export: { type: "boolean", help: "trains no more and takes the newest checkpoint as it is" },
    },
    numerics: true,
  }),
  "procedural store-transformer": command({
    summary: "puts a trained transformer into the small pipeline, with what it scores",
    usage: "[options]",
    description:
      "The newest checkpoint's moving average is stored in float16, with transformer-training.json: settings, curves, and scores on the validation set next to an untrained transformer, the first frame repeated and the VAE's own reconstruction.",
    positionals: [0, 0],
    options: {
      config: {
        type: "string",
        value: "FILE",
        default: "notebooks/models/procedural/train.yaml",
        help: "the training's YAML file",
      },
      out: { type: "string", value: "DIR", help: "the pipeline's folder (default: the trained model's)" },
      note: { type: "string", value: "TEXT", help: "goes into the figures: what the file does not say" },
    },
    numerics: true,
  }),
  "procedural evaluate": command({
    summary: "measures whether a pipeline makes procedural clips move as their captions say",
    usage: "[options]",
    description:
      "Samples held-out clips from their first frames: which share of each sprite is left after 0.5, 1 and 2 seconds, whether it goes the right way, whether it goes the other way when the caption says so (swap), how much the ground flickers, PSNR and SSIM. Beside it: the first frame repeated (still), the true clips through the VAE, an untrained transformer, and an oracle that knows first frame and caption alone.",
    positionals: [0, 0],
    options: {
      model: { ...smallPipelineOption, help: "the pipeline's folder" },
      clips: { type: "integer", value: "N", min: 1, default: 128, help: "how many held-out clips" },
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of the first clip, and of the noise" },
      steps: { type: "string", value: "N[,N...]", default: "10", help: "denoising steps" },
      guidance: { type: "string", value: "X[,X...]", help: "guidance scales (default: the pipeline's own)" },
      ...clipOptions,
      frames: { ...clipOptions.frames, min: 2 },
      strip: { type: "string", value: "FILE", help: "a picture of the first twelve clips and their samples" },
      film: {
        type: "string",
        value: "FILE",
        help: "an animation (.webp, .gif, .mp4) of them side by side: the clip, its samples, and those with directions reversed in the caption",
      },
      json: { type: "boolean", help: "print the figures as JSON" },
    },
    examples: ["firstframe procedural evaluate --clips 32 --steps 1,4,10 --guidance 1,6"],
    numerics: true,
  }),
  "procedural real-size": command({
    summary: "writes a pipeline as large as the real one, with weights that mean nothing",
    usage: "DIR [options]",
    description:
      "CogVideoX1.5-5B-I2V with T5-XXL by their published configurations, in bfloat16 and in shards: about 21 GB, to try what memory and time the real weights take.",
    positionals: [1, 1],
    options: {
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of the weights" },
      layers: { type: "integer", value: "N", min: 1, default: 42, help: "blocks of the transformer" },
      "text-layers": { type: "integer", value: "N", min: 1, default: 24, help: "blocks of T5" },
    },
    examples: ["firstframe procedural real-size /data/real-size"],
  }),
  "procedural overfit-clip": command({
    summary: "lets a LoRA learn one clip by heart, and draws what it samples",
    usage: "--clip FILE [options]",
    description:
      "Writes strip.png (the clip; what the VAE leaves of it; sampled without and with the LoRA), figures.json with PSNR and SSIM of the frames after the first, and the training's folder.",
    positionals: [0, 0],
    options: {
      clip: { type: "string", value: "FILE", help: "a clip of at least as many frames as --resolution" },
      caption: { type: "string", value: "TEXT", help: "what it shows (default: its file's name)" },
      model: { ...smallPipelineOption, help: "the pipeline's folder" },
      out: { type: "string", value: "DIR", default: "out/overfit", help: "where to write" },
      resolution: { type: "string", value: "FxHxW", default: "17x64x96", help: "frames, height, width" },
      steps: { type: "integer", value: "N", min: 1, default: 300, help: "optimizer steps" },
      rank: { type: "integer", value: "N", min: 1, default: 32, help: "of the LoRA" },
      "learning-rate": { type: "number", value: "X", min: 0, default: 5e-3, help: "after warm-up" },
      "sampling-steps": { type: "integer", value: "N", min: 1, default: 4, help: "denoising steps" },
      seed: { type: "integer", value: "N", min: 0, default: 0, help: "of everything that is drawn" },
    },
    examples: ['firstframe procedural overfit-clip --clip kitten.mp4 --caption "a kitten" --steps 200'],
    numerics: true,
  }),
  bench: command({
    summary:
      "times the models on this machine's engine, on the weights and inputs that PyTorch is timed with",
    usage: "--weights DIR [options]",
    description:
      "DIR is what test/bench/peer_torch.py wrote. Each row runs in a process of its own: median seconds, peak memory, and how far the numbers are from PyTorch's. `npm run bench` times both in turn.",
    positionals: [0, 0],
    options: {
      weights: { type: "string", value: "DIR", help: "the folder with models, inputs and expected outputs" },
      only: {
        type: "string",
        value: "NAMES",
        default: "*",
        help: "names or patterns, with commas between them",
      },
      repeat: { type: "integer", value: "N", min: 1, default: 5, help: "timed runs of each" },
      threads: { type: "integer", value: "N", min: 1, default: 2, help: "threads that may compute" },
      checkpointing: { type: "boolean", help: "gradient checkpointing in the training steps" },
      dtype: dtypeOption,
      json: { type: "boolean", help: "print as JSON, as peer_torch.py does" },
    },
  }),
  start: command({
    summary: "sets everything up and executes every notebook: what `npm start` does",
    usage: "[options]",
    description:
      "Installs an engine (or says in one line why it stays with wasm) and, into the project's own folder, the kernel; then runs the tutorials and writes them, with a web page of each. In a project that installed the package they are copied to firstframe-tutorials first.",
    positionals: [0, 0],
    options: {
      out: { type: "string", value: "DIR", help: "where to write", default: "out" },
      jobs: {
        type: "integer",
        value: "N",
        short: "j",
        min: 1,
        default: 1,
        help: "how many notebooks run at a time",
      },
    },
  }),
} as const;

export type CommandName = keyof typeof commands;
