import { parseArgs, stripVTControlCharacters } from "node:util";
import { didYouMean } from "../engine/suggestion.js";
import { UsageError } from "./errors.js";

/** One flag. Without a `default` its value may be undefined; a `multiple` one is always an array. */
export interface Option {
  readonly type: "boolean" | "string" | "number" | "integer";
  readonly help: string;
  /** The value's placeholder in the help text: `--out DIR`. */
  readonly value?: string;
  readonly short?: string;
  readonly multiple?: boolean;
  readonly default?: string | number | boolean;
  readonly choices?: readonly string[];
  /** The smallest number allowed. */
  readonly min?: number;
  /** Other programs' names of it, which are accepted, too. */
  readonly aliases?: readonly string[];
  /** Whether other programs may leave its value empty, which is as good as leaving it out. */
  readonly mayBeEmpty?: boolean;
  /** Takes several words, `--names a b`, or may be given without a value for `true`. */
  readonly spread?: "list" | "boolean";
}

export interface Command {
  readonly summary: string;
  /** What follows the command's name in the usage line: `NOTEBOOK... [options]`. */
  readonly usage: string;
  /** Paragraphs below the usage line. */
  readonly description?: string;
  /** How many positional arguments there may be: [least, most]. */
  readonly positionals: readonly [number, number];
  /** What a positional argument is called in the error for a missing one. */
  readonly positional?: string;
  readonly options: Readonly<Record<string, Option>>;
  readonly examples?: readonly string[];
  /** Flags of other programs that this one can't have, each with what to do instead. */
  readonly refused?: Readonly<Record<string, string>>;
  /** Arguments after `--` go to another program. */
  readonly passThrough?: string;
  /** Restarts the program with glibc's memory settings in force (see `mallocEnvironment`). */
  readonly numerics?: boolean;
}

type Single<O extends Option> = O["type"] extends "boolean"
  ? boolean
  : O["type"] extends "string"
    ? string
    : number;

type Value<O extends Option> = O extends { multiple: true }
  ? Single<O>[]
  : O extends { default: string | number | boolean } | { type: "boolean" }
    ? Single<O>
    : Single<O> | undefined;

export interface Arguments<C extends Command> {
  readonly values: { readonly [K in keyof C["options"]]: Value<C["options"][K]> };
  readonly positionals: string[];
  /** What came after `--`, for commands that pass arguments on. */
  readonly rest: string[];
}

/** A flag's key in the table, whether it is written with `_` or with `-`. */
const keyOf = (options: Command["options"], flag: string): string | undefined =>
  Object.keys(options).find((key) =>
    [key, ...(options[key]!.aliases ?? [])].some((name) => dashed(name) === dashed(flag)),
  );
const dashed = (name: string): string => name.replaceAll("_", "-");

/** Rewrites words for the parser: `--names a b` becomes a flag per value, and a flag without a value gets `true`. */
function spreadWords(options: Command["options"], argv: readonly string[]): string[] {
  const out: string[] = [];
  let list: string | undefined;
  let first = false;
  for (const [i, word] of argv.entries()) {
    const key = word.startsWith("--") ? keyOf(options, word.slice(2)) : undefined;
    const spread = key === undefined ? undefined : options[key]!.spread;
    // A negative number is a list's next value.
    if (word.startsWith("-") && !isNumber(word)) list = spread === "list" ? word : undefined;
    else if (list !== undefined && !first) out.push(list);
    first = word === list;
    out.push(word);
    if (spread === "boolean" && (argv[i + 1] ?? "-").startsWith("-")) out.push("true");
  }
  return out;
}

/**
 * Reads a command's arguments by its entry in the table.
 * @throws UsageError naming the flag, what was expected and what was found.
 */
export function parseCommand<C extends Command>(
  name: string,
  command: C,
  argv: readonly string[],
): Arguments<C> {
  const split = command.passThrough === undefined ? -1 : argv.indexOf("--");
  const own = split < 0 ? argv : argv.slice(0, split);
  const options = Object.fromEntries(
    Object.entries(command.options).flatMap(([key, option]) => {
      const type = option.type === "boolean" ? ("boolean" as const) : ("string" as const);
      const short = option.short === undefined ? {} : { short: option.short };
      const names = [key, ...(option.aliases ?? [])];
      return [
        ...names.flatMap((name) => [name.replaceAll("-", "_"), dashed(name)].map((form) => [form, { type }])),
        [key, { type, ...short }],
      ];
    }),
  );
  const { tokens } = parseArgs({
    args: spreadWords(command.options, own),
    options,
    strict: false,
    tokens: true,
    allowPositionals: true,
  });
  const values: Record<string, unknown> = {};
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const key = keyOf(command.options, token.name);
    const option = key === undefined ? undefined : command.options[key];
    if (key === undefined || option === undefined) {
      const refused = Object.entries(command.refused ?? {}).find(
        ([flag]) => dashed(flag) === dashed(token.name),
      );
      if (refused) throw new UsageError(`${token.rawName} is not supported`, { hint: refused[1] });
      const flags = Object.keys(command.options).map((key) => `--${key}`);
      throw new UsageError(`unknown option ${token.rawName} of \`firstframe ${name}\``, {
        hint: meantOrHelp(token.rawName, flags, `firstframe ${name} --help`),
      });
    }
    const value = optionValue(token.rawName, option, token.value);
    if (option.multiple) values[key] = [...((values[key] as unknown[]) ?? []), value];
    else if (key in values) throw new UsageError(givenTwice(token.rawName, key));
    else values[key] = value;
  }
  for (const [key, option] of Object.entries(command.options)) {
    if (!(key in values))
      values[key] = option.multiple
        ? []
        : (option.default ?? (option.type === "boolean" ? false : undefined));
  }
  const [least, most] = command.positionals;
  if (positionals.length < least) {
    throw new UsageError(
      `${command.positional ?? "an argument"} is missing: firstframe ${name} ${command.usage}`,
    );
  }
  if (positionals.length > most) {
    throw new UsageError(
      `unexpected argument ${JSON.stringify(positionals[most])}: firstframe ${name} ${command.usage}`,
    );
  }
  return {
    values: values as Arguments<C>["values"],
    positionals,
    rest: split < 0 ? [] : argv.slice(split + 1),
  };
}

const givenTwice = (flag: string, key: string): string =>
  dashed(flag) === `--${dashed(key)}` ? `${flag} was given twice` : `${flag} and --${key} are the same flag`;

/** The hint for an unknown word. */
export function meantOrHelp(found: string, names: readonly string[], help: string): string {
  const meant = didYouMean(found, names);
  return meant === undefined ? `see \`${help}\`` : `${meant} See also \`${help}\``;
}

function optionValue(flag: string, option: Option, text: string | undefined): string | number | boolean {
  if (option.type === "boolean") {
    if (text !== undefined) throw new UsageError(`${flag} takes no value, found ${JSON.stringify(text)}`);
    return true;
  }
  const wanted = option.value ?? option.type;
  if (text === "" && option.mayBeEmpty) return text;
  if (text === undefined || text === "" || (text.startsWith("-") && !(text === "-" || isNumber(text)))) {
    throw new UsageError(`${flag} needs a value: ${flag} ${wanted}`);
  }
  if (option.type === "string") {
    if (option.choices && !option.choices.includes(text)) {
      throw new UsageError(`${flag}: expected ${option.choices.join(", ")}, found ${JSON.stringify(text)}`);
    }
    return text;
  }
  const number = Number(text);
  const least = option.min === undefined ? "" : ` of at least ${option.min}`;
  const kind = option.type === "integer" ? "a whole number" : "a number";
  const fits = isNumber(text) && (option.type === "number" || Number.isSafeInteger(number));
  if (!fits || (option.min !== undefined && number < option.min)) {
    throw new UsageError(`${flag}: expected ${kind}${least}, found ${JSON.stringify(text)}`);
  }
  return number;
}

function isNumber(text: string): boolean {
  return text.trim() === text && text !== "" && Number.isFinite(Number(text));
}

/** The help page of one command. */
export function commandHelp(name: string, command: Command): string {
  const rows = Object.entries(command.options).map(([key, option]): [string, string] => {
    const short = option.short === undefined ? "    " : `-${option.short}, `;
    const value = option.type === "boolean" ? "" : ` ${option.value ?? option.type.toUpperCase()}`;
    const notes = [
      option.choices ? `one of ${option.choices.join(", ")}` : "",
      option.multiple ? "may be repeated" : "",
      option.default === undefined ? "" : `default ${option.default}`,
    ].filter(Boolean);
    return [`${short}--${key}${value}`, option.help + (notes.length > 0 ? ` (${notes.join("; ")})` : "")];
  });
  rows.push(["-h, --help", "this text"]);
  return [
    `Usage: firstframe ${name} ${command.usage}`.trimEnd(),
    "",
    wrap(command.summary, 0),
    ...(command.description === undefined
      ? []
      : ["", ...command.description.split("\n").map((line) => wrap(line, 0))]),
    "",
    "Options:",
    table(rows),
    ...(command.examples ? ["", "Examples:", ...command.examples.map((line) => `  ${line}`)] : []),
    "",
  ].join("\n");
}

/** The help page of the program. */
export function programHelp(commands: Readonly<Record<string, Command>>): string {
  return [
    "Usage: firstframe COMMAND [options]",
    "",
    "A TypeScript notebook kernel for Jupyter with a package for image-to-video diffusion.",
    "",
    "Commands:",
    table(Object.entries(commands).map(([name, command]) => [name, command.summary])),
    "",
    "Options:",
    table([
      ["-h, --help", "this text; `firstframe COMMAND --help` says more"],
      ["-V, --version", "the version"],
    ]),
    "",
  ].join("\n");
}

/** The help page of commands that share their first word. */
export function groupHelp(word: string, commands: Readonly<Record<string, Command>>): string {
  const group = Object.entries(commands).filter(([name]) => name.startsWith(`${word} `));
  return [
    `Usage: firstframe ${word} COMMAND [options]`,
    "",
    "Commands:",
    table(group.map(([name, command]) => [name.slice(word.length + 1), command.summary])),
    "",
    `\`firstframe ${word} COMMAND --help\` says more.`,
    "",
  ].join("\n");
}

function table(rows: [string, string][]): string {
  const widest = Math.max(...rows.map(([left]) => left.length));
  const column = Math.min(widest, 32) + 4;
  return rows
    .map(([left, right]) => {
      const text = wrap(right, column);
      return left.length + 2 >= column
        ? `  ${left}\n${" ".repeat(column)}${text}`
        : `  ${left}`.padEnd(column) + text;
    })
    .join("\n");
}

/** Wraps a paragraph at 100 columns and indents all lines but the first. Lines that are indented already stay as they are. */
function wrap(text: string, indent: number): string {
  if (text.startsWith("  ")) return text;
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent + stripVTControlCharacters(line).length + 1 + word.length > 100) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.join(`\n${" ".repeat(indent)}`);
}
