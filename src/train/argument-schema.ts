/**
 * What values an argument takes, as JSON Schema: editors use it to complete a training's YAML file, and every value is
 * checked against it, wherever it comes from.
 */
import type { ValidateFunction } from "ajv";

/** A row of the table of arguments, as far as its value goes. */
export interface Rule {
  readonly kind: "string" | "integer" | "number" | "boolean" | "list";
  readonly choices?: readonly string[];
  /** Inclusive bounds. */
  readonly min?: number;
  readonly max?: number;
  /** Exclusive bounds; `above` takes the place of `min`. */
  readonly above?: number;
  readonly below?: number;
  /** Infinity is allowed too. */
  readonly infinite?: boolean;
  /** An empty list is allowed too. */
  readonly empty?: boolean;
}

type Schema = Readonly<Record<string, unknown>>;

/** The schema of a value in code. */
function valueSchema({ kind, choices, min, max, above, below, empty }: Rule): Schema {
  switch (kind) {
    case "boolean":
      return { type: "boolean" };
    case "integer":
    case "number":
      return {
        type: kind,
        ...(above === undefined ? min !== undefined && { minimum: min } : { exclusiveMinimum: above }),
        ...(max !== undefined && { maximum: max }),
        ...(below !== undefined && { exclusiveMaximum: below }),
      };
    case "list":
      return { type: "array", items: { type: "string" }, ...(!empty && { minItems: 1 }) };
    case "string":
      return choices ? { enum: [...choices] } : { type: "string" };
  }
}

/** The schema of a value in a YAML file, where an empty value means the default, and names need no quotes. */
export function fileSchema(rule: Rule): Schema {
  const schema = valueSchema(rule);
  if (rule.choices) return { enum: [...rule.choices, null] };
  const others = { string: ["number"], list: ["string"], boolean: [], integer: [], number: [] }[rule.kind];
  return { ...schema, type: [schema.type, ...others, "null"] };
}

const validators = new WeakMap<Rule, ValidateFunction>();

/** Whether the rule allows a value as it is, without conversion. */
export async function fits(rule: Rule, value: unknown): Promise<boolean> {
  if (rule.infinite && value === Number.POSITIVE_INFINITY) return true;
  const { Ajv } = await import("ajv"); // loaded late: the program's help needs the table but not ajv
  const validate = validators.get(rule) ?? new Ajv().compile(valueSchema(rule));
  validators.set(rule, validate);
  return validate(value) && (rule.kind !== "integer" || Number.isSafeInteger(value));
}

/** What a value has to be, for errors: "a whole number of at least 1". */
export function expectation({ kind, choices, min, max, above, below }: Rule): string {
  switch (kind) {
    case "boolean":
      return "true or false";
    case "list":
      return "a list of names";
    case "string":
      return choices ? `one of ${choices.join(", ")}` : "text";
    case "integer":
    case "number": {
      const bounds = [
        above === undefined ? min !== undefined && `of at least ${min}` : `above ${above}`,
        max !== undefined && `at most ${max}`,
        below !== undefined && `below ${below}`,
      ].filter(Boolean);
      return `${kind === "integer" ? "a whole number" : "a number"} ${bounds.join(" and ")}`.trimEnd();
    }
  }
}
