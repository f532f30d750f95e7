/** A model as a tree of its modules, as PyTorch prints one. */
import { grouped } from "../engine/shown.js";

/** What a module says about itself. */
export interface ModuleInfo {
  /** Its class: "Linear", "CogVideoXBlock". */
  readonly kind: string;
  /** Facts besides its parameters' shapes, each as `name=value`; called when the model is shown. */
  readonly details?: () => readonly string[];
}

interface Node {
  readonly kind: string;
  /** Its own parameters' shapes. */
  readonly shapes: string[];
  readonly details: readonly string[];
  readonly children: Map<string, Node>;
  size: number;
}

/** What the tree needs to know of a parameter. */
interface Shaped {
  readonly shape: readonly number[];
  readonly size: number;
}

/**
 * The tree of modules that the parameters' names form ("encoder.conv_in.conv.weight"). Each line has the shapes of the
 * module's own parameters and how many numbers it and everything below it hold. Equal neighbours in a list share one line,
 * as in PyTorch: `(0-41): 42 x CogVideoXBlock(`.
 *
 * @param modules what the modules are; one without an entry is a ModuleList if its children are numbered
 * @param counts what to say about the whole model
 */
export function moduleTree(
  className: string,
  parameters: ReadonlyMap<string, Shaped>,
  modules: ReadonlyMap<string, ModuleInfo>,
  counts: string,
): string {
  const nodeOf = (path: string): Node => {
    const { kind = "", details = () => [] } = modules.get(path) ?? {};
    return { kind, shapes: [], details: details(), children: new Map(), size: 0 };
  };
  const root: Node = { ...nodeOf(""), kind: className };
  for (const [name, { shape, size }] of parameters) {
    const path = name.split(".");
    const own = path.pop()!;
    let node = root;
    node.size += size;
    for (const [depth, step] of path.entries()) {
      let child = node.children.get(step);
      if (!child) {
        child = nodeOf(path.slice(0, depth + 1).join("."));
        node.children.set(step, child);
      }
      child.size += size;
      node = child;
    }
    node.shapes.push(`${own}=[${shape.join(", ")}]`);
  }
  return lines(root, counts).join("\n");
}

/** A module's lines; the first one without its name. */
function lines(node: Node, counts = grouped(node.size)): string[] {
  const { shapes, details, children } = node;
  const kind = node.kind || ([...children.keys()].every(isIndex) ? "ModuleList" : "Module");
  const own = [...shapes, ...details].join(", ");
  if (children.size === 0) return [`${kind}(${own})  # ${counts}`];
  return [`${kind}(  # ${counts}`, ...(own ? [`  ${own}`] : []), ...childLines(children), ")"];
}

function childLines(children: ReadonlyMap<string, Node>): string[] {
  const runs: { first: string; last: string; count: number; lines: string[] }[] = [];
  for (const [name, node] of children) {
    const run = runs.at(-1);
    const own = lines(node);
    const follows = run && isIndex(name) && Number(name) === Number(run.last) + 1;
    if (follows && run.lines.join("\n") === own.join("\n")) {
      run.last = name;
      run.count += 1;
    } else {
      runs.push({ first: name, last: name, count: 1, lines: own });
    }
  }
  return runs.flatMap(({ first, last, count, lines: [head, ...rest] }) => {
    const name = count === 1 ? `(${first}): ${head}` : `(${first}-${last}): ${count} x ${head} each`;
    return [name, ...rest].map((line) => `  ${line}`);
  });
}

const isIndex = (name: string): boolean => /^\d+$/.test(name);
