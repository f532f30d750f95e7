import { hostStarted, type NotebookPanel, type RenderMimeRegistry } from "./host.js";
import { type SharedScope, sharedModule } from "./shared.js";

interface NotebookTracker {
  find(test: (panel: NotebookPanel) => boolean): NotebookPanel | undefined;
}

/** The plugin that JupyterLab starts with itself: it hands the application's services to the renderers. */
export default async function plugin(scope: SharedScope) {
  const [rendermime, notebook] = await Promise.all([
    sharedModule<{ IRenderMimeRegistry: unknown }>(scope, "@jupyterlab/rendermime"),
    sharedModule<{ INotebookTracker: unknown }>(scope, "@jupyterlab/notebook"),
  ]);
  return {
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
}
