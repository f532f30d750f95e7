import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Cli, notebook } from "./cli.js";

let cli: Cli;
before(async () => {
  cli = await Cli.make();
});
after(() => cli.dispose());

interface Server {
  readonly url: string;
  readonly token: string;
}

async function running(folder: string, died: Promise<unknown>): Promise<Server> {
  let gone: unknown;
  void died.then((ended) => {
    gone = ended;
  });
  for (;;) {
    assert.equal(gone, undefined, JSON.stringify(gone));
    const file = readdirSync(folder).find((name) => /^jpserver-\d+\.json$/.test(name));
    const text = file === undefined ? "" : readFileSync(`${folder}/${file}`, "utf8");
    if (text.endsWith("}")) return JSON.parse(text) as Server;
    await sleep(200);
  }
}

describe("firstframe lab", () => {
  it("opens JupyterLab on a folder with the kernel and the extension, and ends with it", async () => {
    cli.write("books/one.ipynb", notebook(["1"]));
    mkdirSync(cli.path("runtime"));
    const { child, ended } = cli.start(
      ["lab", "books", "--own", "--", "--no-browser", "--allow-root", "--port=0", "--ip=127.0.0.1"],
      { JUPYTER_RUNTIME_DIR: cli.path("runtime"), JUPYTER_CONFIG_DIR: cli.path("config") },
    );
    const { url, token } = await running(cli.path("runtime"), ended);
    const get = async (path: string) => {
      const response = await fetch(url + path, { headers: { Authorization: `token ${token}` } });
      assert.equal(response.status, 200, path);
      return await response.text();
    };
    const { kernelspecs } = JSON.parse(await get("api/kernelspecs")) as {
      kernelspecs: Record<string, { spec: { language: string }; resources: Record<string, string> }>;
    };
    assert.equal(kernelspecs.firstframe?.spec.language, "typescript");
    assert.ok("logo-svg" in kernelspecs.firstframe.resources);
    const { content } = JSON.parse(await get("api/contents")) as { content: { name: string }[] };
    assert.deepEqual(
      content.map(({ name }) => name),
      ["one.ipynb"],
    );
    const page = await get("lab");
    const entry =
      /"load": "(static\/remoteEntry\.\w+\.js)"[^}]*"name": "firstframe"|"name": "firstframe"[^}]*"load": "(static\/remoteEntry\.\w+\.js)"/.exec(
        page,
      );
    assert.ok(entry, "the page loads the extension");
    assert.match(await get(`lab/extensions/firstframe/${entry[1] ?? entry[2]}`), /_JUPYTERLAB/);
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    assert.equal(code, 0, stderr);
  });
});
