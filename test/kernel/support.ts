/**
 * A kernel for a test: a real process, in a folder of its own.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import {
  type ExecuteOptions,
  type ExecuteReply,
  KernelClient,
  type Message,
} from "../../kernel/client/client.js";
import { type CellOutput, OutputCollector } from "../../kernel/client/outputs.js";
import type { StartOptions } from "../../kernel/client/process.js";
import { kernelspec } from "../../kernel/install/kernelspec.js";
import { kernelName } from "../../kernel/install/names.js";

export interface Ran {
  readonly reply: ExecuteReply;
  readonly outputs: CellOutput[];
  readonly messages: Message[];
  /** All text, colours removed: streams, plain results, tracebacks. */
  readonly text: string;
}

export class TestKernel {
  readonly folder = mkdtempSync(join(tmpdir(), "firstframe-test-"));
  client!: KernelClient;
  private readonly logFile = `${this.folder}.log`;

  /** What the kernel has written to its own log. */
  get log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  /** `wrap` may have another program start the kernel. */
  async start(
    env: Record<string, string> = {},
    {
      wrap = (argv) => argv,
      ...options
    }: StartOptions & { wrap?: (argv: readonly string[]) => readonly string[] } = {},
  ): Promise<void> {
    const { argv, interrupt_mode, display_name, language, env: specEnv, metadata } = kernelspec();
    const spec = {
      name: kernelName,
      folder: "",
      argv: wrap(argv),
      displayName: display_name,
      language,
      interruptMode: interrupt_mode,
      env: { ...specEnv, ...env },
      supportedEncryption: metadata.supported_encryption as string[],
    };
    const log = openSync(this.logFile, "a");
    try {
      const shown = process.env.FIRSTFRAME_TEST_LOG ? "inherit" : log;
      this.client = await KernelClient.start(spec, { cwd: this.folder, log: shown, ...options });
    } finally {
      closeSync(log);
    }
  }

  async run(code: string, options: ExecuteOptions = {}): Promise<Ran> {
    const messages: Message[] = [];
    const { outputs, add } = new OutputCollector().cell();
    const onOutput = (message: Message) => {
      messages.push(message);
      add(message);
      options.onOutput?.(message);
    };
    const reply = await this.client.execute(code, { timeout: 60_000, ...options, onOutput });
    return { reply, outputs, messages, text: plainText(outputs) };
  }

  async stop(): Promise<void> {
    await this.client?.shutdown();
    rmSync(this.folder, { recursive: true, force: true });
    rmSync(this.logFile, { force: true });
  }
}

/** A kernel for all tests of a file; call it at the top of the file. */
export async function startKernel(
  env: Record<string, string> = {},
  options: StartOptions = {},
): Promise<TestKernel> {
  const kernel = new TestKernel();
  after(() => kernel.stop());
  await kernel.start(env, options);
  return kernel;
}

export function plainText(outputs: readonly CellOutput[]): string {
  const texts = outputs.map((output) => {
    if (output.output_type === "stream") return output.text;
    if (output.output_type === "error") return output.traceback.join("\n");
    return String(output.data["text/plain"] ?? "");
  });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
  return texts.join("").replace(/\x1b\[[0-9;]*m/g, "");
}

/** Sends cells of which the first begins once all of them have reached the kernel, however busy the machine is. */
export async function sentAlong(
  kernel: TestKernel,
  first: string,
  others: readonly string[],
  options: ExecuteOptions = {},
): Promise<{ first: Promise<Ran>; others: Promise<Ran>[] }> {
  const gate = join(mkdtempSync(join(kernel.folder, "gate-")), "go");
  const wait = `{ const { existsSync } = await import("node:fs"); while (!existsSync(${JSON.stringify(gate)})) await new Promise((r) => setTimeout(r, 5)); }`;
  const sent = {
    first: kernel.run(`${wait} ${first}`, options),
    others: others.map((code) => kernel.run(code)),
  };
  // Answers come in the order of the requests: that of the last one says that all are there.
  await kernel.client.request("kernel_info_request");
  writeFileSync(gate, "");
  return sent;
}

/** Interrupts once the cell has said that it is running. */
export async function interrupted(
  kernel: TestKernel,
  code: string,
  options: ExecuteOptions = {},
): Promise<Ran> {
  let sent = false;
  return kernel.run(code, {
    ...options,
    onOutput: (message) => {
      if (sent || message.header.msg_type !== "stream") return;
      sent = true;
      setTimeout(() => void kernel.client.interrupt(), 50);
    },
  });
}

/** Runs a cell that keeps its thread busy until `work`, begun meanwhile, is done. */
export async function busyUntil(kernel: TestKernel, work: () => Promise<void>): Promise<Ran> {
  const file = join(kernel.folder, "work-is-done");
  const code = `console.log("on"); const { existsSync } = require("node:fs"); while (!existsSync(${JSON.stringify(file)})) {}`;
  let done: Promise<void> | undefined;
  const ran = await kernel.run(code, {
    onOutput: ({ header }) => {
      if (header.msg_type !== "stream" || done !== undefined) return;
      done = work().finally(() => writeFileSync(file, ""));
      done.catch(() => undefined); // for now
    },
  });
  await done;
  rmSync(file);
  return ran;
}
