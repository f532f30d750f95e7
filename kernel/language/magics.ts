/**
 * Magics, the few lines of a cell that aren't TypeScript: `%time`, `%install`, `%%bash`, `!command`, `?`, ... `magics` has them all.
 */
export const checkModes = ["before", "warn", "off"] as const;
export type CheckMode = (typeof checkModes)[number];

/** What a cell magic shows its text as. */
const shownTypes = {
  html: "text/html",
  markdown: "text/markdown",
  latex: "text/latex",
  svg: "image/svg+xml",
  javascript: "application/javascript",
} as const;

export type Magic =
  /** Runs before the rest of the cell. */
  | { readonly kind: "install"; readonly packages: readonly string[] }
  | { readonly kind: "check"; readonly mode: CheckMode }
  | { readonly kind: "help" }
  | { readonly kind: "bash"; readonly script: string }
  /** Reads the environment, one variable, or sets one. */
  | { readonly kind: "env"; readonly name?: string; readonly value?: string }
  /** Without a folder, says which is the current one. */
  | { readonly kind: "cd"; readonly folder?: string }
  | { readonly kind: "show"; readonly type: string; readonly text: string }
  | { readonly kind: "writefile"; readonly file: string; readonly append: boolean; readonly text: string };

export interface ParsedCell {
  /** What comes before the code, in order. */
  readonly first: readonly Magic[];
  /** The cell's TypeScript; what was taken out is blank, so that lines and columns stay. */
  readonly code: string;
  readonly time?: true;
  readonly timeit?: { readonly number: number; readonly runs: number };
  readonly inspect?: { readonly code: string; readonly detail: 0 | 1 };
}

/** A line that looks like a magic and is none. */
export class MagicError extends Error {
  override name = "MagicError";
}

/** What a magic is written as, and what it does; an empty text goes on with the line before. */
const magics: readonly (readonly [usage: string, help: string])[] = [
  ["%time CODE", "run and say how long it took (also as the first line of a cell)"],
  ["%timeit [-n N] [-r R] CODE", "run many times and say how long one takes: N times a run, R runs"],
  [
    "%install PACKAGE...",
    "npm install into the notebook's folder, or pnpm's, yarn's or bun's add if the project is theirs; flags such as --save-dev are passed on",
  ],
  ["%check MODE", "types are checked before (the default), only warned about (warn), or not at all (off)"],
  ["!COMMAND", "a line for the shell, before the cell's code; the same as %bash COMMAND"],
  ["%%bash", "the rest of the cell is a shell script"],
  ["%env [NAME[=VALUE]]", "the environment, one variable's value, or set it"],
  ["%cd [FOLDER]", "go to a folder (without one: home; -: the one before); imports stay the notebook's"],
  ["%pwd", "which folder that is"],
  [`%%${Object.keys(shownTypes).join(", %%")}`, "the rest of the cell is shown as that"],
  ["%%writefile [-a] FILE", "the rest of the cell is written to a file (-a: at its end)"],
  ["NAME? or ?NAME", "what NAME is, in the pager; with ?? its source as well"],
  ["%help", "this list (also %lsmagic)"],
];

const usageWidth = 28;
export const magicsHelp = magics
  .map(([usage, help]) =>
    usage.length < usageWidth
      ? usage.padEnd(usageWidth) + help
      : `${usage}\n${" ".repeat(usageWidth)}${help}`,
  )
  .join("\n");

/** All that begin with a percent sign, by name. */
const magicNames = [...new Set(magics.flatMap(([usage]) => usage.match(/%{1,2}[a-z]+/g) ?? []))];

const inspection = /^(\?{1,2})?\s*([\p{ID_Start}_$][\p{ID_Continue}$.[\]'"]*)\s*(\?{1,2})?$/u;
/** A longer text is no name. */
const maxQuestion = 1000;

/** Whether a cell has a magic at all; nearly none has. */
export function hasMagic(code: string): boolean {
  const text = code.trim();
  return /^[%?!]/.test(text) || text.endsWith("?");
}

/** What a line that begins with `!` is: a command, code, or a command if no cell has declared the name that it begins with. */
type Exclamation = "command" | "code" | { readonly unlessKnown: string };

function exclamationOf(line: string): Exclamation {
  const text = line.trim().slice(1).trimStart();
  if (/^(?:\.{1,2}|~)?\/[\w.@-]/.test(text))
    return /^\/.*\/[a-z]*\.(?:test|exec)\(/.test(text) ? "code" : "command"; // a path, or a regular expression
  const [word] = /^[A-Za-z_$][\w$]*/.exec(text) ?? [];
  if (word === undefined) return "code";
  const rest = text.slice(word.length);
  if (/^[([`?]/.test(rest) || /^\s+(?:in|instanceof|as|satisfies)\b/.test(rest)) return "code";
  // No expression goes on like this: `git status`, `ls -la`, `cat "a b"`, `npm-check`, `A=1 make`.
  if (/^\s+["'\w./~$@-]/.test(rest) || /^-\w/.test(rest) || /^=[^=>]/.test(rest)) return "command";
  return { unlessKnown: word };
}

/** The name that decides whether a cell's first line is a command (`!ls`) or code (`!ready`): code if some cell knows the name. */
export function undecidedName(code: string): string | undefined {
  const [first] = code.trimStart().split("\n", 1);
  if (first?.startsWith("!") !== true) return undefined;
  const kind = exclamationOf(first);
  return typeof kind === "string" ? undefined : kind.unlessKnown;
}

/** A cell as it is run. `isUnknown` says whether no cell has declared a name. Rejects with {@link MagicError}. */
export async function readCell(
  code: string,
  isUnknown: (name: string) => Promise<boolean>,
): Promise<ParsedCell> {
  const name = undecidedName(code);
  return name !== undefined && !(await isUnknown(name)) ? { first: [], code } : parseMagics(code);
}

/** The word of a cell that ends a console, unless some cell has declared it. */
export function exitWord(code: string): string | undefined {
  return /^\s*(exit|quit)\s*(?:\(\s*\))?\s*;?\s*$/.exec(code.slice(0, 100))?.[1];
}

/** Whether a cell is `name?` or `?name`, with one mark or two. */
export function isQuestion(code: string): boolean {
  return questionOf(code) !== undefined;
}

function questionOf(code: string): ParsedCell["inspect"] {
  const text = code.trim();
  if (text.length > maxQuestion) return undefined;
  const [, before, name, after] = inspection.exec(text) ?? [];
  if (name === undefined || (before === undefined) === (after === undefined)) return undefined;
  return { code: name, detail: (before ?? after)!.length === 2 ? 1 : 0 };
}

/** A cell's TypeScript alone, of the same length. */
export function withoutMagics(code: string): string {
  if (!hasMagic(code)) return code;
  try {
    const { code: rest } = parseMagics(code);
    return rest.length === code.length ? rest : code;
  } catch {
    return code;
  }
}

export function parseMagics(code: string): ParsedCell {
  if (!hasMagic(code)) return { first: [], code };
  const inspect = questionOf(code);
  if (inspect !== undefined) return { first: [], code: "", inspect };
  const first: Magic[] = [];
  const lines = code.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    if (line.trim() === "") continue;
    if (line.trimStart().startsWith("!")) {
      if (exclamationOf(line) === "code") break;
      const end = lastLineOf(lines, i);
      const script = lines.slice(i, end + 1).join("\n");
      first.push({ kind: "bash", script: script.slice(script.indexOf("!") + 1) });
      for (; i < end; i++) lines[i] = " ".repeat(lines[i]!.length);
      lines[i] = " ".repeat(lines[i]!.length);
      continue;
    }
    const command = /^\s*(%{1,2})([A-Za-z_]*)[ \t]*(.*)$/s.exec(line);
    if (command === null) break;
    const [, marks, name, rest] = command as unknown as [string, string, string, string];
    const before = line.length - rest.length;
    const remaining = () =>
      [...blank(lines.slice(0, i)), " ".repeat(before) + rest, ...lines.slice(i + 1)].join("\n");
    const body = () => lines.slice(i + 1).join("\n");
    const whole = marks === "%%";
    switch (name) {
      case "install":
        if (rest.trim() === "") throw new MagicError("%install: expected the names of npm packages");
        first.push({ kind: "install", packages: rest.trim().split(/\s+/) });
        break;
      case "check": {
        const mode = checkModes.find((each) => each === rest.trim());
        if (mode === undefined) {
          throw new MagicError(
            `%check: expected ${checkModes.join(", ")}, found ${JSON.stringify(rest.trim())}`,
          );
        }
        first.push({ kind: "check", mode });
        break;
      }
      case "help":
      case "lsmagic":
        first.push({ kind: "help" });
        break;
      case "env":
      case "set_env":
        first.push(environmentOf(rest.trim()));
        break;
      case "cd":
        first.push({ kind: "cd", folder: unquoted(rest.trim()) || "~" });
        break;
      case "pwd":
        first.push({ kind: "cd" });
        break;
      case "time":
        return { first, code: remaining(), time: true };
      case "timeit": {
        const flags = { n: 0, r: 0 };
        const flag = /-([nr])\s*(\d+)\s*/y;
        let end = 0;
        for (let found = flag.exec(rest); found !== null; found = flag.exec(rest)) {
          flags[found[1] as "n" | "r"] ||= Number(found[2]);
          end = flag.lastIndex;
        }
        const timed = rest.slice(end);
        const start = line.length - timed.length;
        const kept = [...blank(lines.slice(0, i)), " ".repeat(start) + timed, ...lines.slice(i + 1)].join(
          "\n",
        );
        return { first, code: kept, timeit: { number: flags.n, runs: flags.r || 7 } };
      }
      case "bash":
      case "sh":
        if (whole) {
          first.push({ kind: "bash", script: `${rest}\n${body()}` });
          return { first, code: "" };
        }
        if (rest.trim() === "") throw new MagicError(`%${name}: expected a command`);
        first.push({ kind: "bash", script: rest });
        break;
      case "writefile": {
        const [, append, file] = /^(-a\s+)?(.*\S)\s*$/.exec(rest) ?? [];
        if (!whole || file === undefined)
          throw new MagicError("expected %%writefile FILE, then the file's text");
        first.push({ kind: "writefile", file: unquoted(file), append: append !== undefined, text: body() });
        return { first, code: "" };
      }
      default: {
        const type = shownTypes[(name === "js" ? "javascript" : name) as keyof typeof shownTypes];
        if (type === undefined)
          throw new MagicError(
            `unknown magic ${marks}${name}; there are ${magicNames.join(", ")} and !COMMAND`,
          );
        if (!whole) throw new MagicError(`expected %%${name} as the cell's first line, found %${name}`);
        first.push({ kind: "show", type, text: [rest, ...lines.slice(i + 1)].join("\n").trim() });
        return { first, code: "" };
      }
    }
    lines[i] = " ".repeat(line.length);
  }
  return { first, code: lines.join("\n") };
}

/** A command goes on in the next line where it ends with a backslash. */
function lastLineOf(lines: readonly string[], from: number): number {
  let at = from;
  while (at + 1 < lines.length && /(?:^|[^\\])(?:\\\\)*\\$/.test(lines[at]!)) at += 1;
  return at;
}

/** `NAME`, `NAME=VALUE` or `NAME VALUE`, as in IPython. */
function environmentOf(text: string): Magic {
  if (text === "") return { kind: "env" };
  const [, name, , value] = /^([A-Za-z_]\w*)(\s*=\s*|\s+|$)(.*)$/s.exec(text) ?? [];
  if (name === undefined)
    throw new MagicError(`%env: expected NAME, NAME=VALUE or nothing, found ${JSON.stringify(text)}`);
  return text === name ? { kind: "env", name } : { kind: "env", name, value: value! };
}

const unquoted = (text: string): string => /^(["'])(.*)\1$/.exec(text)?.[2] ?? text;

function blank(lines: readonly string[]): string[] {
  return lines.map((line) => " ".repeat(line.length));
}
