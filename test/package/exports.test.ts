import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, it } from "node:test";
import ts from "typescript-js";
import { projectRoot } from "./consumer.js";

// The public surface, as TypeScript sees it in the declarations that are published.

interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly types: string }>>;
}

const manifest = JSON.parse(readFileSync(join(projectRoot, "package.json"), "utf8")) as Manifest;
const entries = Object.values(manifest.exports).flatMap((target) =>
  typeof target === "string" ? [] : [join(projectRoot, target.types)],
);
const program = ts.createProgram(entries, {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
  types: ["node"],
  skipLibCheck: true,
});
const checker = program.getTypeChecker();

const target = (symbol: ts.Symbol): ts.Symbol =>
  symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;

/** What can be imported from the package, namespaces such as `safetensors` included. */
function importable(): Set<ts.Symbol> {
  const found = new Set<ts.Symbol>();
  const add = (module: ts.Symbol): void => {
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = target(exported);
      if (found.has(symbol)) continue;
      found.add(symbol);
      const isOwn = symbol.declarations?.some((node) => ts.isSourceFile(node) && isOurs(node));
      if (isOwn) add(symbol);
    }
  };
  for (const entry of entries) add(checker.getSymbolAtLocation(program.getSourceFile(entry)!)!);
  return found;
}

function isOurs(node: ts.Node): boolean {
  return relative(projectRoot, node.getSourceFile().fileName).startsWith("dist");
}

/** Names of types that a declaration's public part mentions. */
function mentioned(declaration: ts.Node): ts.Symbol[] {
  const symbols: ts.Symbol[] = [];
  const visit = (node: ts.Node): void => {
    const hidden =
      ts.canHaveModifiers(node) &&
      ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword);
    const name = (node as Partial<ts.NamedDeclaration>).name;
    if (hidden || (name !== undefined && ts.isPrivateIdentifier(name))) return;
    const typeName = ts.isTypeReferenceNode(node)
      ? node.typeName
      : ts.isTypeQueryNode(node)
        ? node.exprName
        : ts.isExpressionWithTypeArguments(node)
          ? node.expression
          : ts.isImportTypeNode(node)
            ? node.qualifier
            : undefined;
    const symbol = typeName && checker.getSymbolAtLocation(typeName);
    if (symbol) symbols.push(target(symbol));
    ts.forEachChild(node, visit);
  };
  visit(declaration);
  return symbols;
}

describe("the public surface", () => {
  it("has a name that can be imported for every type of a public signature", () => {
    const names = importable();
    assert.ok(names.size > 150, `${names.size} exports`);
    const missing = new Set<string>();
    for (const symbol of names) {
      for (const declaration of symbol.declarations ?? []) {
        if (!isOurs(declaration) || ts.isSourceFile(declaration)) continue;
        for (const type of mentioned(declaration)) {
          const [first] = type.declarations ?? [];
          if (first === undefined || !isOurs(first) || !ts.isSourceFile(first.parent)) continue;
          if (!names.has(type)) {
            missing.add(
              `${relative(projectRoot, first.getSourceFile().fileName)}: ${type.name} (${symbol.name})`,
            );
          }
        }
      }
    }
    assert.deepEqual([...missing].sort(), []);
  });

  it("is what was reviewed: test/package/public-surface.txt, which FIRSTFRAME_WRITE_SURFACE=1 writes anew", () => {
    const file = join(projectRoot, "test", "package", "public-surface.txt");
    const surface = publicSurface();
    if (process.env.FIRSTFRAME_WRITE_SURFACE) writeFileSync(file, surface);
    assert.deepEqual(surface.split("\n"), readFileSync(file, "utf8").split("\n"));
  });
});

/** Every entry's own exports, declarations without comments, and where else the same thing can be imported. */
function publicSurface(): string {
  const printer = ts.createPrinter({ removeComments: true });
  const places = new Map<ts.Symbol, string[]>();
  for (const [entry, value] of Object.entries(manifest.exports)) {
    if (typeof value === "string") continue;
    const source = program.getSourceFile(join(projectRoot, value.types))!;
    for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(source)!)) {
      const symbol = target(exported);
      places.set(symbol, [
        ...(places.get(symbol) ?? []),
        `${entry.replace(".", "firstframe")} ${exported.name}`,
      ]);
    }
  }
  const isPrivate = (node: ts.Node) =>
    (ts.canHaveModifiers(node) &&
      ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword)) ||
    ((node as Partial<ts.NamedDeclaration>).name !== undefined &&
      ts.isPrivateIdentifier((node as ts.NamedDeclaration).name!));
  const shown = (node: ts.Node): string => {
    const visible = ts.transform(node, [
      (context) => (root) => {
        const visit = (child: ts.Node): ts.Node | undefined =>
          isPrivate(child) ? undefined : ts.visitEachChild(child, visit, context);
        return ts.visitNode(root, visit) as ts.Node;
      },
    ]).transformed[0]!;
    return printer.printNode(ts.EmitHint.Unspecified, visible, node.getSourceFile());
  };
  const texts = [...places].flatMap(([symbol, names]) => {
    const own = (symbol.declarations ?? []).filter((node) => isOurs(node) && !ts.isSourceFile(node));
    if (own.length === 0) return [`// ${names.sort().join(", ")}\n// of another package or a namespace`];
    return [`// ${names.sort().join(", ")}\n${own.map(shown).join("\n")}`];
  });
  return `${texts.sort().join("\n\n")}\n`;
}
