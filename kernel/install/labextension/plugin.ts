import { hostStarted, type NotebookPanel, type RenderMimeRegistry } from "./host.js";
import { type SharedScope, sharedModule } from "./shared.js";
import { completerToken, offerSnippets } from "./snippets.js";

interface NotebookTracker {
  find(test: (panel: NotebookPanel) => boolean): NotebookPanel | undefined;
}

/** The plugins that JupyterLab starts with itself. */
export default async function plugins(scope: SharedScope) {
  const [rendermime, notebook, completer] = await Promise.all([
    sharedModule<{ IRenderMimeRegistry: unknown }>(scope, "@jupyterlab/rendermime"),
    sharedModule<{ INotebookTracker: unknown }>(scope, "@jupyterlab/notebook"),
    completerToken(scope),
  ]);
  const host = {
    id: "firstframe:host",
    description: "Gives firstframe's renderers the kernel and the other renderers.",
    autoStart: true,
    requires: [rendermime.IRenderMimeRegistry, notebook.INotebookTracker],
    activate: (_: unknown, registry: RenderMimeRegistry, tracker: NotebookTracker) => {
      hostStarted({
        rendermime: registry,
        notebookOf: (node) => tracker.find((panel) => panel.node.contains(node)),
      });
    },
  };
  const snippets = {
    id: "firstframe:snippets",
    description: "Offers snippets of TypeScript among the completions.",
    autoStart: true,
    requires: [completer],
    activate: (_: unknown, manager: Parameters<typeof offerSnippets>[0]) => offerSnippets(manager),
  };
  return completer === null ? [host] : [host, snippets];
}
