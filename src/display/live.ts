import { randomUUID } from "node:crypto";

/** The kernel's global `display`; absent outside of notebooks. */
type Display = (value: unknown, options: { displayId: string; update: boolean }) => unknown;

/** One output of the running cell whose content is replaced. Outside of a notebook it shows nothing. */
export class LiveOutput {
  readonly #display = (globalThis as { display?: Display }).display;
  readonly #displayId = randomUUID();
  #shown = false;

  /** Whether there is a notebook to show things in. */
  get visible(): boolean {
    return this.#display !== undefined;
  }

  /** Replaces what was shown before. */
  async show(value: unknown): Promise<void> {
    const update = this.#shown;
    this.#shown = true;
    await this.#display?.(value, { displayId: this.#displayId, update });
  }
}
