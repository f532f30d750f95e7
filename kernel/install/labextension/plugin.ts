import { hostStarted, type RenderMimeRegistry } from "./host.js";
import { type SharedScope, sharedModule } from "./shared.js";
import { completerToken, offerSnippets } from "./snippets.js";
import {
  type Application,
  type EditorExtensionRegistry,
  helpWhileTyping,
  type NotebookTracker,
  typingModules,
} from "./typing.js";

/** The plugins that JupyterLab starts with itself. */
export default async function plugins(scope: SharedScope) {
  const [rendermime, notebook, completer, typing] = await Promise.all([
    sharedModule<{ IRenderMimeRegistry: unknown }>(scope, "@jupyterlab/rendermime"),
    sharedModule<{ INotebookTracker: unknown }>(scope, "@jupyterlab/notebook"),
    completerToken(scope),
    typingModules(scope),
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
  const help = typing && {
    id: "firstframe:typing",
    description:
      "Errors while typing, types by pointing, and the way to declarations in cells of TypeScript.",
    autoStart: true,
    requires: [notebook.INotebookTracker, typing.codemirror.IEditorExtensionRegistry],
    activate: (app: Application, tracker: NotebookTracker, registry: EditorExtensionRegistry) =>
      helpWhileTyping(app, tracker, registry, typing),
  };
  return [host, ...(completer === null ? [] : [snippets]), ...(help ? [help] : [])];
}
