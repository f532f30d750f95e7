/// <reference lib="dom" />
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import type { Message } from "@lumino/messaging";
import type * as Widgets from "@lumino/widgets";
import { type SharedScope, sharedModule } from "./shared.js";
import { isDark, type Layout, onThemeChange, themed } from "./theme.js";

/** Draws `application/vnd.plotly.v1+json` in JupyterLab: interactive, as wide as its cell, in the page's theme. */

const MIME_TYPE = "application/vnd.plotly.v1+json";

interface Plotly {
  react(node: Element, data: unknown, layout: Layout, config: object): Promise<void>;
  purge(node: Element): void;
  Plots: { resize(node: Element): Promise<void> | void };
}

interface Spec {
  readonly data?: readonly unknown[];
  readonly layout?: Layout;
  readonly config?: object;
}

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

  class PlotlyRenderer extends Widget implements IRenderMime.IRenderer {
    readonly #figure = document.createElement("div");
    readonly #sizes = new ResizeObserver(() => this.#fit());
    #stopFollowingTheme: (() => void) | undefined;
    #spec: Spec | undefined;
    #drawnWidth = 0;

    constructor() {
      super();
      this.addClass("firstframe-plotly");
      this.#figure.style.width = "100%";
      this.node.style.overflow = "hidden";
      this.node.append(this.#figure);
    }

    async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
      this.#spec = model.data[MIME_TYPE] as unknown as Spec;
      this.#stopFollowingTheme ??= onThemeChange(() => void this.#draw());
      try {
        await this.#draw();
      } catch (error) {
        this.#figure.textContent = `This figure could not be drawn: ${(error as Error).message}`;
        this.#figure.className = "jp-RenderedText";
      }
    }

    async #draw(): Promise<void> {
      const Plotly = await loadPlotly();
      if (this.isDisposed || !this.#spec) return;
      const { data = [], layout = {}, config = {} } = this.#spec;
      // plotly writes into what it is given; the notebook's model has to stay as it is.
      const own = structuredClone({ data, layout });
      const name =
        typeof own.layout.title === "object" ? (own.layout.title as { text?: string }).text : undefined;
      await Plotly.react(this.#figure, own.data, themed(own.layout, isDark()), {
        displaylogo: false,
        showSendToCloud: false, // what is in a notebook stays there
        toImageButtonOptions: { filename: fileName(name), scale: 2 },
        ...config,
        // The observer below follows the cell, which changes without the window.
        responsive: false,
      });
      this.#drawnWidth = this.#figure.clientWidth;
      this.#sizes.observe(this.node);
    }

    #fit(): void {
      const width = this.#figure.clientWidth;
      if (width === 0 || width === this.#drawnWidth || this.#spec?.layout?.width !== undefined) return;
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

function fileName(title: string | undefined): string {
  const plain = title?.replace(/<[^>]*>/g, "").replace(/[^\p{L}\p{N}]+/gu, "-");
  return plain?.replace(/^-|-$/g, "") || "figure";
}
