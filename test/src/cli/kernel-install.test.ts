import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Cli, type Ended, notebook } from "./cli.js";
import { projectRoot } from "./project.js";

let cli: Cli;
/** A Python environment with Jupyter in it. */
let environment: string;
before(async () => {
  cli = await Cli.make();
  environment = cli.path("environment");
  const own = join(projectRoot, ".venv");
  const python = (root: string, ...args: string[]) =>
    execFileSync(join(root, "bin/python"), args, { encoding: "utf8" }).trim();
  python(own, "-m", "venv", "--without-pip", environment);
  const packages = "import sysconfig; print(sysconfig.get_path('purelib'))";
  writeFileSync(join(python(environment, "-c", packages), "own.pth"), python(own, "-c", packages));
  const jupyter = join(environment, "bin/jupyter");
  writeFileSync(jupyter, `#!${environment}/bin/python\nfrom jupyter_core.command import main\nmain()\n`);
  chmodSync(jupyter, 0o755);
});
after(() => cli.dispose());

/** Runs a program with that Jupyter on PATH; the environment is active if `active` says so. */
function withJupyter(active: boolean, env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    PATH: [join(environment, "bin"), process.env.PATH].join(delimiter),
    JUPYTER_PATH: "",
    CONDA_PREFIX: "",
    VIRTUAL_ENV: active ? environment : "",
    ...env,
  };
}

const install = (env: NodeJS.ProcessEnv, ...argv: string[]) =>
  cli.start(["kernel", "install", ...argv], env).ended;

/** The folders that Jupyter itself finds kernels in. */
async function found(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const list = ["-m", "jupyter_client.kernelspecapp", "list", "--json"];
  const { stdout, stderr } = await cli.program(join(environment, "bin/python"), list, env).ended;
  assert.ok(stdout.startsWith("{"), stderr);
  const { kernelspecs } = JSON.parse(stdout) as { kernelspecs: Record<string, { resource_dir: string }> };
  return kernelspecs.firstframe?.resource_dir;
}

function assertInstalled(ended: Ended, folder: string): void {
  assert.deepEqual([ended.code, ended.stdout.trim()], [0, folder], ended.stderr);
}

describe("firstframe kernel install", () => {
  it("without an option installs where Jupyter looks first, and uninstall finds it there", async () => {
    for (const [env, folder] of [
      [withJupyter(true), join(environment, "share/jupyter/kernels/firstframe")],
      [withJupyter(true, { JUPYTER_PREFER_ENV_PATH: "0" }), cli.path("data/kernels/firstframe")],
      [withJupyter(false), cli.path("data/kernels/firstframe")],
      [{ ...withJupyter(true), PATH: "/nowhere" }, cli.path("data/kernels/firstframe")],
    ] as const) {
      const ended = await install(env);
      assertInstalled(ended, folder);
      assert.equal(ended.stderr, "");
      assert.equal(await found({ ...env, PATH: withJupyter(true).PATH }), folder);
      const removed = await cli.start(["kernel", "uninstall"], env).ended;
      assert.deepEqual([removed.code, removed.stdout.trim()], [0, `removed ${folder}`]);
    }
  });

  it("says what makes Jupyter look, where it does not look by itself", async () => {
    const env = withJupyter(true);
    const ended = await install(env, "--prefix", "aside");
    assertInstalled(ended, cli.path("aside/share/jupyter/kernels/firstframe"));
    assert.match(
      ended.stderr,
      /^The jupyter on PATH does not look into .*aside\/share\/jupyter\. .*--user:\n +export JUPYTER_PATH=/,
    );
    assert.equal(await found(env), undefined);
    const [, advice] = /^ +(export .*)$/m.exec(ended.stderr)!;
    const { stdout } = await cli.program("sh", ["-c", `${advice}; printf %s "$JUPYTER_PATH"`], env).ended;
    assert.equal(
      await found({ ...env, JUPYTER_PATH: stdout }),
      cli.path("aside/share/jupyter/kernels/firstframe"),
    );
  });

  it("refuses in a copy that npx throws away, and names the way that lasts", async () => {
    const main = copyOfPackage(cli.path("_npx/0a1b2c"));
    const argv = [main, "kernel", "install", "--user"];
    const ended = await cli.program(process.execPath, argv, withJupyter(false)).ended;
    assert.equal(ended.code, 1);
    assert.match(ended.stderr, /^firstframe: the kernel is not installed: .*_npx.*cache/);
    assert.match(ended.stderr, /npm install -g firstframe && firstframe kernel install/);
    assert.ok(!existsSync(cli.path("data/kernels/firstframe")));
  });
});

describe("firstframe kernel install --for", () => {
  const spec = (name: string) =>
    JSON.parse(readFileSync(cli.path(`gateway/share/jupyter/kernels/${name}/kernel.json`), "utf8")) as {
      argv: string[];
      language: string;
      interrupt_mode: string;
      metadata: {
        debugger: boolean;
        process_proxy?: { class_name: string; config: object };
        kernel_provisioner?: { provisioner_name: string; config: object };
      };
    };
  const options = ["--prefix", "gateway", "--for"];

  it("writes what each gateway needs", async () => {
    const env = withJupyter(false);
    const folder = cli.path("gateway/share/jupyter/kernels/firstframe");
    const script = (place: string) =>
      `/usr/local/share/jupyter/kernels/python_${place}/scripts/launch_${place}.py`;
    const proxies = "enterprise_gateway.services.processproxies";
    for (const [gateway, start, proxy, config] of [
      [
        "kubernetes",
        ["python", script("kubernetes")],
        "k8s.KubernetesProcessProxy",
        { image_name: "some/image" },
      ],
      [
        "docker",
        ["python", script("docker")],
        "docker_swarm.DockerProcessProxy",
        { image_name: "some/image" },
      ],
      [
        "distributed",
        [process.execPath, join(projectRoot, "dist/src/cli/main.js"), "kernel", "launch"],
        "distributed.DistributedProcessProxy",
        {},
      ],
    ] as const) {
      const image = gateway === "distributed" ? [] : ["--image", "some/image"];
      assertInstalled(await install(env, ...options, `enterprise-gateway-${gateway}`, ...image), folder);
      const { argv, metadata, language, interrupt_mode } = spec("firstframe");
      assert.deepEqual([language, interrupt_mode, metadata.debugger], ["typescript", "signal", true]);
      assert.deepEqual(metadata.process_proxy, { class_name: `${proxies}.${proxy}`, config });
      assert.deepEqual(argv.slice(0, start.length), start);
      const filled = ["kernel-id", "port-range", "response-address", "public-key"];
      assert.deepEqual(
        argv.slice(start.length),
        filled.flatMap((name) => [`--RemoteProcessProxy.${name}`, `{${name.replace("-", "_")}}`]),
      );
    }
    const launcher = ["--launcher", "/scripts/start.py", "--name", "ff-gpu"];
    assertInstalled(
      await install(env, ...options, "enterprise-gateway-kubernetes", ...launcher),
      cli.path("gateway/share/jupyter/kernels/ff-gpu"),
    );
    assert.deepEqual(spec("ff-gpu").argv.slice(0, 2), ["python", "/scripts/start.py"]);
    assert.deepEqual(spec("ff-gpu").metadata.process_proxy!.config, { image_name: "firstframe-kernel" });
    const removed = await cli.start(["kernel", "uninstall", "--prefix", "gateway", "--name", "ff-gpu"], env)
      .ended;
    assert.equal(removed.code, 0, removed.stderr);
    assert.ok(!existsSync(cli.path("gateway/share/jupyter/kernels/ff-gpu")));
    assert.ok(existsSync(folder));
  });

  it("names the flag that is wrong", async () => {
    for (const [argv, message] of [
      [["--for", "kubernetes"], /--for: expected enterprise-gateway-kubernetes, .*, found "kubernetes"/],
      [["--image", "x"], /--image is for containers: it needs --for enterprise-gateway-kubernetes, /],
      [["--for", "enterprise-gateway-distributed", "--launcher", "x"], /--launcher is for containers/],
      [["--name", "other"], /--name is for a gateway's kernel: it needs --for/],
      [["--for", "enterprise-gateway-docker", "--name", "a/b"], /--name: expected letters, .*, found "a\/b"/],
    ] as const) {
      const { code, stderr } = await install(withJupyter(false), ...argv);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    }
  });
});

describe("firstframe start", () => {
  it("names its two passes, explains cells that fail on purpose and ends with what to do next", async () => {
    const main = copyOfPackage(cli.path("project"));
    const raise = { source: "throw new RangeError('part of the lesson');", tags: ["raises-exception"] };
    cli.write("project/node_modules/firstframe/notebooks/00-one.ipynb", notebook(["console.log(1);", raise]));
    const program = `cd project && exec "${process.execPath}" "${main}" start --out out`;
    const ended = await cli.program("sh", ["-c", program], { FIRSTFRAME_ENGINE: "cpu" }).ended;
    assert.equal(ended.code, 0, ended.stderr);
    const [first = "", second = "", next = ""] = ended.stdout.split("\n\n");
    assert.match(first, /^1 of 2: .*kernel/);
    assert.match(second, /^2 of 2: 1 notebooks.*fail on purpose/);
    assert.match(second, /^ {2}✓ 2\/2 .*throw new RangeError\(.*\(fails on purpose: RangeError\)$/m);
    assert.match(
      next,
      /^Next:\n +out\/00-one\.html .*\n +npx firstframe lab .*\n +npx firstframe kernel install /,
    );
    assert.match(readFileSync(cli.path("project/out/00-one.html"), "utf8"), /part of the lesson/);
  });
});

/** The package as npm installs it into a folder, with this clone's dependencies. @returns its program */
function copyOfPackage(folder: string): string {
  const own = join(folder, "node_modules/firstframe");
  mkdirSync(own, { recursive: true });
  for (const name of ["package.json", "kernel", "src", "dist/kernel", "dist/src", "dist/vendor"]) {
    cpSync(join(projectRoot, name), join(own, name), { recursive: true });
  }
  symlinkSync(join(projectRoot, "node_modules"), join(own, "node_modules"));
  return join(own, "dist/src/cli/main.js");
}
