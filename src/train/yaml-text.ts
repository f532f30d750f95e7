import { firstLine, InputError } from "../engine/errors.js";

/** The parser recurses for each level, and when the stack is exhausted V8 may end the process. */
const DEEPEST = 500;

function isTooDeep(text: string): boolean {
  let depth = 0;
  for (const character of text) {
    if (character === "[" || character === "{") depth += 1;
    else if (character === "]" || character === "}") depth -= 1;
    if (depth > DEEPEST) return true;
  }
  return false;
}

/** @throws InputError saying where the text is not YAML; the caller knows the file. */
export async function parseYaml(text: string): Promise<unknown> {
  if (isTooDeep(text)) throw new InputError("not valid YAML (nested too deeply)");
  const { parse, YAMLParseError } = await import("yaml");
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    const at = error.linePos ? `line ${error.linePos[0].line}: ` : "";
    throw new InputError(`${at}not valid YAML (${firstLine(error)})`);
  }
}
