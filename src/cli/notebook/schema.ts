/**
 * The notebook format 4.5 as a JSON schema, written from the format's documentation. It accepts and refuses what Jupyter's
 * own schema does (`test/src/cli/notebook-format.test.ts` compares the two).
 * Cells and outputs are told apart by their type, so that an error names the field that is wrong.
 *
 * @param strict refuse fields that 4.5 does not know, as the format demands; notebooks of a later 4.x may have more.
 */
export function notebookSchema(strict: boolean): object {
  const object = (required: string[], properties: Record<string, object>) => ({
    type: "object",
    required,
    properties,
    ...(strict ? { additionalProperties: false } : {}),
  });
  const open = (properties: Record<string, object>, required: string[] = []) => ({
    type: "object",
    required,
    properties,
  });
  const text = { type: "string" };
  const flag = { type: "boolean" };
  const lines = { anyOf: [text, { type: "array", items: text }] };
  const count = { type: ["integer", "null"], minimum: 0 };
  const bundle = {
    type: "object",
    patternProperties: { "^application/(.*\\+)?json$": true },
    additionalProperties: lines,
  };
  const attachments = { type: "object", additionalProperties: bundle };
  const names = {
    name: { type: "string", pattern: "^.+$" },
    tags: { type: "array", uniqueItems: true, items: { type: "string", pattern: "^[^,]+$" } },
  };
  const jupyter = { type: "object" };

  const cell = (
    type: string,
    metadata: Record<string, object>,
    more: Record<string, object>,
    required: string[],
  ) =>
    object(["id", "cell_type", "metadata", "source", ...required], {
      id: { type: "string", pattern: "^[a-zA-Z0-9_-]+$", minLength: 1, maxLength: 64 },
      cell_type: { const: type },
      metadata: open({ jupyter, ...names, ...metadata }),
      source: lines,
      ...more,
    });
  const output = (type: string, fields: Record<string, object>) =>
    object(["output_type", ...Object.keys(fields)], { output_type: { const: type }, ...fields });
  const shown = { data: bundle, metadata: { type: "object" } };

  const outputs = {
    type: "array",
    items: {
      type: "object",
      required: ["output_type"],
      discriminator: { propertyName: "output_type" },
      oneOf: [
        output("stream", { name: text, text: lines }),
        output("display_data", shown),
        output("execute_result", { ...shown, execution_count: count }),
        output("error", { ename: text, evalue: text, traceback: { type: "array", items: text } }),
      ],
    },
  };
  const codeMetadata = {
    execution: { type: "object", additionalProperties: text },
    collapsed: flag,
    scrolled: { enum: [true, false, "auto"] },
  };

  return object(["metadata", "nbformat_minor", "nbformat", "cells"], {
    nbformat: { const: 4 },
    nbformat_minor: { type: "integer", minimum: 5 },
    metadata: open({
      kernelspec: open({ name: text, display_name: text }, ["name", "display_name"]),
      language_info: open(
        {
          name: text,
          codemirror_mode: { anyOf: [text, { type: "object" }] },
          file_extension: text,
          mimetype: text,
          pygments_lexer: text,
        },
        ["name"],
      ),
      orig_nbformat: { type: "integer", minimum: 1 },
      title: text,
      authors: { type: "array" },
    }),
    cells: {
      type: "array",
      items: {
        type: "object",
        required: ["cell_type"],
        discriminator: { propertyName: "cell_type" },
        oneOf: [
          cell("raw", { format: text }, { attachments }, []),
          cell("markdown", {}, { attachments }, []),
          cell("code", codeMetadata, { outputs, execution_count: count }, ["outputs", "execution_count"]),
        ],
      },
    },
  });
}
