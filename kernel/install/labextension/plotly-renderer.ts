/// <reference lib="dom" />
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { Message } from "@lumino/messaging";
import type * as Widgets from "@lumino/widgets";
import { type SharedScope, sharedModule } from "./shared.js";
import { isDark, type Layout, onThemeChange, themed } from "./theme.js";
import { type Figure, readFigure, type UntrustedFigure, untrustedFigure } from "./untrusted-figure.js";

/**
 * Draws `application/vnd.plotly.v1+json` in JupyterLab: interactive, as wide as its cell, in the page's theme. Of a figure that is
 * not trusted, what is drawn loads nothing and runs nothing.
 */

const MIME_TYPE = "application/vnd.plotly.v1+json";

interface Plotly {
  react(node: Element, data: unknown, layout: Layout, config: object): Promise<void>;
  purge(node: Element): void;
  Plots: { resize(node: Element): Promise<void> | void };
}

const STYLE = `
.firstframe-plotly-note { color: var(--jp-ui-font-color2); font: var(--jp-ui-font-size0) var(--jp-ui-font-family); }
`;

let plotly: Promise<Plotly> | undefined;

/** 10 MB, so only pages that show a figure load it, once. */
function loadPlotly(): Promise<Plotly> {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("./plotly.js", import.meta.url).href;
    script.onload = () => resolve((window as unknown as { Plotly: Plotly }).Plotly);
    script.onerror = () => {
      plotly = undefined; // the next figure tries again
      reject(new Error(`plotly.js did not load from ${script.src}`));
    };
    document.head.append(script);
  });
  return plotly;
}

/** What JupyterLab asks the extension for. */
export default async function extension(scope: SharedScope): Promise<IRenderMime.IExtension[]> {
  const { Widget } = await sharedModule<typeof Widgets>(scope, "@lumino/widgets");
  const style = document.createElement("style");
  style.textContent = STYLE;
  document.head.append(style);

  class PlotlyRenderer extends Widget implements IRenderMime.IRenderer {
    /** plotly's place, or a message where it failed. */
    #figure = place("");
    readonly #note = document.createElement("div");
    readonly #sizes = new ResizeObserver(() => this.#fit());
    #stopFollowingTheme: (() => void) | undefined;
    #spec: Figure | UntrustedFigure | undefined;
    #drawnWidth = 0;
    #failed = false;

    constructor() {
      super();
      this.addClass("firstframe-plotly");
      this.node.style.overflow = "hidden";
      this.#note.className = "firstframe-plotly-note";
      this.node.append(this.#figure, this.#note);
    }

    #clear(message = ""): void {
      const before = this.#figure;
      void plotly?.then((Plotly) => Plotly.purge(before));
      this.#figure = place(message);
      before.replaceWith(this.#figure);
      this.#note.textContent = "";
      this.#failed = message !== "";
    }

    async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
      this.#stopFollowingTheme ??= onThemeChange(() => void this.#draw());
      this.#spec = undefined;
      try {
        const figure = readFigure(model.data[MIME_TYPE]);
        this.#spec = model.trusted ? figure : untrustedFigure(figure);
      } catch (error) {
        return this.#fail(error);
      }
      await this.#draw();
    }

    async #draw(): Promise<void> {
      if (!this.#spec) return;
      try {
        const Plotly = await loadPlotly();
        if (!this.isDisposed && this.#spec) await this.#react(Plotly, this.#spec);
      } catch (error) {
        this.#fail(error);
      }
    }

    async #react(Plotly: Plotly, spec: Figure | UntrustedFigure): Promise<void> {
      if (this.#failed) this.#clear();
      // plotly writes into what it is given; the notebook's model has to stay as it is.
      const own = structuredClone({ data: spec.data, layout: spec.layout });
      const title = own.layout.title as { text?: unknown } | undefined;
      const leftOut = "leftOut" in spec ? spec.leftOut.join(", ") : "";
      this.#note.textContent =
        leftOut && `Not shown, because this figure is from a file that is not trusted: ${leftOut}.`;
      await Plotly.react(this.#figure, own.data, themed(own.layout, isDark()), {
        displaylogo: false,
        showSendToCloud: false, // what is in a notebook stays there
        toImageButtonOptions: { filename: fileName(title?.text), scale: 2 },
        ...spec.config,
        // The observer below follows the cell, which changes without the window.
        responsive: false,
      });
      this.#drawnWidth = this.#figure.clientWidth;
      this.#sizes.observe(this.node);
    }

    #fail(error: unknown): void {
      const message = error instanceof Error ? error.message : String(error);
      this.#clear(`This figure could not be drawn: ${message}`);
    }

    #fit(): void {
      const width = this.#figure.clientWidth;
      if (width === 0 || width === this.#drawnWidth || this.#spec?.layout.width !== undefined) return;
      this.#drawnWidth = width;
      void loadPlotly().then((Plotly) => {
        if (!this.isDisposed) return Plotly.Plots.resize(this.#figure);
      });
    }

    protected override onAfterAttach(message: Message): void {
      super.onAfterAttach(message);
      this.#fit();
    }

    override dispose(): void {
      if (this.isDisposed) return;
      this.#sizes.disconnect();
      this.#stopFollowingTheme?.();
      void plotly?.then((Plotly) => Plotly.purge(this.#figure));
      super.dispose();
    }
  }

  return [
    {
      id: "firstframe:plotly",
      rendererFactory: {
        safe: true,
        mimeTypes: [MIME_TYPE],
        createRenderer: () => new PlotlyRenderer(),
      },
      rank: 0,
      dataType: "json",
      fileTypes: [
        {
          name: "plotly",
          displayName: "Plotly figure",
          mimeTypes: [MIME_TYPE],
          extensions: [".plotly", ".plotly.json"],
          fileFormat: "json",
        },
      ],
      documentWidgetFactoryOptions: {
        name: "Plotly",
        primaryFileType: "plotly",
        fileTypes: ["plotly", "json"],
        defaultFor: ["plotly"],
      },
    },
  ];
}

function place(message: string): HTMLElement {
  const place = document.createElement("div");
  place.style.width = "100%";
  place.className = message && "jp-RenderedText";
  place.textContent = message;
  return place;
}

function fileName(title: unknown): string {
  if (typeof title !== "string") return "figure";
  const plain = title.replace(/<[^<>]*>/g, "").replace(/[^\p{L}\p{N}]+/gu, "-");
  return plain.replace(/^-|-$/g, "").slice(0, 100) || "figure";
}
