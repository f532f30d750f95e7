/// <reference lib="dom" />
import type { EditorState, EditorView, Ranges, StateModule, Tooltip, ViewModule } from "./codemirror.js";
import type { Cell, Editor, NotebookPanel } from "./host.js";
import { type Found, type Place, Questions } from "./questions.js";
import { type SharedScope, sharedModule } from "./shared.js";

/**
 * While somebody types in a notebook whose kernel is ours: errors are underlined, pointing at a name shows what it is, F12 or a
 * click with Ctrl (Cmd on a Mac) goes to where it is declared.
 */

/** How long nobody has to have typed before the kernel is asked. */
const PAUSE_MS = 350;

const STYLE = `
.firstframe-lint { text-decoration: underline wavy 1.5px var(--jp-error-color1); text-decoration-skip-ink: none; text-underline-offset: 3px; }
.firstframe-lint-warning { text-decoration: underline dotted 2px var(--jp-warn-color0); }
.cm-tooltip.cm-tooltip-hover:has(> .firstframe-hover) { background: var(--jp-layout-color1); border: 1px solid var(--jp-border-color1); box-shadow: var(--jp-elevation-z4); z-index: 10; }
.firstframe-hover { max-width: min(640px, 80vw); max-height: 300px; overflow: auto; padding: 4px 8px; color: var(--jp-content-font-color1); font: var(--jp-ui-font-size1) var(--jp-ui-font-family); }
.firstframe-hover-message { margin: 2px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.firstframe-hover-message strong { color: var(--jp-content-font-color1); }
.firstframe-hover .jp-RenderedMarkdown { padding: 2px 0; }
.firstframe-hover .jp-RenderedMarkdown pre { margin: 4px 0; padding: 0; background: transparent; }
.firstframe-hover .jp-RenderedMarkdown pre code { padding: 0; background: transparent; }
.firstframe-hover .jp-RenderedMarkdown > :last-child { margin-bottom: 0; }
.firstframe-typing-status { position: fixed; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;

export interface Application {
  readonly commands: { execute(name: string, args: object): Promise<unknown> };
}

interface AddedSignal<Sender, Args> {
  connect(slot: (sender: Sender, args: Args) => void): void;
}

export interface NotebookTracker {
  find(test: (panel: NotebookPanel) => boolean): NotebookPanel | undefined;
  forEach(visit: (panel: NotebookPanel) => void): void;
  readonly widgetAdded: AddedSignal<unknown, NotebookPanel>;
}

export interface EditorExtensionRegistry {
  addExtension(extension: { readonly name: string; factory(): unknown }): void;
}

interface Modules {
  readonly state: StateModule;
  readonly view: ViewModule;
  readonly codemirror: {
    readonly IEditorExtensionRegistry: unknown;
    readonly EditorExtensionRegistry: { createImmutableExtension(extension: unknown): unknown };
  };
  readonly notebook: {
    readonly NotebookActions: {
      readonly executed: AddedSignal<unknown, { readonly notebook: unknown }>;
    };
  };
  readonly apputils: { readonly Notification: { info(message: string, options: object): unknown } };
}

/** What JupyterLab shares for this; undefined where an application shares too little. */
export async function typingModules(scope: SharedScope): Promise<Modules | undefined> {
  try {
    const [state, view, codemirror, notebook, apputils] = await Promise.all([
      sharedModule<Modules["state"]>(scope, "@codemirror/state"),
      sharedModule<Modules["view"]>(scope, "@codemirror/view"),
      sharedModule<Modules["codemirror"]>(scope, "@jupyterlab/codemirror"),
      sharedModule<Modules["notebook"]>(scope, "@jupyterlab/notebook"),
      sharedModule<Modules["apputils"]>(scope, "@jupyterlab/apputils"),
    ]);
    return { state, view, codemirror, notebook, apputils };
  } catch {
    return undefined;
  }
}

/** A notebook, and what its cells are asked about. */
interface Writing {
  readonly panel: NotebookPanel;
  readonly questions: Questions;
  /** The cells that are to be checked soon, and those that were. */
  readonly due: Set<string>;
  readonly checked: Set<string>;
  timer: number | undefined;
}

interface Mark {
  readonly class: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly found: Found;
}

type Marks = Ranges<Mark>;

export function helpWhileTyping(
  app: Application,
  tracker: NotebookTracker,
  registry: EditorExtensionRegistry,
  { state, view: cm, codemirror, notebook, apputils }: Modules,
): void {
  const writings = new Map<NotebookPanel, Writing>();
  const status = document.createElement("div");
  status.className = "firstframe-typing-status";
  status.setAttribute("role", "status");
  const style = document.createElement("style");
  style.textContent = STYLE;
  document.head.append(style);
  document.body.append(status);

  const setMarks = state.StateEffect.define();
  const marks = state.StateField.define<Marks>({
    create: () => cm.Decoration.none as Marks,
    update(value, transaction) {
      let next = value.map(transaction.changes);
      for (const effect of transaction.effects) if (effect.is(setMarks)) next = effect.value as Marks;
      return next;
    },
    provide: (field) => cm.EditorView.decorations.from(field),
  });

  /** The notebook and the code cell that an editor belongs to, if the kernel is ours. */
  function placeOf(view: EditorView) {
    const panel = tracker.find(({ node }) => node.contains(view.dom));
    const writing = panel && writings.get(panel);
    if (!writing?.questions.ours) return undefined;
    const cells = codeCells(writing.panel);
    const index = cells.findIndex(({ node }) => node.contains(view.dom));
    return index < 0 ? undefined : { writing, cells, index, cell: cells[index]! };
  }

  function watch(panel: NotebookPanel): void {
    if (writings.has(panel)) return;
    const writing: Writing = {
      panel,
      questions: new Questions(panel),
      due: new Set(),
      checked: new Set(),
      timer: undefined,
    };
    writings.set(panel, writing);
    panel.disposed.connect(() => {
      writings.delete(panel);
      window.clearTimeout(writing.timer);
    });
    const { sessionContext } = panel;
    sessionContext.kernelChanged.connect(() => plan(writing, writing.checked));
    sessionContext.statusChanged.connect(() => {
      if (/restarting/.test(sessionContext.kernelDisplayStatus)) plan(writing, writing.checked);
    });
  }

  function plan(writing: Writing, ids: Iterable<string>): void {
    for (const id of ids) writing.due.add(id);
    window.clearTimeout(writing.timer);
    writing.timer = window.setTimeout(() => check(writing), PAUSE_MS);
  }

  function check(writing: Writing): void {
    const { panel, questions, due, checked } = writing;
    const cells = codeCells(panel);
    const texts = cells.map(textOf);
    for (const [index, cell] of cells.entries()) {
      const { id } = cell.model;
      if (!due.has(id)) continue;
      checked.add(id);
      void questions.ask("diagnostics", { cells: texts, cell: index, cell_id: id }).then((answer) => {
        // A newer text is asked about, too.
        if (answer && textOf(cell) === texts[index]) show(cell.editor, answer.diagnostics);
      });
    }
    due.clear();
  }

  function show(editor: Editor | null, found: readonly Found[]): void {
    const view = editor?.editor;
    if (!view?.state.field(marks, false)) return;
    const { length } = view.state.doc;
    const ranges = found.flatMap((each) => {
      // Something has to be underlined, also where something is missing.
      const end = Math.min(Math.max(each.end, each.start + 1), length);
      const start = Math.min(each.start, end - 1);
      if (start < 0) return [];
      const mark: Mark = {
        class: `firstframe-lint firstframe-lint-${each.severity}`,
        attributes: { "aria-description": worded(each) },
        found: each,
      };
      return [cm.Decoration.mark(mark).range(start, end)];
    });
    view.dispatch({ effects: setMarks.of(cm.Decoration.set(ranges, true)) });
    tell(view);
  }

  function foundAt(editor: EditorState, at: number): Found[] {
    const all: Found[] = [];
    editor.field(marks, false)?.between(at, at, (_from, _to, { spec }) => void all.push(spec.found));
    return all;
  }

  /** Screen readers hear of the error that the cursor is in. */
  function tell(view: EditorView): void {
    if (!view.dom.contains(document.activeElement)) return;
    const text = foundAt(view.state, view.state.selection.main.head).map(worded).join("\n");
    if (status.textContent !== text) status.textContent = text;
  }

  async function explain(view: EditorView, at: number): Promise<Tooltip | null> {
    const place = placeOf(view);
    if (!place) return null;
    const found = foundAt(view.state, at);
    const { writing, cells, index } = place;
    const question = { cells: cells.map(textOf), cell: index, cursor: at };
    const known = await writing.questions.ask("hover", question);
    const markdown = known?.found ? known.data["text/markdown"] : undefined;
    if (found.length === 0 && markdown === undefined) return null;
    const dom = document.createElement("div");
    dom.className = "firstframe-hover";
    for (const each of found) dom.append(message(each));
    let destroy = (): void => {};
    if (markdown !== undefined) {
      const { rendermime } = writing.panel.content;
      const renderer = rendermime.createRenderer("text/markdown");
      const model = rendermime.createModel({ data: { "text/markdown": markdown }, trusted: false });
      await renderer.renderModel(model);
      dom.append(renderer.node);
      destroy = () => renderer.dispose();
    }
    const [start, end] = known && known.end > known.start ? [known.start, known.end] : [at, at];
    return { pos: start, end, above: true, create: () => ({ dom, destroy }) };
  }

  /** Goes to where the name at a place is declared. @returns whether that is somewhere else */
  async function goToDefinition(view: EditorView, at: number): Promise<boolean> {
    const place = placeOf(view);
    if (!place) return false;
    const { writing, cells, index } = place;
    const question = { cells: cells.map(textOf), cell: index, cursor: at };
    const to = (await writing.questions.ask("definition", question))?.place;
    if (!to) {
      status.textContent = "No declaration found.";
      return false;
    }
    if ("cell" in to && to.cell === index && to.start <= at && at <= to.end) return false;
    if ("cell" in to) await goToCell(writing.panel, cells[to.cell]!, to.start, to.end);
    else await openFile(writing.panel, to);
    return true;
  }

  async function goToCell({ content }: NotebookPanel, cell: Cell, start: number, end: number): Promise<void> {
    content.activeCellIndex = content.widgets.indexOf(cell);
    await content.scrollToCell(cell);
    await cell.ready;
    cell.inputHidden = false;
    content.mode = "edit";
    const { editor } = cell;
    const [from, to] = [editor?.getPositionAt(start), editor?.getPositionAt(end)];
    if (!editor || !from || !to) return;
    editor.focus();
    editor.setSelection({ start: from, end: to });
    editor.revealPosition(from);
  }

  async function openFile({ context }: NotebookPanel, to: Extract<Place, { file: string }>): Promise<void> {
    const path = joined(context.path, to.path);
    if (path === undefined) {
      apputils.Notification.info(`Declared in ${to.file}:${to.line + 1}, outside of JupyterLab's folder.`, {
        autoClose: 8000,
      });
      return;
    }
    const widget = (await app.commands.execute("docmanager:open", { path })) as
      | { readonly revealed?: Promise<void>; readonly content?: { readonly editor?: Editor } }
      | undefined;
    await widget?.revealed;
    const editor = widget?.content?.editor;
    editor?.setCursorPosition({ line: to.line, column: to.column });
    editor?.revealPosition({ line: to.line, column: to.column });
    editor?.focus();
  }

  const extension = [
    marks,
    cm.EditorView.updateListener.of(({ view, docChanged, selectionSet }) => {
      if (selectionSet) tell(view);
      if (!docChanged) return;
      const place = placeOf(view);
      if (!place) return;
      const { writing, cells, cell } = place;
      // Other cells' errors may be about this one's names.
      const marked = cells.filter(({ editor }) => (editor?.editor.state.field(marks, false)?.size ?? 0) > 0);
      plan(
        writing,
        [cell, ...marked].map(({ model }) => model.id),
      );
    }),
    cm.hoverTooltip(explain, { hideOnChange: true }),
    cm.EditorView.domEventHandlers({
      mousedown(event, view) {
        const { button, shiftKey, altKey } = event;
        const held = isMac() ? event.metaKey : event.ctrlKey;
        const at = held && button === 0 && !shiftKey && !altKey ? view.posAtCoords(pointOf(event)) : null;
        if (at === null || !isInName(view.state.doc.toString(), at) || !placeOf(view)) return false;
        event.preventDefault();
        void goToDefinition(view, at).then((went) => {
          // What such a click does elsewhere.
          const cursor = state.EditorSelection.cursor(at);
          if (!went) view.dispatch({ selection: view.state.selection.addRange(cursor) });
        });
        return true;
      },
    }),
    state.Prec.high(
      cm.keymap.of([
        {
          key: "F12",
          run(view) {
            if (!placeOf(view)) return false;
            void goToDefinition(view, view.state.selection.main.head);
            return true;
          },
        },
      ]),
    ),
  ];
  registry.addExtension({
    name: "firstframe:typing",
    factory: () => codemirror.EditorExtensionRegistry.createImmutableExtension(extension),
  });
  tracker.forEach(watch);
  tracker.widgetAdded.connect((_, panel) => watch(panel));
  // What has run may change what is wrong with the others.
  notebook.NotebookActions.executed.connect((_, { notebook: content }) => {
    for (const writing of writings.values())
      if (writing.panel.content === content) plan(writing, writing.checked);
  });
}

function codeCells({ content }: NotebookPanel): Cell[] {
  return content.widgets.filter(({ model }) => model.type === "code");
}

function textOf({ model }: Cell): string {
  return model.sharedModel.getSource();
}

function worded({ severity, message: text, code }: Found): string {
  return `${severity === "error" ? "Error" : "Warning"}${code > 0 ? ` TS${code}` : ""}: ${text}`;
}

function message(found: Found): HTMLElement {
  const line = document.createElement("div");
  line.className = "firstframe-hover-message";
  const [head, ...rest] = worded(found).split(": ");
  const strong = document.createElement("strong");
  strong.textContent = `${head}: `;
  line.append(strong, rest.join(": "));
  return line;
}

function isInName(text: string, at: number): boolean {
  return /[\p{ID_Continue}$]/u.test(text.slice(Math.max(0, at - 1), at + 1));
}

function pointOf({ clientX, clientY }: MouseEvent): { x: number; y: number } {
  return { x: clientX, y: clientY };
}

function isMac(): boolean {
  return /Mac|iPhone|iPad/.test(navigator.platform);
}

/** A path relative to a notebook's folder, as JupyterLab knows it; undefined where that is outside of what it serves. */
function joined(notebook: string, relative: string): string | undefined {
  if (/^(?:[A-Za-z]:)?\//.test(relative)) return undefined;
  const parts = notebook.split("/").slice(0, -1);
  for (const part of relative.split("/")) {
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join("/");
}
