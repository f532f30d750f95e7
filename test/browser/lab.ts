import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { KernelManager, SessionManager } from "@jupyterlab/services";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { installKernelspec } from "../../kernel/install/kernelspec.js";
import { installLabextension } from "../../kernel/install/labextension.js";
import { kernelName } from "../../kernel/install/names.js";
import { pythonEnvironment } from "../../kernel/install/python.js";
import { settingsFor } from "../kernel/gateway/server.js";

export const projectRoot = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "");

const out = join(projectRoot, "out");

/** What a page leaves behind is looked at by people. */
export const screenshots = join(out, "screenshots");

const CHROMIUM_ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Long enough for a machine that does other things as well; what fails otherwise fails much sooner. */
const TIMEOUT_MS = 120_000;

/** JupyterLab's own settings: all cells in the page, no news, no questions. */
const SETTINGS = {
  "notebook-extension/tracker": { windowingMode: "none", recordTiming: false },
  "apputils-extension/notification": { fetchNews: "false", checkForUpdates: false, doNotDisturbMode: true },
  "docmanager-extension/plugin": { autosave: false },
} as const;

export type Theme = "light" | "dark";

export interface OpenOptions {
  readonly theme?: Theme;
  /** Called before JupyterLab is loaded. */
  readonly before?: (page: Page) => unknown;
}

/** A real JupyterLab with our kernel and extension, in folders of its own, and a real Chromium that looks at it. */
export class Lab {
  private constructor(
    private readonly server: ChildProcess,
    /** One for all pages, which share what they loaded: JupyterLab's scripts are 20 MB. */
    private readonly context: BrowserContext,
    private readonly home: string,
    private readonly address: { url: string; token: string },
    /** The folder that JupyterLab serves. */
    readonly notebooks: string,
  ) {}

  /**
   * @param files name and content of the notebooks to serve, or a folder of notebooks
   * @param disabled names of extensions that this JupyterLab is without
   * @param gateway the URL of what starts its kernels
   */
  static async start(
    files: Record<string, object> | string,
    { disabled = [], gateway }: { readonly disabled?: readonly string[]; readonly gateway?: string } = {},
  ): Promise<Lab> {
    const home = await mkdtemp(join(tmpdir(), "firstframe-lab-"));
    const notebooks = typeof files === "string" ? files : await folderOf(files);
    await installKernelspec({ prefix: home });
    await installLabextension({ prefix: home });
    await writeSettings(join(home, "settings"));
    await disable(join(home, "config"), disabled);
    const server = await startServer(
      home,
      notebooks,
      gateway === undefined ? [] : [`--gateway-url=${gateway}`],
    );
    process.once("exit", () => server.kill("SIGKILL"));
    try {
      const address = await addressOf(home, server);
      const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
      const browser = await chromium.launch({ executablePath, args: CHROMIUM_ARGS });
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
      context.setDefaultTimeout(TIMEOUT_MS);
      return new Lab(server, context, home, address, notebooks);
    } catch (error) {
      server.kill("SIGKILL");
      throw error;
    }
  }

  /** Opens a notebook in a page of its own. */
  async open(name: string, { theme = "light", before }: OpenOptions = {}): Promise<NotebookPage> {
    const notebook = await this.openFile(name, before);
    await notebook.page.locator(".jp-NotebookPanel-notebook .jp-Cell").first().waitFor();
    await notebook.setTheme(theme);
    return notebook;
  }

  /** Starts a notebook's kernel before a page does, and waits until it has answered. */
  async startKernel(path: string): Promise<void> {
    const serverSettings = settingsFor(this.address.url, this.address.token);
    const kernelManager = new KernelManager({ serverSettings });
    const sessions = new SessionManager({ serverSettings, kernelManager });
    const session = await sessions.startNew({
      path,
      name: path,
      type: "notebook",
      kernel: { name: kernelName },
    });
    await session.kernel!.info;
    session.dispose();
    sessions.dispose();
    kernelManager.dispose();
  }

  /** Opens a file of any kind in a page of its own, with whatever JupyterLab has for it. */
  async openFile(name: string, before?: OpenOptions["before"]): Promise<NotebookPage> {
    const page = await this.context.newPage();
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    await before?.(page);
    const url = new URL(
      `lab/tree/${encodeURIComponent(name)}?reset&token=${this.address.token}`,
      this.address.url,
    );
    await page.goto(url.href);
    return new NotebookPage(page, problems);
  }

  async stop(): Promise<void> {
    await this.context.browser()!.close();
    const ended = new Promise((resolve) => this.server.once("exit", resolve));
    this.server.kill("SIGTERM"); // it shuts its kernels down first
    await Promise.race([ended, sleep(20_000, undefined, { ref: false })]);
    this.server.kill("SIGKILL");
    this.server.stderr!.destroy();
    const made = this.notebooks.startsWith(out) ? [this.home, this.notebooks] : [this.home];
    for (const folder of made) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A notebook that is open in JupyterLab. */
export class NotebookPage {
  constructor(
    readonly page: Page,
    /** Errors that scripts of the page threw. */
    readonly problems: readonly string[],
  ) {}

  /** Chooses an entry of the menu bar, as a user does. */
  async menu(...path: string[]): Promise<void> {
    const [top, ...rest] = path;
    await this.page.locator(".lm-MenuBar-itemLabel").getByText(top!, { exact: true }).click();
    for (const label of rest) {
      await this.page.locator(".lm-Menu-itemLabel").getByText(label, { exact: true }).click();
    }
  }

  async setTheme(theme: Theme): Promise<void> {
    const light = theme === "light";
    if ((await this.page.getAttribute("body", "data-jp-theme-light")) === String(light)) return;
    await this.menu("Settings", "Theme", light ? "JupyterLab Light" : "JupyterLab Dark");
    await this.page.locator(`body[data-jp-theme-light="${light}"]`).waitFor({ state: "attached" });
  }

  /** Waits until the kernel is idle. */
  async ready(): Promise<void> {
    await this.page
      .locator("#jp-main-statusbar")
      .getByText(/\| Idle$/)
      .waitFor();
  }

  /** Presses the bug until it stays pressed: JupyterLab forgets a press that comes while it still sets the debugger up. */
  async startDebugger(): Promise<void> {
    const deadline = Date.now() + TIMEOUT_MS;
    const started = this.page.locator('.jp-DebuggerBugButton[aria-pressed="true"]').first();
    while (Date.now() < deadline) {
      await this.page.locator(".jp-DebuggerBugButton").first().click();
      const pressed = started.waitFor({ timeout: 5_000 }).then(
        () => true,
        () => false,
      );
      if (await pressed) return;
    }
    throw new Error("JupyterLab's debugger did not start");
  }

  /** Run → Run All Cells, until no cell is waiting or running. */
  async runAll({ timeout = 240_000 }: { timeout?: number } = {}): Promise<void> {
    await this.ready();
    await this.menu("Run", "Run All Cells");
    // Cells are marked with a star while they wait; the first mark is there before the menu has closed.
    await this.page.waitForFunction(
      () => {
        const cells = [...document.querySelectorAll(".jp-CodeCell")];
        const prompts = cells.map((cell) => cell.querySelector(".jp-InputPrompt")?.textContent ?? "");
        const empty = cells.map((cell) => !cell.querySelector(".cm-content")?.textContent?.trim());
        const idle = document.querySelector('.jp-Notebook-ExecutionIndicator[data-status="idle"]') !== null;
        return idle && prompts.every((prompt, i) => /\[\d+\]/.test(prompt) || empty[i]);
      },
      undefined,
      { timeout, polling: 200 },
    );
  }

  /** File → Save Notebook, until it is on disk. */
  async save(): Promise<void> {
    const written = this.page.waitForResponse(
      (answer) => answer.request().method() === "PUT" && answer.url().includes("/api/contents/"),
    );
    await this.menu("File", "Save Notebook");
    await written;
  }

  /** The text of every error output. */
  errors(): Promise<string[]> {
    return this.page
      .locator(
        '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"], .jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]',
      )
      .allInnerTexts();
  }

  /**
   * Waits until `count` plotly figures are drawn, and counts the marks in each (points, lines, bars, heat maps' images).
   */
  async figures(count: number): Promise<{ title: string; marks: number }[]> {
    const figures = this.page.locator(".firstframe-plotly");
    for (let i = 0; i < count; i++) {
      await figures.nth(i).locator(".main-svg").first().waitFor();
    }
    return figures.evaluateAll((nodes) =>
      nodes.map((node) => {
        const marks = [
          "path.point",
          ".point > path",
          "path.js-line",
          "path.js-fill",
          ".hm image",
          ".slice path",
          ".box",
          ".violin",
        ]
          .map((mark) => `.main-svg :is(.cartesianlayer, .pielayer, .polarlayer) ${mark}`)
          .join(", ");
        return {
          title: node.querySelector(".gtitle")?.textContent ?? "",
          marks: [...node.querySelectorAll(marks)].filter((mark) => {
            const { width, height } = mark.getBoundingClientRect();
            return width > 0 || height > 0;
          }).length,
        };
      }),
    );
  }

  /** A picture of the whole notebook, however long, under out/screenshots. */
  async screenshot(name: string): Promise<string> {
    const bottom = await this.page
      .locator(".jp-WindowedPanel-outer")
      .first()
      .evaluate((node) => {
        node.scrollTop = 0;
        return node.querySelector(".jp-Cell:last-of-type")!.getBoundingClientRect().bottom;
      });
    const height = Math.min(Math.max(900, Math.ceil(bottom) + 60), 12_000);
    await this.page.setViewportSize({ width: 1280, height });
    await sleep(500); // figures follow the new size
    await mkdir(screenshots, { recursive: true });
    const path = join(screenshots, `${name}.png`);
    await this.page.screenshot({ path });
    return path;
  }

  /** Kernel → Shut Down Kernel, so that the next notebook has the memory. */
  async shutDown(): Promise<void> {
    await this.menu("Kernel", "Shut Down Kernel");
    await this.page
      .locator("#jp-main-statusbar")
      .getByText(/^No Kernel/)
      .waitFor();
  }

  async close(): Promise<void> {
    await this.page.close();
  }
}

/** A folder inside of the project, where the notebooks' imports find the package. */
async function folderOf(files: Record<string, object>): Promise<string> {
  await mkdir(out, { recursive: true });
  const folder = await mkdtemp(join(out, "lab-"));
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), JSON.stringify(content));
  }
  return folder;
}

async function writeSettings(folder: string): Promise<void> {
  for (const [name, value] of Object.entries(SETTINGS)) {
    const file = join(folder, "@jupyterlab", `${name}.jupyterlab-settings`);
    await mkdir(join(file, ".."), { recursive: true });
    await writeFile(file, JSON.stringify(value));
  }
}

/** As `jupyter labextension disable` does. */
async function disable(config: string, names: readonly string[]): Promise<void> {
  await mkdir(join(config, "labconfig"), { recursive: true });
  const disabledExtensions = Object.fromEntries(names.map((name) => [name, true]));
  await writeFile(join(config, "labconfig", "page_config.json"), JSON.stringify({ disabledExtensions }));
}

/** `jupyter-lab` of the project's own .venv, else of PATH. */
function jupyterLab(): string {
  const own = pythonEnvironment(join(projectRoot, ".venv")).bin("jupyter-lab");
  if (existsSync(own)) return own;
  const found = (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, "jupyter-lab"))
    .find((file) => existsSync(file));
  if (!found)
    throw new Error(`JupyterLab is neither in ${own} nor on PATH: run the tests through \`npm test\``);
  return found;
}

async function startServer(home: string, notebooks: string, more: readonly string[]): Promise<ChildProcess> {
  const env = {
    ...process.env,
    HOME: home,
    XDG_CACHE_HOME: process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), // where the engine is
    JUPYTER_CONFIG_DIR: join(home, "config"),
    JUPYTER_DATA_DIR: join(home, "data"),
    JUPYTER_RUNTIME_DIR: join(home, "runtime"),
    JUPYTER_PATH: join(home, "share", "jupyter"),
    JUPYTERLAB_SETTINGS_DIR: join(home, "settings"),
    JUPYTERLAB_WORKSPACES_DIR: join(home, "workspaces"),
  };
  const args = [
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    `--ServerApp.port=${await freePort()}`,
    `--ServerApp.root_dir=${notebooks}`,
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    ...more,
  ];
  return spawn(jupyterLab(), args, { env, cwd: notebooks, stdio: ["ignore", "ignore", "pipe"] });
}

/** The server writes its address down once it listens (on another port, where somebody took ours). */
async function addressOf(home: string, server: ChildProcess): Promise<{ url: string; token: string }> {
  let log = "";
  server.stderr!.on("data", (chunk: Buffer) => {
    log += chunk.toString();
  });
  const folder = join(home, "runtime");
  const deadline = Date.now() + TIMEOUT_MS;
  while (Date.now() < deadline && server.exitCode === null) {
    const names = existsSync(folder) ? await readdir(folder) : [];
    const name = names.find((entry) => /^jpserver-\d+\.json$/.test(entry));
    const text = name ? await readFile(join(folder, name), "utf8") : "";
    if (text.trimEnd().endsWith("}")) {
      const address = JSON.parse(text) as { url: string; token: string };
      const answer = await fetch(new URL(`api?token=${address.token}`, address.url)).catch(() => undefined);
      if (answer?.ok) return address;
    }
    await sleep(100);
  }
  throw new Error(`JupyterLab did not start:\n${log}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
