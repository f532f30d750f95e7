import { resolve } from "node:path";
import { type Expression, parseSync, type TSType, type VariableDeclaration } from "oxc-parser";
import { InputError } from "../../engine/errors.js";
import { didYouMean } from "../../engine/suggestion.js";
import { UsageError } from "../errors.js";
import { type Cell, cellId, type Notebook } from "./format.js";

/** A parameter as the cell tagged `parameters` declares it. */
export interface Parameter {
  readonly name: string;
  readonly keyword: string;
  /** The type annotation's text, if there is one. */
  readonly annotation: string | undefined;
  readonly accepts: readonly Accepted[];
  /** The declared value, if it is a plain string. */
  readonly standard: string | undefined;
  /** The declaration's text, for messages. */
  readonly declaration: string;
}

/** What a declared type accepts; `anything` if the type says nothing more. */
type Accepted =
  | "string"
  | "number"
  | "boolean"
  | "null"
  | "undefined"
  | "anything"
  | { readonly literal: unknown };

/** A value from the shell, by name. */
export type Given = ReadonlyMap<string, string>;

const PARAMETERS = "parameters";
const INJECTED = "injected-parameters";

/** Splits `NAME=VALUE` arguments. @throws UsageError */
export function readGiven(args: readonly string[]): Given {
  const given = new Map<string, string>();
  for (const arg of args) {
    const [, name, value] = /^([A-Za-z_$][\w$]*)=(.*)$/s.exec(arg) ?? [];
    if (name === undefined || value === undefined) {
      throw new UsageError(`--param: expected NAME=VALUE, found ${JSON.stringify(arg)}`);
    }
    if (given.has(name)) throw new UsageError(`--param ${name} was given twice`);
    given.set(name, value);
  }
  return given;
}

/**
 * Checks parameters against the notebooks that will run and finds the clips they name.
 * Notebooks that declare a parameter get it; one that no notebook declares is an error.
 *
 * @param cwd the folder that paths are relative to.
 * @returns each notebook with its parameters in a cell tagged `injected-parameters`.
 * @throws UsageError naming the parameter, what was expected and what was found.
 */
export async function applyParameters(
  notebooks: readonly { readonly path: string; readonly notebook: Notebook }[],
  given: Given,
  cwd: string,
): Promise<Notebook[]> {
  if (given.size === 0) return notebooks.map(({ notebook }) => notebook);
  const declared = notebooks.map(({ path, notebook }) => declaredParameters(notebook, path));
  for (const name of given.keys()) {
    if (declared.some((parameters) => parameters.has(name))) continue;
    const known = [...new Set(declared.flatMap((parameters) => [...parameters.keys()]))];
    const where = notebooks.length === 1 ? notebooks[0]!.path : `any of the ${notebooks.length} notebooks`;
    const meant = didYouMean(name, known);
    const list = known.length > 0 ? `declared: ${known.join(", ")}` : "no cell is tagged `parameters`";
    throw new UsageError(`unknown parameter ${name} of ${where}`, {
      hint: meant === undefined ? list : `${meant} (${list})`,
    });
  }
  const clips = new Set<string>();
  const injected = notebooks.map(({ notebook }, index) => {
    const lines: string[] = [];
    for (const [name, text] of given) {
      const parameter = declared[index]!.get(name);
      if (parameter === undefined) continue;
      const value = located(parameter, parameterValue(parameter, text), cwd);
      if (isClip(name) && typeof value === "string" && isPath(parameter, value)) clips.add(value);
      const annotation = parameter.annotation === undefined ? "" : `: ${parameter.annotation}`;
      lines.push(`${parameter.keyword} ${name}${annotation} = ${literal(value)};`);
    }
    return lines.length > 0 ? inject(notebook, `// Parameters\n${lines.join("\n")}`) : notebook;
  });
  for (const clip of clips) await assertClip(clip);
  return injected;
}

/** The parameters that a notebook declares. @throws UsageError if its parameters cell is not TypeScript. */
export function declaredParameters(notebook: Notebook, path: string): Map<string, Parameter> {
  const cell = notebook.cells.find((candidate) => hasTag(candidate, PARAMETERS));
  if (cell === undefined || cell.cell_type !== "code") return new Map();
  const language =
    notebook.metadata.language_info?.name ?? notebook.metadata.kernelspec?.language ?? "typescript";
  if (language !== "typescript" && language !== "javascript") {
    throw new UsageError(`parameters need a TypeScript notebook, found ${JSON.stringify(language)}`, {
      file: path,
    });
  }
  const { program, errors } = parseSync("parameters.ts", cell.source, { lang: "ts", sourceType: "module" });
  if (errors[0])
    throw new UsageError(`the cell tagged \`parameters\` is not valid: ${errors[0].message}`, { file: path });
  const found = new Map<string, Parameter>();
  for (const statement of program.body) {
    const declaration = statement.type === "ExportNamedDeclaration" ? statement.declaration : statement;
    if (declaration?.type !== "VariableDeclaration") continue;
    for (const parameter of parametersOf(declaration, cell.source)) found.set(parameter.name, parameter);
  }
  return found;
}

function parametersOf(declaration: VariableDeclaration, source: string): Parameter[] {
  return declaration.declarations.flatMap((declarator) => {
    if (declarator.id.type !== "Identifier") return [];
    const type = declarator.id.typeAnnotation?.typeAnnotation;
    return [
      {
        name: declarator.id.name,
        keyword: declaration.kind,
        annotation: type ? source.slice(type.start, type.end) : undefined,
        accepts: type ? acceptedByType(type) : acceptedByValue(declarator.init),
        standard:
          declarator.init?.type === "Literal" && typeof declarator.init.value === "string"
            ? declarator.init.value
            : undefined,
        declaration: `${declaration.kind} ${source.slice(declarator.start, declarator.end)}`,
      },
    ];
  });
}

function acceptedByType(type: TSType): Accepted[] {
  switch (type.type) {
    case "TSUnionType":
      return type.types.flatMap(acceptedByType);
    case "TSParenthesizedType":
      return acceptedByType(type.typeAnnotation);
    case "TSStringKeyword":
      return ["string"];
    case "TSNumberKeyword":
      return ["number"];
    case "TSBooleanKeyword":
      return ["boolean"];
    case "TSNullKeyword":
      return ["null"];
    case "TSUndefinedKeyword":
      return ["undefined"];
    case "TSLiteralType":
      return type.literal.type === "Literal" ? [{ literal: type.literal.value }] : ["anything"];
    default:
      return ["anything"];
  }
}

function acceptedByValue(value: Expression | null): Accepted[] {
  if (value?.type === "TemplateLiteral") return ["string"];
  const operand = value?.type === "UnaryExpression" && /^[-+]$/.test(value.operator) ? value.argument : value;
  if (operand?.type !== "Literal" || operand.value === null) return ["anything"];
  const kind = typeof operand.value;
  return kind === "string" || kind === "number" || kind === "boolean" ? [kind] : ["anything"];
}

const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const ENDLESS = /^(NaN|[-+]?Infinity)$/;

/** Reads a parameter's text as its declared type. @throws UsageError */
export function parameterValue({ name, accepts, declaration }: Parameter, text: string): unknown {
  for (const accepted of accepts) {
    if (typeof accepted === "object" && text === String(accepted.literal)) return accepted.literal;
    if (accepted === "null" && text === "null") return null;
    if (accepted === "undefined" && text === "undefined") return undefined;
    if (accepted === "boolean" && /^(true|false)$/.test(text)) return text === "true";
    if (accepted === "number" && (NUMBER.test(text) || ENDLESS.test(text))) return Number(text);
  }
  if (accepts.includes("anything")) {
    if (NUMBER.test(text)) return Number(text);
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  if (accepts.includes("string")) return text;
  const expected = accepts.map((accepted) =>
    typeof accepted === "object" ? JSON.stringify(accepted.literal) : accepted,
  );
  throw new UsageError(
    `--param ${name}: expected ${expected.join(" or ")}, found ${JSON.stringify(text)} (it is declared as \`${declaration}\`)`,
  );
}

/** Parameters for clips are recognised by their names: `clip`, `other_clip`, `sourceClip`. */
const isClip = (name: string) => /(^|_)clip$|Clip$/.test(name);

/** A clip's declared value may be a word that only the notebook knows, such as "procedural". */
const isPath = ({ standard }: Parameter, value: string) => value !== "" && value !== standard;

/** Makes paths absolute, because the kernel runs in the notebook's folder and the shell elsewhere. */
function located(parameter: Parameter, value: unknown, cwd: string): unknown {
  if (typeof value !== "string" || !isPath(parameter, value)) return value;
  return isClip(parameter.name) || /^\.\.?[/\\]/.test(value) ? resolve(cwd, value) : value;
}

async function assertClip(path: string): Promise<void> {
  const { readClip } = await import("../../video/read.js");
  try {
    await readClip(path, { select: () => [0] });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new UsageError(error.message.replaceAll(/\s*\n\s*/g, " "));
  }
}

function literal(value: unknown): string {
  return typeof value === "number" || value === undefined ? String(value) : JSON.stringify(value);
}

export function hasTag(cell: Cell, tag: string): boolean {
  return cell.metadata.tags?.includes(tag) ?? false;
}

function inject(notebook: Notebook, source: string): Notebook {
  const cells = notebook.cells.filter((cell) => !hasTag(cell, INJECTED));
  const place = cells.findIndex((cell) => hasTag(cell, PARAMETERS)) + 1;
  const ids = new Set(cells.map((cell) => cell.id));
  let id = cellId(INJECTED);
  while (ids.has(id)) id = cellId(id);
  cells.splice(place, 0, {
    cell_type: "code",
    id,
    metadata: { tags: [INJECTED] },
    source,
    execution_count: null,
    outputs: [],
  });
  return { ...notebook, cells };
}
