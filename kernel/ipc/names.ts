/** Stands, in place of a request's number, for "whatever runs although no cell does", e.g. a timer. */
export const whenIdle = -1;

/**
 * The globals that transformed cells call. The transform and the executor know of them.
 *
 * `__firstframe`:
 * - `import(specifier, options?, names?)`: a module's namespace. `names` are those that must exist.
 * - `await(value)`: what a cell awaits; rejected by an interrupt.
 * - `iterate(iterable)`: what a cell iterates with `for await`; its steps are rejected by an interrupt.
 * - `interrupt()`: called where the flag was found set; throws.
 * - `raise()`: what the control thread has the main thread do to set the flag.
 * - `typescript()`: lets `require` load TypeScript.
 * - `require(id)`: CommonJS require from the notebook's folder.
 * - `meta`: the cell's `import.meta`.
 * - `box(value)`: what holds the cell's result.
 * - `bundle(value)`: the MIME bundle that a value is shown by.
 * - `bash(script)`, `install(packages)`, `env`, `cd`, `show`, `writefile`: what the magics do.
 * - `fetch(value)`, `abandon()`: what the inspector calls, to hand over a value and to give up what never settles.
 */
export const runtimeGlobal = "__firstframe";
/**
 * True while an interrupt is pending. V8 takes it for a constant in what it optimises, so that guards cost nothing, until
 * it changes.
 */
export const interruptFlag = "__firstframeInterrupt";
/** Ends a name of the session's own that packages must not meet. It is part of a name, and nothing shows it. */
export const ownMark = "\u200d";

/** A name as its author wrote it. */
export const writtenName = (name: string): string =>
  name.endsWith(ownMark) ? name.slice(0, -ownMark.length) : name;

/** What scripts are called that no cell wrote. */
export const ownScript = "firstframe:magic";

/** What the control thread has the main thread do, whatever runs there: before it ends what a promise continued; to set the flag. */
export const abandonExpression = `${runtimeGlobal}.abandon()`;
export const raiseExpression = `${runtimeGlobal}.raise()`;
