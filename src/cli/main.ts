#!/usr/bin/env node
import { FirstframeError } from "../engine/errors.js";
import type { Command } from "./arguments.js";
import { commandHelp, groupHelp, meantOrHelp, parseCommand, programHelp } from "./arguments.js";
import { type CommandName, commands } from "./commands.js";
import { UsageError } from "./errors.js";
import { packageVersion } from "./home.js";

/** A command gets what follows its name and resolves with an exit code. It is loaded only when it runs. */
type Run = (argv: string[]) => Promise<number | undefined> | Promise<void>;

const load: Record<CommandName, () => Promise<Run>> = {
  doctor: async () => (await import("./doctor.js")).doctorCommand,
  engine: async () => (await import("./engine.js")).engineCommand,
  "kernel install": async () => (await import("./kernel.js")).installCommand,
  "kernel list": async () => (await import("./kernel.js")).listCommand,
  "kernel uninstall": async () => (await import("./kernel.js")).uninstallCommand,
  "kernel launch": async () => (await import("./kernel-launch.js")).kernelLaunchCommand,
  lab: async () => (await import("./lab.js")).labCommand,
  run: async () => (await import("./run.js")).runCommand,
  site: async () => (await import("./site.js")).siteCommand,
  encode: async () => (await import("./encode.js")).encodeCommand,
  launch: async () => (await import("./launch.js")).launchCommand,
  train: async () => (await import("./train.js")).trainCommand,
  sample: async () => (await import("./sample.js")).sampleCommand,
  "procedural dataset": async () => (await import("./procedural.js")).datasetCommand,
  "procedural pipeline": async () => (await import("./procedural.js")).pipelineCommand,
  "procedural train": async () => (await import("./procedural.js")).trainPipelineCommand,
  "procedural train-vae": async () => (await import("./procedural.js")).trainVaeCommand,
  "procedural store-transformer": async () => (await import("./procedural.js")).storeTransformerCommand,
  "procedural evaluate": async () => (await import("./procedural.js")).evaluateCommand,
  "procedural train-transformer": async () => (await import("./procedural.js")).trainTransformerCommand,
  "procedural real-size": async () => (await import("./procedural.js")).realSizeCommand,
  "procedural overfit-clip": async () => (await import("./procedural.js")).overfitClipCommand,
  bench: async () => (await import("./bench.js")).benchCommand,
  start: async () => (await import("./start.js")).startCommand,
};

async function main(argv: string[]): Promise<number> {
  const [first] = argv;
  if (first === undefined || first === "--help" || first === "-h") {
    process.stdout.write(programHelp(commands));
    return first === undefined ? 2 : 0;
  }
  if (first === "--version" || first === "-V") {
    process.stdout.write(`${packageVersion()}\n`);
    return 0;
  }
  if (first === "help") return await main([...argv.slice(1), "--help"]);
  const [second = "--help"] = argv.slice(1);
  if (isGroup(first) && (second === "--help" || second === "-h")) {
    process.stdout.write(groupHelp(first, commands));
    return argv.length > 1 ? 0 : 2;
  }
  const name = nameOf(argv);
  const rest = argv.slice(name.split(" ").length);
  const command: Command = commands[name];
  const own = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (own.includes("--help") || own.includes("-h")) {
    process.stdout.write(commandHelp(name, command));
    return 0;
  }
  if (command.numerics) {
    const { restartWithMemorySettings } = await import("./memory-settings.js");
    const code = await restartWithMemorySettings();
    if (code !== undefined) return code;
  } else {
    // Wrong flags are reported before anything is loaded.
    parseCommand(name, command, rest);
  }
  const run = await load[name]();
  return (await run(rest)) ?? 0;
}

/** Whether it is the first word of commands with two words. */
const isGroup = (word: string): boolean => Object.keys(commands).some((name) => name.startsWith(`${word} `));

/** The command that arguments begin with. */
function nameOf([first = "", second = ""]: readonly string[]): CommandName {
  const name = isGroup(first) ? `${first} ${second}` : first;
  if (Object.hasOwn(commands, name)) return name as CommandName;
  const what = first.startsWith("-") ? "option" : "command";
  throw new UsageError(`unknown ${what} ${name}`, {
    hint: meantOrHelp(name, Object.keys(commands), "firstframe --help"),
  });
}

// `firstframe run ... | head` ends when nobody reads any more.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(141);
});
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = printError(error);
}

/**
 * What the user has to correct is shown in one line with exit code 2, what did not work in one line with 1, and the end of
 * another rank with 75, which asks for another try. Everything else is a bug in this program, and shown so that it can be reported.
 */
function printError(error: unknown): number {
  if (error instanceof FirstframeError) {
    console.error(`firstframe: ${error.message}`);
    return error.exitCode;
  }
  const { syscall, message } = error as NodeJS.ErrnoException;
  if (syscall !== undefined) {
    // In the system's own words: a full disk, a file that belongs to somebody else.
    console.error(`firstframe: ${message}`);
    return 1;
  }
  console.error(error);
  console.error("firstframe: this is a fault of firstframe's own; please report it, with the lines above");
  return 1;
}
