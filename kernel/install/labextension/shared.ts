/**
 * Modules that JupyterLab shares with its extensions (module federation): name, version, and how to get it. What an
 * extension takes from here is the very module that JupyterLab uses.
 */
export type SharedScope = Record<string, Record<string, { get(): Promise<() => unknown> | (() => unknown) }>>;

/** The module that JupyterLab shares under this name. @throws Error if it shares none */
export async function sharedModule<T>(scope: SharedScope, name: string): Promise<T> {
  const [offer] = Object.values(scope[name] ?? {});
  if (!offer) throw new Error(`firstframe: this JupyterLab does not share ${name}`);
  const factory = await offer.get();
  return factory() as T;
}
