import { distance } from "fastest-levenshtein";

/** A hint, `did you mean mode?`, if one of the names is spelled almost like what was found. */
export function didYouMean(found: string, names: readonly string[]): string | undefined {
  const near = names
    .map((name) => ({ name, typos: typos(found.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.typos - b.typos)[0];
  return near && near.typos <= Math.max(1, Math.floor(near.name.length / 3))
    ? `did you mean ${near.name}?`
    : undefined;
}

/** The same in brackets, else nothing: for lists of problems, each with its own suggestion. */
export function suggestion(found: string, names: readonly string[]): string {
  const hint = didYouMean(found, names);
  return hint === undefined ? "" : ` (${hint})`;
}

/** How many letters differ; two that swapped places count as one. */
function typos(a: string, b: string): number {
  const letters = (word: string) => [...word].sort().join("");
  const swapped = a !== b && letters(a) === letters(b) ? 1 : 0;
  return distance(a, b) - swapped;
}
