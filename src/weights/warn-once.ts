const warned = new Set<string>();

/** Warns, but not again: a model's files are looked at more than once on the way to its weights. */
export function warnOnce(message: string): void {
  if (!warned.has(message)) process.emitWarning(message);
  warned.add(message);
}
