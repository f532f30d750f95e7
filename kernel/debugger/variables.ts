import { withoutMarks } from "../ipc/marks.js";
import { writtenName } from "../ipc/names.js";
import type { Preview, Property, RemoteObject } from "./inspector.js";

/** A variable as the Debug Adapter Protocol describes it. */
export interface Variable {
  readonly name: string;
  readonly value: string;
  /** Of objects and functions; a front end that shows types shows them in place of values, which say more of all others. */
  readonly type?: string;
  readonly evaluateName: string;
  readonly variablesReference: number;
}

function functionName(text: string): string {
  return /^(?:class\s+)?(?:async\s+)?(?:function\b\*?\s*)?([\w$]*)/.exec(text)?.[1] ?? "";
}

/** What a value looks like in one line. */
export function describe(value: RemoteObject): string {
  switch (value.type) {
    case "string":
      return JSON.stringify(value.value);
    case "undefined":
      return "undefined";
    case "function":
      return `ƒ ${functionName(withoutMarks(value.description ?? ""))}`.trim();
    case "object":
      if (value.subtype === "null") return "null";
      if (value.subtype === "error") return (value.description ?? "Error").split("\n")[0] ?? "Error";
      return value.preview
        ? describePreview(value.preview, value.description ?? "Object")
        : (value.description ?? "Object");
    default:
      return value.unserializableValue ?? value.description ?? String(value.value);
  }
}

function describePreview(preview: Preview, name: string): string {
  const more = preview.overflow ? ", …" : "";
  if (preview.entries) {
    const entries = preview.entries.map(
      ({ key, value }) => `${key ? `${key.description} => ` : ""}${value.description}`,
    );
    return `${name} {${entries.join(", ")}${more}}`;
  }
  const shown = preview.properties.map(({ name: key, type, value = "", subtype }) => {
    const text = type === "string" ? JSON.stringify(value) : type === "function" ? "ƒ" : value;
    return preview.subtype === "array" || preview.subtype === "typedarray"
      ? text
      : `${key}: ${subtype === "null" ? "null" : text}`;
  });
  if (preview.subtype === "array" || preview.subtype === "typedarray")
    return `${name} [${shown.join(", ")}${more}]`;
  return shown.length === 0 && name !== "Object"
    ? name
    : `${name === "Object" ? "" : `${name} `}{${shown.join(", ")}${more}}`;
}

/** What a variable says of its value: JupyterLab's tree shows the type of what has one, and else the value. */
export function shownAs(value: RemoteObject): Pick<Variable, "value" | "type"> {
  const shown = describe(value);
  if (value.type === "function") return { value: shown, type: "function" };
  if (value.type !== "object" || value.subtype === "null") return { value: shown };
  return { value: shown, type: value.className ?? "object" };
}

/** Properties as variables; `reference` makes something to ask a value's own properties by. */
export function toVariables(
  properties: readonly Property[],
  parent: string,
  reference: (value: RemoteObject) => number,
): Variable[] {
  return properties.map(({ name: own, value, get, symbol }) => {
    const evaluateName = memberName(parent, own, symbol !== undefined);
    const name = writtenName(own);
    if (!value)
      return {
        name,
        value: get ? "[Getter]" : "undefined",
        evaluateName,
        variablesReference: 0,
      };
    return {
      name,
      ...shownAs(value),
      evaluateName,
      variablesReference: reference(value),
    };
  });
}

function memberName(parent: string, name: string, symbol: boolean): string {
  if (parent === "") return name;
  if (symbol || name.startsWith("[[")) return "";
  if (/^\d+$/.test(name)) return `${parent}[${name}]`;
  return /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name)
    ? `${parent}.${name}`
    : `${parent}[${JSON.stringify(name)}]`;
}
