/**
 * The kernel through Gateway Provisioners: the same protocol by other names, with a Jupyter client of today, and encrypted.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { installGatewayKernelspec } from "../../kernel/install/gateway.js";
import { GATEWAYS } from "../../kernel/install/names.js";
import { pythonEnvironment } from "../../kernel/install/python.js";
import { Cli } from "../src/cli/cli.js";
import { projectRoot } from "../src/cli/project.js";

const python = pythonEnvironment(join(projectRoot, ".firstframe/provisioners")).bin("python");
const prefix = mkdtempSync(join(tmpdir(), "firstframe-provisioners-"));
let cli: Cli;
before(async () => {
  cli = await Cli.make();
  for (const gateway of GATEWAYS.filter((name) => name.startsWith("gateway-provisioners")))
    await installGatewayKernelspec({ gateway, name: gateway, prefix });
});
after(() => {
  cli.dispose();
  rmSync(prefix, { recursive: true, force: true });
});

const env = {
  JUPYTER_PATH: join(prefix, "share/jupyter"),
  JUPYTER_RUNTIME_DIR: join(prefix, "runtime"),
  FIRSTFRAME_HISTORY: ":memory:",
  GP_UNAUTHORIZED_USERS: "nobody",
  GP_RESPONSE_IP: "127.0.0.1",
  GP_LAUNCH_TIMEOUT: "120",
  KERNEL_LAUNCH_TIMEOUT: "120",
  GP_KERNEL_LOG_DIR: prefix,
  GP_REMOTE_HOSTS: "127.0.0.1",
};

describe("a kernel that the distributed provisioner starts", () => {
  for (const policy of ["disabled", "required"])
    it(`runs, is interrupted, restarted and shut down; encryption is ${policy}`, async () => {
      const argv = [
        join(projectRoot, "test/kernel/provisioners/drive.py"),
        "gateway-provisioners-distributed",
        policy,
      ];
      const { stdout, stderr } = await cli.program(python, argv, env).ended;
      assert.ok(stdout.startsWith("{"), stderr);
      const { pid, restarted, ...found } = JSON.parse(stdout) as { pid: string; restarted: { text: string } };
      assert.deepEqual(found, {
        provisioner: "DistributedProvisioner",
        encrypted: policy === "required",
        first: { status: "ok", text: "42\n" },
        interrupted: "error",
        kept: { status: "ok", text: "1\n" },
        alive: false,
      });
      assert.notEqual(restarted.text.trim(), pid);
      for (const gone of [pid, restarted.text.trim()])
        while (existsSync(`/proc/${gone}`)) await new Promise((resolve) => setTimeout(resolve, 100));
    });
});

describe("the kernelspecs for containers", () => {
  for (const place of ["kubernetes", "docker"])
    it(`${place}: name a provisioner that is there, and start its own script`, async () => {
      const folder = join(prefix, "share/jupyter/kernels", `gateway-provisioners-${place}`);
      const names = `import json
from importlib.metadata import entry_points
print(json.dumps([point.name for point in entry_points(group="jupyter_client.kernel_provisioners")]))`;
      const { stdout } = await cli.program(python, ["-c", names]).ended;
      const { metadata, argv } = JSON.parse(readFileSync(join(folder, "kernel.json"), "utf8")) as {
        metadata: { kernel_provisioner: { provisioner_name: string } };
        argv: string[];
      };
      assert.ok((JSON.parse(stdout) as string[]).includes(metadata.kernel_provisioner.provisioner_name));
      const words = argv.slice(1).map((word) => word.replace("{resource_dir}", folder));
      const usage = (await cli.program(python, [...words.slice(0, 2), "--help"]).ended).stdout;
      for (const flag of words.filter((word) => word.startsWith("--")))
        assert.match(usage, new RegExp(`${flag}\\b`), usage);
    });
});
