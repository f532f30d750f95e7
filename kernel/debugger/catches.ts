import { type Node, parseSync } from "oxc-parser";
import { isShallow } from "../language/depth.js";
import { isFunction, walk } from "../language/source.js";

/**
 * Whether an exception at a place in a script is caught in the function that it happens in. V8 itself can't tell for
 * cells: to it, they are all caught, by the executor.
 */
export class Catches {
  private readonly scripts = new Map<string, (line: number, column: number) => boolean>();

  constructor(private readonly sourceOf: (scriptId: string) => Promise<string>) {}

  async caughtAt(scriptId: string, line: number, column: number): Promise<boolean> {
    let check = this.scripts.get(scriptId);
    if (!check) {
      check = checkOf(await this.sourceOf(scriptId));
      this.scripts.set(scriptId, check);
    }
    return check(line, column);
  }

  forget(): void {
    this.scripts.clear();
  }
}

function checkOf(source: string): (line: number, column: number) => boolean {
  if (!isShallow(source)) return () => false;
  const lines = [0];
  for (let at = source.indexOf("\n"); at >= 0; at = source.indexOf("\n", at + 1)) lines.push(at + 1);
  const { program } = parseSync("script.js", source, { lang: "js", sourceType: "unambiguous" });
  return (line, column) => {
    const offset = (lines[line] ?? source.length) + column;
    let caught = false;
    const contains = (node: Node) => node.start <= offset && offset < node.end;
    walk(program, (node) => {
      if (node.type !== "Program" && !contains(node)) return false;
      // A function inside a try block runs when it is called.
      if (isFunction(node)) caught = false;
      else if (node.type === "TryStatement" && node.handler && contains(node.block)) caught = true;
      return true;
    });
    return caught;
  };
}
