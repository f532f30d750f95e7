import { type Node, type Program, parseSync } from "oxc-parser";
import { walk } from "./source.js";

/** A variable's type with the same meaning in every cell: nothing in it is declared by cells or imported. */
export interface PlainType {
  /** What follows the name in a declaration: `: number[]`, or ` = 5` for a constant that is a literal. */
  readonly declared: string;
  /** Global names in it, which a cell may shadow. */
  readonly globals: readonly string[];
}

/** Generic and other global types that only the standard library declares. */
const globals = new Set(
  `Array ReadonlyArray Map ReadonlyMap Set ReadonlySet WeakMap WeakSet Promise PromiseLike Record Partial Required Readonly Date
   RegExp Error TypeError RangeError Iterable AsyncIterable Generator AsyncGenerator ArrayBuffer SharedArrayBuffer ArrayBufferLike DataView Int8Array
   Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array Float32Array Float64Array BigInt64Array
   BigUint64Array Buffer URL URLSearchParams Function RegExpMatchArray RegExpExecArray`.split(/\s+/),
);

/** Whether a name without a declaration in the notebook is a type of the standard library that is no union. */
export function isLibraryType(name: string): boolean {
  return globals.has(name);
}

/** Longer types are left for the compiler to work out again. */
const longest = 1000;

/** Type nodes that mean the same everywhere. */
const plainNodes =
  /^(?:Program|Identifier|Literal|RestElement|UnaryExpression|TemplateLiteral|TemplateElement|TS(?:DeclareFunction|TypeAliasDeclaration|TypeAnnotation|(?:Any|BigInt|Boolean|Never|Null|Number|Object|String|Symbol|Undefined|Unknown|Void)Keyword|ArrayType|TupleType|OptionalType|RestType|NamedTupleMember|UnionType|IntersectionType|TypeLiteral|PropertySignature|MethodSignature|IndexSignature(?:Name)?|FunctionType|LiteralType|TypeReference|TypeParameterInstantiation|TypeOperator|ParenthesizedType))$/;

/** Types that are obvious from a literal or a keyword, so that the compiler need not be asked. */
export function evidentTypes(program: Program): Map<string, PlainType> {
  const types = new Map<string, PlainType>();
  const seen = new Set<string>();
  for (const statement of program.body) {
    const node = statement.type === "ExportNamedDeclaration" ? statement.declaration : statement;
    if (node?.type !== "VariableDeclaration" || node.declare) continue;
    for (const { id, init } of node.declarations) {
      if (id.type !== "Identifier") continue;
      const declared = id.typeAnnotation
        ? annotated(id.typeAnnotation.typeAnnotation)
        : initialized(init, node.kind === "const");
      // A `var` may be declared twice.
      if (declared !== undefined && !seen.has(id.name)) types.set(id.name, { declared, globals: [] });
      else types.delete(id.name);
      seen.add(id.name);
    }
  }
  return types;
}

function annotated(type: Node): string | undefined {
  const keyword = /^TS(Boolean|Number|String)Keyword$/.exec(type.type)?.[1];
  return keyword && `: ${keyword.toLowerCase()}`;
}

function initialized(value: Node | null, constant: boolean): string | undefined {
  if (value?.type !== "Literal") return undefined;
  const type = typeof value.value;
  // A constant's literal is repeated in every cell that mentions it.
  if (constant && (value.raw === null || value.raw.length > longest || value.raw.includes("\n")))
    return undefined;
  if (constant) return type === "number" || type === "string" ? ` = ${value.raw}` : undefined;
  return type === "number" || type === "string" || type === "boolean" ? `: ${type}` : undefined;
}

/** The type in the declaration of a variable that the compiler shows. */
export function shownType(shown: string, name: string): { kind: string; type: string } | null {
  const match = /^```\w*\n(let|const|var) (\S+?): ([\s\S]*?)\n```/.exec(shown);
  return match && match[2] === name ? { kind: match[1]!, type: match[3]! } : null;
}

/** The type of a variable, from the declaration that the compiler shows; null if it is not plain. */
export function plainTypeOf(shown: string, name: string): PlainType | null {
  const declaration = shownType(shown, name);
  if (!declaration) return null;
  const { kind, type: text } = declaration;
  if (text.length > longest || /\.\.\. \d+ more/.test(text)) return null;
  // `const b = true` may widen to boolean where it is assigned, a declared `true` may not.
  if (kind === "const" && /\b(?:true|false)\b|\d(?:n|\s*n)\b/.test(text)) return null;
  const { program, errors } = parseSync("type.ts", `type T = ${text};`, { lang: "ts" });
  const used = errors.length === 0 && globalsIn(program);
  if (!used) return null;
  const [alias] = program.body;
  const type = alias?.type === "TSTypeAliasDeclaration" ? alias.typeAnnotation : null;
  const literal = kind === "const" && type?.type === "TSLiteralType";
  const oneLine = onOneLine(text);
  return { declared: literal ? ` = ${text}` : `: ${oneLine}`, globals: used };
}

/** The signature of a function, from the declaration that the compiler shows; null if it is not plain. */
export function plainFunctionOf(shown: string, name: string): PlainType | null {
  const match = /^```\w*\nfunction ([^\s(<]+)(\([\s\S]*?)\n```/.exec(shown);
  const signature = match?.[1] === name ? match[2]! : "";
  if (signature === "" || signature.length > longest || /\.\.\. \d+ more/.test(signature)) return null;
  const { program, errors } = parseSync("type.ts", `declare function ${name}${signature};`, { lang: "ts" });
  const used = errors.length === 0 && program.body.length === 1 && globalsIn(program);
  return used ? { declared: onOneLine(signature), globals: used } : null;
}

/** The global names in types; false if they have others, or parts that do not mean the same everywhere. */
function globalsIn(program: Program): string[] | false {
  const used = new Set<string>();
  let plain = true;
  walk(program, (node) => {
    if (!plainNodes.test(node.type)) plain = false;
    if (node.type === "TSTypeReference") {
      if (node.typeName.type === "Identifier" && globals.has(node.typeName.name))
        used.add(node.typeName.name);
      else plain = false;
    }
    // A `unique symbol` belongs to one variable.
    if (node.type === "TSTypeOperator" && node.operator === "unique") plain = false;
    return plain;
  });
  return plain && [...used];
}

/** Puts a statement or type, for which line breaks mean nothing, on one line. */
export function onOneLine(text: string): string {
  return text
    .split("\n")
    .map((line, i) => (i > 0 ? line.trim() : line))
    .join(" ");
}
