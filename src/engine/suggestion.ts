import { distance } from "fastest-levenshtein";

/** A hint, `did you mean mode?`, where one of the names is spelled nearly like what was found. */
export function didYouMean(found: string, names: readonly string[]): string | undefined {
  const near = names
    .map((name) => ({ name, typos: typos(found.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.typos - b.typos)[0];
  return near && near.typos <= Math.max(1, Math.floor(near.name.length / 3))
    ? `did you mean ${near.name}?`
    : undefined;
}

/** The same in brackets, else nothing: for a list of problems, where each has its own. */
export function suggestion(found: string, names: readonly string[]): string {
  const hint = didYouMean(found, names);
  return hint === undefined ? "" : ` (${hint})`;
}

/** Letters to change; of two that changed places only one. */
function typos(a: string, b: string): number {
  const letters = (word: string) => [...word].sort().join("");
  const swapped = a !== b && letters(a) === letters(b) ? 1 : 0;
  return distance(a, b) - swapped;
}
