/** Models by their id on the Hugging Face Hub, from a Hub on this machine. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { cp, mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { CogVideoXDDIMScheduler } from "../../../src/diffusion/ddim.js";
import { CogVideoXDPMScheduler } from "../../../src/diffusion/dpm.js";
import { CogVideoXImageToVideoPipeline } from "../../../src/diffusion/image-to-video.js";
import { useEngine } from "../../../src/engine/index.js";
import { T5EncoderModel } from "../../../src/models/text/t5-encoder.js";
import { T5Tokenizer } from "../../../src/models/text/tokenizer.js";
import { CogVideoXTransformer3DModel } from "../../../src/models/transformer/transformer.js";
import { AutoencoderKLCogVideoX } from "../../../src/models/vae/autoencoder.js";
import { modelFiles, resolveModel } from "../../../src/weights/hub.js";
import { tinyPipeline } from "../diffusion/tiny.js";
import { missingPython } from "../roundtrip/python.js";
import { etagOf, filesOf, HubServer, MAIN } from "./hub-server.js";

const golden = resolve("test/golden/components");
const loader = fileURLToPath(new URL("hub-load.js", import.meta.url));
/** What Python's libraries and ours are told of the Hub by. */
const VARIABLES = [
  "HF_HOME",
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "HF_TOKEN",
  "HF_TOKEN_PATH",
  "HUGGING_FACE_HUB_TOKEN",
  "HF_ENDPOINT",
  "HF_HUB_OFFLINE",
  "TRANSFORMERS_OFFLINE",
  "HF_HUB_DISABLE_PROGRESS_BARS",
  "HF_HUB_ETAG_TIMEOUT",
  "HF_HUB_DOWNLOAD_TIMEOUT",
  "XDG_CACHE_HOME",
];
const set = (values: Record<string, string | undefined>) => {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
};
const saved = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));

let server: HubServer;
let folder: string;
/** A pipeline's folder, its weights in several files, and that with all that a repository has besides. */
let model: string;
let home: string;
const storage = (id = "org/tiny") => join(home, "hub", `models--${id.replace("/", "--")}`);
const snapshot = (id?: string, commit = MAIN) => join(storage(id), "snapshots", commit);
/** Random weights: what resolves files does not read them. */
const big = randomBytes(4_000_000);
const BIG = "diffusion_pytorch_model.safetensors";
const bigFiles = new Map([
  ["config.json", Buffer.from("{}")],
  [BIG, big],
]);
const bigBlob = () => join(storage("org/big"), "blobs", etagOf(BIG, big));

before(async () => {
  await useEngine("cpu");
  server = await HubServer.start();
  folder = await mkdtemp(join(tmpdir(), "firstframe-hub-"));
  model = join(folder, "model");
  const pipe = tinyPipeline();
  await pipe.savePretrained(model, { maxShardSize: "50KB" });
  pipe.dispose();
  const files = filesOf(model);
  for (const [path, text] of Object.entries({
    "README.md": "# tiny",
    "assets/kitten.png": "picture",
    "transformer/diffusion_pytorch_model.bin": "pickle",
    "vae/diffusion_pytorch_model.fp16.safetensors": "half",
    "text_encoder/flax_model.msgpack": "flax",
    "tokenizer/special_tokens_map.json": "{}",
    "onnx/model.onnx": "onnx",
  }))
    files.set(path, Buffer.from(text));
  server.add("org/tiny", files);
  server.add("org/big", bigFiles);
  server.add("org/vae", filesOf(join(golden, "vae")));
});
beforeEach(async () => {
  home = await mkdtemp(join(folder, "home-"));
  set(Object.fromEntries(VARIABLES.map((name) => [name, undefined])));
  set({ HF_HOME: home, HF_ENDPOINT: server.url });
});
afterEach(async () => {
  server.reset();
  await rm(home, { recursive: true, force: true });
});
after(async () => {
  set(saved);
  await server.close();
  await rm(folder, { recursive: true });
});

const fetchBig = () => resolveModel("org/big", {}, modelFiles());
const failure = async (run: () => Promise<unknown>): Promise<string> => {
  const error = await run().then(
    () => assert.fail("expected an error"),
    (error: Error) => error,
  );
  assert.equal(error.name, "HubError", error.stack);
  assert.ok(!error.message.includes("\n"), error.message);
  return error.message;
};
/** Everything of a cache that is not a finished part of it. */
const leftovers = () => {
  if (!existsSync(home)) return [];
  const names = readdirSync(home, { recursive: true }) as string[];
  return names.filter((name) => /\.(part|etag|tmp|lock|incomplete)$/.test(name));
};

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{ stdout: string; stderr: string }>;
}

function start(id: string, env: NodeJS.ProcessEnv = {}): Run {
  return startBy([process.execPath, loader, id], env);
}

function startBy([command, ...args]: string[], env: NodeJS.ProcessEnv = {}): Run {
  const child = spawn(command!, args, { env: { ...process.env, ...env } });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk);
  });
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const ended = new Promise<{ stdout: string; stderr: string }>((done) =>
    child.on("close", () => done({ stdout: stdout.trim(), stderr })),
  );
  return { child, ended };
}

test("a tutorial that stands elsewhere finds the models of the package, and a folder of its own goes first", async () => {
  const before = process.cwd();
  const elsewhere = await mkdtemp(join(tmpdir(), "firstframe-elsewhere-"));
  try {
    process.chdir(elsewhere);
    const vae = await AutoencoderKLCogVideoX.fromPretrained("models/procedural/vae");
    vae.dispose();
    await mkdir("models/procedural", { recursive: true });
    assert.equal(await resolveModel("models/procedural", {}, modelFiles()), "models/procedural");
  } finally {
    process.chdir(before);
    await rm(elsewhere, { recursive: true });
  }
});

describe("a pipeline", () => {
  test("is downloaded once, in the files that it is read from, into the layout of Python's cache", async () => {
    const pipe = await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny");
    const local = await CogVideoXImageToVideoPipeline.fromPretrained(model);
    for (const [name, parameter] of local.transformer.parameters)
      assert.deepEqual(await pipe.transformer.parameters.get(name)!.values(), await parameter.values(), name);
    pipe.dispose();
    local.dispose();

    const needed = [...filesOf(model).keys()].concat("tokenizer/special_tokens_map.json").sort();
    assert.ok(needed.some((path) => /-of-0000\d\.safetensors$/.test(path)));
    assert.deepEqual(server.fetched, needed);
    assert.deepEqual([...filesOf(snapshot()).keys()], needed);
    for (const [path, content] of filesOf(model)) {
      const pointer = join(snapshot(), path);
      const blob = join(storage(), "blobs", etagOf(path, content));
      assert.equal(resolve(dirname(pointer), readlinkSync(pointer)), blob);
      assert.ok(readlinkSync(pointer).startsWith("../"), "the cache can be moved");
      assert.deepEqual(readFileSync(pointer), content);
    }
    assert.equal(readFileSync(join(storage(), "refs", "main"), "utf8"), MAIN);
    assert.deepEqual(leftovers(), []);

    server.requests.length = 0;
    (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")).dispose();
    assert.deepEqual(server.requests, [], "what is there whole needs no server");
  });

  test("leaves what is given or not wanted where it is", async () => {
    const vae = await AutoencoderKLCogVideoX.fromPretrained(join(model, "vae"));
    const options = { vae, textEncoder: null, tokenizer: null };
    (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny", options)).dispose();
    assert.ok(server.fetched.some((path) => path.startsWith("transformer/")));
    assert.ok(
      !server.fetched.some((path) => /^(vae|text_encoder|tokenizer)\//.test(path)),
      `${server.fetched}`,
    );
  });

  test("of another class, or without safetensors, is refused before its weights come", async () => {
    const files = new Map(server.repos.get("org/tiny")!.commits.get(MAIN));
    for (const path of files.keys())
      if (/^transformer\/.*(safetensors|index\.json)$/.test(path)) files.delete(path);
    server.add("org/pickles", files);
    assert.match(
      await failure(() => CogVideoXImageToVideoPipeline.fromPretrained("org/pickles")),
      /^org\/pickles \(revision main\): it has neither transformer\/diffusion_pytorch_model\.safetensors\.index\.json nor transformer\/diffusion_pytorch_model\.safetensors, only transformer\/diffusion_pytorch_model\.bin$/,
    );
    assert.ok(!server.fetched.some((path) => path.endsWith(".bin") || /vae.*safetensors$/.test(path)));

    const index = JSON.parse(String(files.get("model_index.json"))) as object;
    files.set("model_index.json", Buffer.from(JSON.stringify({ ...index, _class_name: "FluxPipeline" })));
    server.add("org/other", files);
    server.requests.length = 0;
    await assert.rejects(
      CogVideoXImageToVideoPipeline.fromPretrained("org/other"),
      /model_index\.json: expected CogVideoXImageToVideoPipeline, found FluxPipeline/,
    );
    assert.deepEqual(server.fetched, ["model_index.json"]);
  });

  test("goes to the cache that the environment names", async () => {
    const [a, b, c] = ["a", "b", "c"].map((name) => join(home, name));
    for (const [env, cache] of [
      [{ XDG_CACHE_HOME: a, HF_HOME: undefined }, join(a!, "huggingface/hub")],
      [{ HF_HOME: b }, join(b!, "hub")],
      [{ HUGGINGFACE_HUB_CACHE: c }, c!],
      [{ HF_HUB_CACHE: join(home, "d") }, join(home, "d")],
    ] as const) {
      set(env);
      assert.equal(await fetchBig(), join(cache, "models--org--big", "snapshots", MAIN));
    }
    const cacheDir = join(home, "e");
    const found = await resolveModel("org/big", { cacheDir }, modelFiles());
    assert.ok(found.startsWith(cacheDir));
  });
});

describe("a single model", () => {
  test("comes from a subfolder, and alone", async () => {
    const vae = await AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "vae" });
    const { in_channels: channels } = vae.config;
    vae.dispose();
    assert.equal(channels, 3);
    assert.ok(
      server.fetched.every(
        (path) =>
          /^vae\/(config|diffusion_pytorch_model[^.])/.test(path) ||
          path === "vae/diffusion_pytorch_model.safetensors.index.json",
      ),
      `${server.fetched}`,
    );

    const tokenizer = await T5Tokenizer.fromPretrained("org/tiny", { subfolder: "tokenizer" });
    assert.equal(tokenizer.decode(tokenizer.tokenize("a red ball")), "a red ball");
    (await T5EncoderModel.fromPretrained("org/tiny", { subfolder: "text_encoder" })).dispose();
    const place = { subfolder: "scheduler" };
    const scheduler = await CogVideoXDDIMScheduler.fromPretrained("org/tiny", {
      ...place,
      snr_shift_scale: 3,
    });
    assert.deepEqual(
      [scheduler.config.prediction_type, scheduler.config.snr_shift_scale],
      ["v_prediction", 3],
    );
    await CogVideoXDPMScheduler.fromPretrained("org/tiny", place);
    assert.ok(!server.fetched.some((path) => path.startsWith("transformer/")));
    assert.ok(!existsSync(join(snapshot(), "model_index.json")));

    const message = await failure(() =>
      AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "unet" }),
    );
    assert.equal(message, "org/tiny (revision main): it has no unet/config.json");
  });

  test("comes from the root of its repository, and in a variant", async () => {
    const vae = await AutoencoderKLCogVideoX.fromPretrained("org/vae");
    vae.dispose();
    assert.deepEqual(server.fetched, ["config.json", BIG]);
    const found = await resolveModel("org/tiny", { subfolder: "vae" }, modelFiles({ variant: "fp16" }));
    assert.deepEqual([...filesOf(found).keys()], ["config.json", "diffusion_pytorch_model.fp16.safetensors"]);
  });

  test("is a LoRA: a file by name, diffusers' or PEFT's", async () => {
    const lora = readFileSync(join(golden, "lora_demo/pytorch_lora_weights.safetensors"));
    const files = filesOf(join(golden, "t15"));
    const transformer = await CogVideoXTransformer3DModel.fromPretrained(join(golden, "t15"));
    server.add(
      "org/lora",
      new Map([["pytorch_lora_weights.safetensors", lora], ["big.safetensors", big], ...files]),
    );
    server.add(
      "org/named",
      new Map([
        ["step-100.safetensors", lora],
        ["step-200.safetensors", big],
      ]),
    );
    server.add("org/only", new Map([["mine.safetensors", lora]]));
    const peft = JSON.stringify({ r: 4, lora_alpha: 8, peft_type: "LORA" });
    const adapter = [
      ["a/adapter_model.safetensors", lora] as const,
      ["a/adapter_config.json", Buffer.from(peft)] as const,
    ];
    server.add("org/peft", new Map(adapter));
    try {
      await transformer.loadLoraAdapter("org/lora");
      await transformer.loadLoraAdapter("org/named", {
        adapterName: "b",
        weightName: "step-100.safetensors",
      });
      const { config } = await transformer.loadLoraAdapter("org/peft", { adapterName: "c", subfolder: "a" });
      assert.equal(config.loraAlpha, 8);
      assert.deepEqual(server.fetched, [
        "a/adapter_config.json",
        "a/adapter_model.safetensors",
        "pytorch_lora_weights.safetensors",
        "step-100.safetensors",
      ]);
      const only = await transformer.loadLoraAdapter("org/only", { adapterName: "only" });
      assert.equal(
        only.layers.size,
        transformer.adapter("b").layers.size,
        "the only file, whatever its name",
      );
      assert.match(
        await failure(() => transformer.loadLoraAdapter("org/named", { adapterName: "d" })),
        /neither pytorch_lora_weights\.safetensors nor adapter_model\.safetensors nor .*\.bin, only step-100\.safetensors, step-200\.safetensors$/,
      );
    } finally {
      transformer.dispose();
    }
  });

  test("comes at a branch, a tag or a commit", async () => {
    const repo = server.add("org/moving", bigFiles);
    const older = "a".repeat(40);
    repo.commits.set(older, new Map([...bigFiles, ["config.json", Buffer.from('{"old":1}')]]));
    repo.refs.set("refs/pr/1", older).set("v1.0", older);
    const at = (revision?: string) => resolveModel("org/moving", { revision }, modelFiles());
    assert.equal(await at("refs/pr/1"), snapshot("org/moving", older));
    assert.equal(await at("v1.0"), snapshot("org/moving", older));
    assert.equal(await at(older), snapshot("org/moving", older));
    assert.equal(await at(), snapshot("org/moving"));
    const ref = (name: string) => readFileSync(join(storage("org/moving"), "refs", name), "utf8");
    assert.deepEqual([ref("refs/pr/1"), ref("v1.0"), ref("main")], [older, older, MAIN]);
    assert.equal(server.sent(big), big.length, "a blob is fetched once for all commits");

    const message = await failure(() => at("v2.0"));
    assert.equal(message, `org/moving: ${server.url} has no revision v2.0 of it`);
    for (const revision of ["../../x", "a/../b", "/x", "a//b", ""])
      assert.match(await failure(() => at(revision)), /revision: expected a branch, tag or commit, found "/);
  });
});

describe("folders of this machine", () => {
  test("come first, and no server is asked", async () => {
    set({ HF_ENDPOINT: server.url });
    const here = process.cwd();
    process.chdir(folder);
    try {
      await cp(model, join(folder, "org/tiny"), { recursive: true });
      (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")).dispose();
      (await AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "vae" })).dispose();
      (await AutoencoderKLCogVideoX.fromPretrained("org/tiny/vae")).dispose();
      await rm(join(folder, "org/tiny/vae/config.json"));
      await assert.rejects(
        AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "vae" }),
        /org\/tiny\/vae\/config\.json: no such file/,
      );
    } finally {
      process.chdir(here);
      await rm(join(folder, "org"), { recursive: true });
    }
    assert.deepEqual(server.requests, []);
  });

  test("a name that is neither a folder nor an id is told so", async () => {
    for (const name of [
      "",
      "nothing",
      "./a/b",
      "/a/b",
      "a/b/c",
      "../b",
      "-a/b",
      "a/b.",
      "a--b/c",
      "a b/c",
      "a/b.git",
      "loras/kitten.safetensors",
    ]) {
      assert.equal(
        await failure(() => AutoencoderKLCogVideoX.fromPretrained(name)),
        `${name}: no such file or folder, and not the id of a model on the Hugging Face Hub, such as zai-org/CogVideoX1.5-5B-I2V`,
      );
    }
    assert.deepEqual(server.requests, []);
  });

  test("need no client of the Hub: it is loaded with the first download", async () => {
    const hooks = join(folder, "hooks.mjs");
    const list = join(folder, "loaded.txt");
    await writeFile(
      hooks,
      `import { appendFileSync } from "node:fs";
       import { register } from "node:module";
       if (import.meta.url.endsWith("#hooks")) undefined; else register(import.meta.url + "#hooks");
       export async function load(url, context, next) { appendFileSync(${JSON.stringify(list)}, url + "\\n"); return next(url, context); }`,
    );
    const run = async (id: string) => {
      await rm(list, { force: true });
      const program = `
        import { AutoencoderKLCogVideoX, useEngine } from ${JSON.stringify(new URL("../../../src/index.js", import.meta.url).href)};
        await useEngine("cpu");
        (await AutoencoderKLCogVideoX.fromPretrained(${JSON.stringify(id)})).dispose();`;
      const child = spawn(process.execPath, ["--import", hooks, "--input-type=module", "-e", program], {
        stdio: "inherit",
      });
      assert.equal(await new Promise((done) => child.on("close", done)), 0);
      return readFileSync(list, "utf8").split("\n");
    };
    const isClient = (url: string) => url.endsWith("/vendor/hub.js");
    const local = await run(join(golden, "vae"));
    assert.ok(local.some((url) => url.endsWith("/weights/hub.js")));
    assert.deepEqual(local.filter(isClient), []);
    assert.ok((await run("org/vae")).some(isClient));
    assert.deepEqual((await run("org/vae")).filter(isClient), [], "nor does the cache need it");
  });
});

describe("without a network", () => {
  const whereTo = () => `(${join(home, "hub")})`;

  test("one line says what was looked for, where, and how to fetch it", async () => {
    const gone = await HubServer.start();
    await gone.close();
    set({ HF_ENDPOINT: gone.url });
    assert.equal(
      await failure(() => CogVideoXImageToVideoPipeline.fromPretrained("zai-org/CogVideoX1.5-5B-I2V")),
      `zai-org/CogVideoX1.5-5B-I2V: no such folder; the Hugging Face cache ${whereTo()} has no zai-org/CogVideoX1.5-5B-I2V at revision main, and ${gone.url} can't be reached (connect ECONNREFUSED ${gone.url.slice(7)}); where there is a network, \`hf download zai-org/CogVideoX1.5-5B-I2V\` fetches it`,
    );
    const place = { subfolder: "vae", revision: "v1" };
    assert.match(
      await failure(() => AutoencoderKLCogVideoX.fromPretrained("org/tiny", place)),
      /has no vae of org\/tiny at revision v1, .*`hf download org\/tiny --revision v1 --include "vae\/\*"` fetches it$/,
    );
    assert.deepEqual(readdirSync(home), [], "and nothing is written");
  });

  test("HF_HUB_OFFLINE and localFilesOnly ask nobody", async () => {
    for (const [name, value] of [
      ["HF_HUB_OFFLINE", "1"],
      ["HF_HUB_OFFLINE", "true"],
      ["TRANSFORMERS_OFFLINE", "YES"],
    ] as const) {
      set({ HF_HUB_OFFLINE: undefined, [name]: value });
      assert.match(
        await failure(fetchBig),
        /HF_HUB_OFFLINE or localFilesOnly forbids asking http.*`hf download org\/big` fetches it$/,
      );
      set({ [name]: undefined });
    }
    const options = { localFilesOnly: true };
    assert.match(await failure(() => resolveModel("org/big", options, modelFiles())), /localFilesOnly/);
    assert.deepEqual(server.requests, []);

    set({ HF_HUB_OFFLINE: "0" });
    await fetchBig();
    set({ HF_HUB_OFFLINE: "1" });
    server.requests.length = 0;
    assert.equal(await fetchBig(), snapshot("org/big"));
    assert.deepEqual(server.requests, []);
  });

  test("what the cache has of it is said, also where a link leads nowhere", async () => {
    await AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "vae" }).then((vae) =>
      vae.dispose(),
    );
    set({ HF_HUB_OFFLINE: "1" });
    assert.match(
      await failure(() => CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")),
      /^org\/tiny: no such folder; the Hugging Face cache .* has it at revision main only in part: it has no model_index\.json, and/,
    );
    const shard = server.fetched.find((path) => path.includes("-00001-of-"))!;
    await rm(join(dirname(join(snapshot(), shard)), readlinkSync(join(snapshot(), shard))));
    const again = () => AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "vae" });
    assert.ok((await failure(again)).includes(`only in part: it has no ${shard}`));
    set({ HF_HUB_OFFLINE: undefined });
    server.requests.length = 0;
    (await again()).dispose();
    assert.deepEqual(server.fetched, [shard], "only that is fetched");
  });

  test("a server that is slow, down or no Hub is told so", async () => {
    set({ HF_HUB_ETAG_TIMEOUT: "0.3" });
    server.api = () => true;
    assert.match(await failure(fetchBig), /can't be reached \(The operation was aborted due to timeout\)/);
    server.api = (_, response) =>
      Boolean(response.writeHead(200, { "content-type": "text/html" }).end("<html>log in</html>"));
    assert.match(await failure(fetchBig), /the answer of http:\S+ is not the Hub's \(Unexpected token/);
    server.api = (_, response) => Boolean(response.writeHead(200).end('{"sha":"../../x"}'));
    assert.match(await failure(fetchBig), /is not the Hub's \(no commit, but "\.\.\/\.\.\/x"\)/);
    server.api = (_, response) => Boolean(response.writeHead(503).end());
    assert.match(await failure(fetchBig), /answered 503 Service Unavailable; try again later$/);
    set({ HF_ENDPOINT: "nonsense" });
    assert.equal(await failure(fetchBig), "HF_ENDPOINT: expected an address, found nonsense");
  });
});

describe("access", () => {
  test("the token goes to the Hub and to nobody else, wherever it comes from", async () => {
    const authorized = () => server.requests.filter(({ authorization }) => authorization !== undefined);
    const file = join(home, "other-token");
    await mkdir(home, { recursive: true });
    await writeFile(file, " hf_file\n");
    for (const [token, env, options] of [
      ["hf_variable", { HF_TOKEN: "hf_variable\n" }, {}],
      ["hf_file", { HF_TOKEN: undefined, HF_TOKEN_PATH: file }, {}],
      ["hf_stored", { HF_TOKEN_PATH: undefined }, {}],
      ["any prefix", { HF_TOKEN: "hf_variable" }, { token: "any prefix" }],
    ] as const) {
      set(env);
      await rm(join(home, "hub"), { recursive: true, force: true });
      if (token === "hf_stored") await writeFile(join(home, "token"), "hf_stored");
      server.requests.length = 0;
      await resolveModel("org/big", options, modelFiles());
      assert.ok(server.requests.some(({ server }) => server === "cdn"));
      assert.deepEqual(
        authorized(),
        server.requests.filter(({ server }) => server === "hub"),
        token,
      );
      assert.deepEqual(
        [...new Set(authorized().map(({ authorization }) => authorization))],
        [`Bearer ${token}`],
      );
    }
    // A listing that goes on at another host must not get it either.
    await rm(join(home, "hub"), { recursive: true });
    server.pageSize = 1;
    server.nextPageAt = server.cdnUrl;
    server.requests.length = 0;
    await failure(fetchBig);
    assert.ok(server.requests.some(({ server, path }) => server === "cdn" && path.includes("/tree/")));
    assert.ok(authorized().every(({ server }) => server === "hub"));
  });

  test("an answer that others on the way could change is not taken, and nothing is sent there", async () => {
    const insecure = "http://hub.invalid/there";
    const refused =
      /http:\/\/hub\.invalid\S*: expected an https address, found http:\/\/, .*; HF_ENDPOINT names/;
    set({ HF_TOKEN: "hf_secret", HF_ENDPOINT: "http://hub.invalid" });
    assert.match(await failure(fetchBig), refused);
    assert.deepEqual(server.requests, []);

    set({ HF_ENDPOINT: server.url });
    server.api = (_, response) => {
      response.writeHead(307, { location: insecure }).end();
      return true;
    };
    assert.match(await failure(fetchBig), refused);
    server.api = (request, response) => {
      response.writeHead(307, { location: server.cdnUrl + request.url }).end();
      return true;
    };
    server.requests.length = 0;
    await failure(fetchBig);
    assert.deepEqual(
      server.requests.map(({ server, authorization }) => [server, authorization]),
      [
        ["hub", "Bearer hf_secret"],
        ["cdn", undefined],
      ],
    );

    server.api = undefined;
    const { cdnUrl } = server;
    server.cdnUrl = "http://hub.invalid";
    try {
      assert.match(await failure(fetchBig), refused);
    } finally {
      server.cdnUrl = cdnUrl;
    }
    assert.ok(!existsSync(bigBlob()));
  });

  test("a listing without sizes is told so", async () => {
    for (const size of [Number.NaN, -1, 0.5]) {
      server.fault(BIG).listedSize = size;
      assert.match(
        await failure(fetchBig),
        /^org\/big .*the Hub gives no size of diffusion_pytorch_model\.safetensors, but (null|-1|0\.5)$/,
      );
    }
  });

  test("a listing of many pages is read to its end", async () => {
    server.pageSize = 7;
    (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")).dispose();
  });

  test("missing, private and gated models are told apart, in one line each", async () => {
    const find = (id: string) => failure(() => resolveModel(id, {}, modelFiles()));
    server.add("org/private", bigFiles, { private: "hf_owner" });
    server.add("org/gated", bigFiles, { gated: "hf_accepted" });
    const missing =
      /^org\/(none|private): no such folder; the Hugging Face cache .* and http:\S+ has no such model, or only for those who may see it \(HF_TOKEN or `hf auth login`\)$/;
    assert.match(await find("org/none"), missing);
    assert.match(await find("org/private"), missing);
    assert.equal(
      await find("org/gated"),
      `org/gated is gated: its conditions have to be accepted at ${server.url}/org/gated; set HF_TOKEN or run \`hf auth login\``,
    );
    set({ HF_TOKEN: "hf_stranger" });
    assert.match(await find("org/none"), missing);
    assert.match(await find("org/private"), missing);
    assert.match(await find("org/gated"), /^org\/gated is gated: .*; the token that was sent has no access$/);
    set({ HF_TOKEN: "hf_invalid" });
    assert.match(
      await find("org/none"),
      /^org\/none: http:\S+ does not accept the token of HF_TOKEN or `hf auth login`$/,
    );
    for (const [id, token] of [
      ["org/private", "hf_owner"],
      ["org/gated", "hf_accepted"],
    ] as const) {
      set({ HF_TOKEN: token });
      assert.equal(await resolveModel(id, {}, modelFiles()), snapshot(id));
    }
  });

  test("a listing can't reach outside the cache", async () => {
    const evil = new Map([
      ["config.json", Buffer.from("{}")],
      [
        "diffusion_pytorch_model.safetensors.index.json",
        Buffer.from('{"weight_map":{"a":"../../../evil.safetensors"}}'),
      ],
      ["../../../../evil/config.json", Buffer.from("{}")],
      [`../../../../evil/${BIG}`, big],
    ]);
    server.add("org/evil", evil);
    await assert.rejects(
      resolveModel("org/evil", {}, modelFiles()),
      /must be in a safetensors file of this folder/,
    );
    const outside = { subfolder: "../../../../evil" };
    assert.match(
      await failure(() => resolveModel("org/evil", outside, modelFiles())),
      /it has no .*evil\/config\.json/,
    );
    server.fault(BIG).listedHash = "../../../evil";
    assert.match(
      await failure(fetchBig),
      /the Hub gives no checksum of diffusion_pytorch_model\.safetensors/,
    );
    assert.ok(
      !readdirSync(home, { recursive: true }).some(
        (name) => String(name).includes("evil") && !String(name).includes("org--evil"),
      ),
    );
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes("evil")),
      [],
    );
  });
});

describe("a download", () => {
  test("that was killed goes on where it was", async () => {
    server.fault(BIG).speed = 2_000_000;
    const first = start("org/big");
    while (server.sent(big) < 1_000_000) await new Promise((wake) => setTimeout(wake, 10));
    first.child.kill("SIGKILL");
    await first.ended;
    const have = statSync(`${bigBlob()}.part`).size;
    assert.ok(have > 0 && have < big.length);
    assert.ok(!existsSync(snapshot("org/big")), "there is no snapshot that has only some of it");
    const sentBefore = server.sent(big);

    server.faults.clear();
    const second = await start("org/big").ended;
    assert.equal(second.stdout, snapshot("org/big"));
    assert.equal(server.sent(big) - sentBefore, big.length - have, "no byte is fetched twice");
    assert.deepEqual(readFileSync(join(snapshot("org/big"), BIG)), big);
    assert.deepEqual(leftovers(), []);
  });

  test("goes on after cut connections, and after answers that say to come again", async () => {
    const fault = server.fault(BIG);
    fault.closeAfter = [1_500_000, 1_000_000];
    fault.statuses = [503];
    assert.equal(await fetchBig(), snapshot("org/big"));
    assert.deepEqual(readFileSync(join(snapshot("org/big"), BIG)), big);
    // What was on its way when the connection broke comes again, and nothing else.
    const starts = server.requests
      .filter(({ server }) => server === "cdn")
      .map(({ range }) => Number(/^bytes=(\d+)-$/.exec(range ?? "bytes=0-")?.[1]));
    assert.equal(starts.length, 4);
    assert.deepEqual(starts.slice(0, 2), [0, 0]);
    assert.ok(0 < starts[2]! && starts[2]! <= 1_500_000 && starts[2]! < starts[3]!, `${starts}`);
  });

  test("that keeps breaking is kept for the next time", async () => {
    server.fault(BIG).closeAfter = [1_000_000, 0, 0, 0, 0];
    assert.match(
      await failure(fetchBig),
      /^org\/big: http:\S+\/org\/big\/resolve\/c{40}\/diffusion_pytorch_model\.safetensors: the download failed \(.*\); the \d+ bytes that came are kept, run again to continue$/,
    );
    const have = statSync(`${bigBlob()}.part`).size;
    assert.ok(0 < have && have <= 1_000_000);
    server.reset();
    await fetchBig();
    assert.equal(server.sent(big), big.length - have);
  });

  test("starts afresh where a server ignores ranges", async () => {
    const fault = server.fault(BIG);
    fault.closeAfter = [1_000_000];
    fault.ignoresRanges = true;
    await fetchBig();
    assert.deepEqual(readFileSync(join(snapshot("org/big"), BIG)), big);
    assert.equal(server.sent(big), big.length + 1_000_000);
  });

  test("with a wrong checksum, a wrong size or an end too soon is refused and nothing is left of it", async () => {
    const flipped = Buffer.from(big);
    flipped[big.length - 1]! ^= 1;
    for (const fault of [
      { content: flipped },
      { content: big.subarray(0, 2_000_000) },
      { content: Buffer.concat([big, big]) },
      { listedSize: big.length - 1 },
      { listedSize: big.length + 1 },
      { listedHash: "0".repeat(64) },
    ]) {
      server.faults.set(BIG, fault);
      const message = await failure(fetchBig);
      assert.match(
        message,
        /expected (SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}|\d+ bytes, the server sends more); the download was removed, run again|the download failed/,
      );
      assert.ok(!existsSync(snapshot("org/big")));
      assert.ok(!existsSync(bigBlob()));
      await rm(join(home, "hub"), { recursive: true });
    }
    server.faults.clear();
    server.fault("config.json").content = Buffer.from("[]");
    assert.match(
      await failure(fetchBig),
      /config\.json: expected Git's SHA-1 [0-9a-f]{40}, found [0-9a-f]{40}/,
    );
    server.faults.clear();
    assert.equal(await fetchBig(), snapshot("org/big"));
  });

  test("a blob that was cut off is fetched again", async () => {
    await mkdir(dirname(bigBlob()), { recursive: true });
    await writeFile(bigBlob(), big.subarray(0, 1000));
    await fetchBig();
    assert.deepEqual(readFileSync(join(snapshot("org/big"), BIG)), big);
  });

  test("takes no file that somebody else puts in its place, and writes into nobody else's", async () => {
    // One that slept has the file open, and wakes when another one has downloaded all of it.
    const part = `${bigBlob()}.part`;
    await mkdir(dirname(part), { recursive: true });
    await writeFile(part, big.subarray(0, 1_000_000));
    const sleeper = await open(part, "r+");
    try {
      await fetchBig();
      assert.equal(server.sent(big), big.length - 1_000_000);
      await sleeper.write(Buffer.from("evil"), 0, 4, 0);
      assert.deepEqual(readFileSync(bigBlob()), big);
    } finally {
      await sleeper.close();
    }

    await rm(join(home, "hub"), { recursive: true });
    server.fault(BIG).speed = 2_000_000;
    const evil = Buffer.alloc(big.length, "evil");
    let swapped = false;
    const swap = setInterval(() => {
      if (swapped || !existsSync(part) || statSync(part).size === 0) return;
      writeFileSync(`${home}/evil`, evil);
      renameSync(`${home}/evil`, part);
      swapped = true;
    }, 5);
    try {
      assert.match(await failure(fetchBig), /another process downloads it/);
    } finally {
      clearInterval(swap);
    }
    assert.ok(swapped && !existsSync(bigBlob()) && !existsSync(snapshot("org/big")));
    assert.match(await failure(fetchBig), /expected SHA-256 .*; the download was removed, run again/);
    assert.equal(await fetchBig(), snapshot("org/big"));
    assert.deepEqual(readFileSync(bigBlob()), big);
    assert.deepEqual(leftovers(), []);
  });

  test("an empty file is a file", async () => {
    server.add("org/empty", new Map([...bigFiles, ["config.json", Buffer.alloc(0)]]));
    assert.equal(
      readFileSync(join(await resolveModel("org/empty", {}, modelFiles()), "config.json"), "utf8"),
      "",
    );
  });

  test("that does not fit on the disk is refused; a disk that is full damages nothing", async () => {
    server.fault(BIG).listedSize = 10 ** 15;
    assert.match(
      await failure(fetchBig),
      /^org\/big: downloading needs 1000000\.0 GB in .*hub, where .* are free; free some or set HF_HOME to a larger disk$/,
    );
    assert.ok(!server.fetched.includes(BIG));
    server.faults.clear();

    // A file system that takes half a megabyte of it; who listens to the signal is not ended by it.
    const listening = ["--import", 'data:text/javascript,process.on("SIGXFSZ",()=>{})'];
    const limited = ["-c", `ulimit -f 1000; exec "$0" "$@"`, process.execPath, ...listening];
    const { stdout } = await startBy(["sh", ...limited, loader, "org/big"]).ended;
    assert.match(stdout, /EFBIG: file too large.*; free some space or set HF_HOME to a larger disk/);
    assert.ok(!existsSync(snapshot("org/big")) && !existsSync(bigBlob()));
    assert.equal(await fetchBig(), snapshot("org/big"));
    assert.deepEqual(readFileSync(join(snapshot("org/big"), BIG)), big);
  });

  test("into a cache that can't be written is told so", async () => {
    await writeFile(join(home, "hub"), "a file where the cache should be");
    assert.match(
      await failure(fetchBig),
      /^org\/big: the cache can't be written: (ENOTDIR|EEXIST).*; HF_HOME names another$/,
    );
  });

  test("by two processes at once happens once", async () => {
    server.fault(BIG).speed = 2_000_000;
    const ended = await Promise.all([start("org/big"), start("org/big")].map((run) => run.ended));
    assert.deepEqual(
      ended.map(({ stdout }) => stdout),
      [snapshot("org/big"), snapshot("org/big")],
    );
    assert.equal(server.sent(big), big.length);
    assert.equal(
      ended.filter(({ stderr }) => stderr.includes("another process downloads org/big")).length,
      1,
    );
    assert.deepEqual(leftovers(), []);
  });

  test("says how far it is, unless that is switched off", async () => {
    const { stderr } = await start("org/big").ended;
    assert.match(
      stderr,
      /^org\/big: 100% \|█{20}\| 4 MB\/4 MB \[\d\d:\d\d, [\d.]+ [kMG]?B\/s, file=2 of 2\]\n$/,
    );
    await rm(join(home, "hub"), { recursive: true });
    const quiet = await start("org/big", { HF_HUB_DISABLE_PROGRESS_BARS: "1" }).ended;
    assert.equal(quiet.stderr, "");

    await rm(join(home, "hub"), { recursive: true });
    server.fault(BIG).speed = 8_000_000;
    const shown: string[] = [];
    const notebook = globalThis as { display?: unknown };
    notebook.display = (value: Record<symbol, () => Record<string, string>>) =>
      shown.push(value[Symbol.for("Jupyter.display")]!()["text/plain"]!);
    try {
      await fetchBig();
    } finally {
      delete notebook.display;
    }
    assert.ok(
      shown.some((line) =>
        /^org\/big: \d+% \|.*\| [\d.]+ [kM]?B\/4 MB \[00:0\d<00:0\d, [\d.]+ [kM]B\/s, file=2 of 2\]$/.test(
          line,
        ),
      ),
      shown.join("\n"),
    );
  });

  test("moves its line on a terminal", { skip: !existsSync("/usr/bin/script") }, async () => {
    server.fault(BIG).speed = 8_000_000;
    const out = await new Promise<string>((done) => {
      const child = spawn("/usr/bin/script", ["-qec", `${process.execPath} ${loader} org/big`, "/dev/null"], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let text = "";
      child.stdout.on("data", (chunk) => {
        text += String(chunk);
      });
      child.on("close", () => done(text));
    });
    const lines = out.split("\r\u001b[2K");
    assert.ok(lines.length > 3, out);
    assert.ok(
      lines.some((line) => /^org\/big: \d\d?% \|/.test(line)),
      out,
    );
  });
});

const python = missingPython("huggingface_hub");
describe("beside Python's huggingface_hub", { skip: python }, () => {
  const run = (code: string): string =>
    execFileSync(process.env.FIRSTFRAME_PYTHON ?? resolve(".venv/bin/python"), ["-c", code], {
      encoding: "utf8",
      env: {
        ...process.env,
        HF_HUB_DISABLE_TELEMETRY: "1",
        HF_HUB_DISABLE_PROGRESS_BARS: "1",
        HF_HUB_DISABLE_XET: "1",
      },
    }).trim();

  test("it finds what we downloaded", async () => {
    (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")).dispose();
    server.requests.length = 0;
    const found = run(
      `import huggingface_hub as h; p = h.snapshot_download("org/tiny", local_files_only=True); print(p); print(h.hf_hub_download("org/tiny", "vae/config.json", local_files_only=True)); print(h.scan_cache_dir().warnings)`,
    );
    assert.deepEqual(found.split("\n"), [snapshot(), join(snapshot(), "vae/config.json"), "[]"]);
    assert.deepEqual(server.requests, []);
  });

  /** The server is in this process, so that Python has to run beside it. */
  const download = (patterns: string, id = "org/tiny") =>
    new Promise<number | null>((done) => {
      const code = `import huggingface_hub as h; h.snapshot_download("${id}", allow_patterns=${patterns})`;
      const child = spawn(process.env.FIRSTFRAME_PYTHON ?? resolve(".venv/bin/python"), ["-c", code], {
        stdio: ["ignore", "ignore", "inherit"],
        env: {
          ...process.env,
          HF_HUB_DISABLE_TELEMETRY: "1",
          HF_HUB_DISABLE_PROGRESS_BARS: "1",
          HF_HUB_DISABLE_XET: "1",
        },
      });
      child.on("close", done);
    });

  test("both at once do each other no harm", async () => {
    server.fault(BIG).speed = 4_000_000;
    const [ours, code] = await Promise.all([start("org/big").ended, download("None", "org/big")]);
    assert.deepEqual([ours.stdout, code], [snapshot("org/big"), 0]);
    assert.deepEqual(readFileSync(join(snapshot("org/big"), BIG)), big);
    assert.deepEqual(
      leftovers().filter((name) => !name.startsWith("hub/.locks/models--org--big/")), // Python keeps its locks
      [],
    );
  });

  test("we find what it downloaded, whole or in part", async () => {
    assert.equal(await download('["vae/*"]'), 0);
    server.requests.length = 0;
    (await AutoencoderKLCogVideoX.fromPretrained("org/tiny", { subfolder: "vae" })).dispose();
    assert.deepEqual(server.requests, []);
    (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")).dispose();
    assert.ok(
      server.fetched.includes("model_index.json") && !server.fetched.some((path) => path.startsWith("vae/")),
    );
    // Its own list of the commit's files tells that something small is missing.
    await rm(join(snapshot(), "tokenizer/special_tokens_map.json"));
    server.requests.length = 0;
    await T5Tokenizer.fromPretrained("org/tiny", { subfolder: "tokenizer" });
    assert.equal(existsSync(join(snapshot(), "tokenizer/special_tokens_map.json")), true);

    await rm(join(home, "hub"), { recursive: true });
    assert.equal(await download("None"), 0);
    server.requests.length = 0;
    (await CogVideoXImageToVideoPipeline.fromPretrained("org/tiny")).dispose();
    assert.deepEqual(server.requests, []);
  });
});
