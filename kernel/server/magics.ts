/**
 * Magics, the few lines of a cell that aren't TypeScript: `%time`, `%timeit`, `%install`, `%check`, `%%bash`, `?` and `??`.
 */
export const checkModes = ["before", "warn", "off"] as const;
export type CheckMode = (typeof checkModes)[number];

export type Magic =
  /** Runs before the rest of the cell. */
  | { readonly kind: "install"; readonly packages: readonly string[] }
  | { readonly kind: "check"; readonly mode: CheckMode }
  | { readonly kind: "help" };

export interface ParsedCell {
  /** What comes before the code, in order. */
  readonly first: readonly Magic[];
  /** The cell's TypeScript; what was taken out is blank, so that lines and columns stay. */
  readonly code: string;
  readonly time?: true;
  readonly timeit?: { readonly number: number; readonly runs: number };
  readonly bash?: string;
  readonly inspect?: { readonly code: string; readonly detail: 0 | 1 };
}

/** A line that looks like a magic and is none. */
export class MagicError extends Error {
  override name = "MagicError";
}

export const magicsHelp = `%time CODE            run and say how long it took (also as the first line of a cell)
%timeit [-n N] [-r R] CODE
                      run many times and say how long one takes: N times a run, R runs
%install PACKAGE...   npm install into the notebook's folder; flags such as --save-dev are passed on
%check MODE           types are checked before (the default), only warned about (warn), or not at all (off)
%%bash                the rest of the cell is a shell script; %bash COMMAND for one line
NAME? or ?NAME        what NAME is, in the pager; with ?? its source as well
%help                 this list`;

const inspection = /^(\?{1,2})?\s*([\p{ID_Start}_$][\p{ID_Continue}$.[\]'"]*)\s*(\?{1,2})?$/u;
/** A longer text is no name. */
const maxQuestion = 1000;

/** Whether a cell has a magic at all; nearly none has. */
export function hasMagic(code: string): boolean {
  const text = code.trim();
  return text.startsWith("%") || text.startsWith("?") || text.endsWith("?");
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
    const command = /^\s*(%{1,2})([A-Za-z]*)[ \t]*(.*)$/s.exec(line);
    if (command === null) break;
    const [, marks, name, rest] = command as unknown as [string, string, string, string];
    const before = line.length - rest.length;
    const remaining = () =>
      [...blank(lines.slice(0, i)), " ".repeat(before) + rest, ...lines.slice(i + 1)].join("\n");
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
        first.push({ kind: "help" });
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
        if (marks === "%%") return { first, code: "", bash: [rest, ...lines.slice(i + 1)].join("\n") };
        return { first, code: "", bash: rest };
      default:
        throw new MagicError(`unknown magic ${marks}${name}; %help lists them`);
    }
    lines[i] = " ".repeat(line.length);
  }
  return { first, code: lines.join("\n") };
}

function blank(lines: readonly string[]): string[] {
  return lines.map((line) => " ".repeat(line.length));
}
