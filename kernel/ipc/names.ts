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
 * - `bash(script)`, `install(packages)`: what `%%bash` and `%install` do.
 * - `fetch(value)`, `abandon()`: what the inspector calls, to hand over a value and to give up what never settles.
 */
export const runtimeGlobal = "__firstframe";
/**
 * True while an interrupt is pending. V8 takes it for a constant in what it optimises, so that guards cost nothing, until
 * it changes.
 */
export const interruptFlag = "__firstframeInterrupt";
/** What scripts are called that no cell wrote. */
export const ownScript = "firstframe:magic";

/** What the control thread has the main thread do, whatever runs there: before it ends what a promise continued; to set the flag. */
export const abandonExpression = `${runtimeGlobal}.abandon()`;
export const raiseExpression = `${runtimeGlobal}.raise()`;
