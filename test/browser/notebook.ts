/** A notebook in nbformat 4.5 for the firstframe kernel. */
export function notebook(
  cells: readonly { readonly code: string; readonly data?: Record<string, unknown> }[],
): object {
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: {
      kernelspec: { name: "firstframe", display_name: "TypeScript (firstframe)", language: "typescript" },
      language_info: { name: "typescript", mimetype: "text/typescript", file_extension: ".ts" },
    },
    cells: cells.map(({ code, data }, i) => ({
      id: `cell-${i}`,
      cell_type: "code",
      metadata: {},
      execution_count: data ? i + 1 : null,
      source: code,
      outputs: data ? [{ output_type: "execute_result", execution_count: i + 1, metadata: {}, data }] : [],
    })),
  };
}
