import { gzipSync } from "node:zlib";

/** Cells of a notebook whose author means harm; a string is Markdown. */
export type HostileCell = string | ({ cell_type: "code" | "markdown" | "raw" } & Record<string, unknown>);

export interface Hostile {
  readonly name: string;
  readonly cells: readonly HostileCell[];
  readonly metadata?: Record<string, unknown>;
  /** Its `text/html` outputs may run scripts unless they are sanitised. */
  readonly html?: boolean;
}

const outputs = (...list: object[]) => ({ cell_type: "code" as const, outputs: list });
const shown = (data: object, metadata: object = {}) => ({ output_type: "display_data", data, metadata });
const PLOTLY = "application/vnd.plotly.v1+json";
const figure = (spec: unknown, more: object = {}) => shown({ [PLOTLY]: spec, ...more });
const attached = (attachments: object, source = "![a](attachment:a)") => ({
  cell_type: "markdown" as const,
  attachments,
  source,
});

/** What the attacks are made of: `run` is the script, `remote` an address that nothing may ask for. */
function parts(run: string, remote: string) {
  const image = `<img src=x onerror="${run}">`;
  const script = `<script>${run}</script>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" onload="${run}"><script>${run}</script><image href="${remote}/svg"/><foreignObject><img xmlns="http://www.w3.org/1999/xhtml" src="x" onerror="${run}"/></foreignObject></svg>`;
  const packed = gzipSync(`${run};window.Plotly={react(){}}`).toString("base64");
  return { image, script, svg, packed };
}

const png =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** Notebooks whose text tries to run a script in the page made of them, or to let it fetch something. */
export function hostileTexts(run: string, remote: string): Hostile[] {
  const { image, script, svg, packed } = parts(run, remote);
  return [
    // Markdown
    { name: "a script", cells: [script, `text ${script} text`, `<scr<script>ipt>${run}</scr</script>ipt>`] },
    {
      name: "an event handler",
      cells: [image, `<details open ontoggle="${run}">x</details>`, `<input autofocus onfocus="${run}">`],
    },
    {
      name: "a packed script in the place of plotly.js",
      cells: [`<div id="plotly.js.gz">${packed}</div>`, `<pre id="plotly.js.gz">${packed}</pre>`],
    },
    {
      name: "a button in the place of the page's",
      cells: ['<button id="theme">fake</button><input id="theme" name="theme">'],
    },
    {
      name: "SVG",
      cells: [
        `<svg onload="${run}"><script>${run}</script><a xlink:href="javascript:${run}"><text y="20">x</text></a></svg>`,
        `<svg><animate onbegin="${run}" attributeName="x" dur="1s"/><set attributeName="href" to="javascript:${run}"/><use href="data:image/svg+xml,${encodeURIComponent(svg)}#x"/></svg>`,
      ],
    },
    {
      name: "frames and plugins",
      cells: [
        `<iframe srcdoc="${script.replaceAll('"', "&quot;")}"></iframe>`,
        `<iframe src="javascript:${run}"></iframe>`,
        `<object data="data:text/html,${encodeURIComponent(script)}"></object>`,
        `<embed src="${remote}/embed">`,
        `<iframe src="${remote}/frame"></iframe>`,
      ],
    },
    {
      name: "markup that changes when it is parsed again",
      cells: [
        `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=${run}&gt;">`,
        `<svg></p><style><a id="</style><img src=x onerror=${run}>">`,
        `<noscript><p title="</noscript><img src=x onerror=${run}>"></noscript>`,
        `<math><annotation-xml encoding="text/html"><style><img src=x onerror=${run}></style></annotation-xml></math>`,
        `<form><math><mtext></form><form><mglyph><style></math><img src=x onerror=${run}>`,
        `<template><img src=x onerror=${run}></template><textarea></textarea><xmp><img title="</xmp><img src=x onerror=${run}>"></xmp>`,
      ],
    },
    {
      name: "what is left open",
      cells: [
        `before <!-- ${image}`,
        `<textarea>${image}`,
        `<title>${image}`,
        `<plaintext>${image}`,
        "</section></main></body></html>",
        "<select><option>",
      ],
    },
    {
      name: "forms",
      cells: [
        `<form action="javascript:${run}"><button>x</button></form>`,
        `<form id="f" action="${remote}/form"></form><button form="f" formaction="javascript:${run}">x</button><input type="image" src="${remote}/input" formaction="javascript:${run}">`,
      ],
    },
    {
      name: "links that are scripts",
      cells: [
        `[a](javascript:${run}) [b](JaVaScRiPt:${run}) [c](java&#10;script:${run}) [d](&#106;avascript:${run}) <a href="&#1;javascript:${run}">e</a> <a href="java\tscript:${run}">f</a>`,
        `[r]\n\n[r]: javascript:${run}`,
        `<javascript:${run}>`,
      ],
    },
    {
      name: "links of other schemes",
      cells: [
        `[a](vbscript:${run}) [b](data:text/html,${encodeURIComponent(script)}) <a href="data:text/html;base64,${Buffer.from(script).toString("base64")}">c</a> <a href="blob:x">d</a> <a href="x" ping="${remote}/ping">e</a>`,
      ],
    },
    {
      name: "the head's elements",
      cells: [
        `<base href="${remote}/"><meta http-equiv="refresh" content="0;url=${remote}/refresh"><link rel="stylesheet" href="${remote}/css"><link rel="prefetch" href="${remote}/prefetch"><meta http-equiv="Content-Security-Policy" content="script-src *">`,
      ],
    },
    {
      name: "styles",
      cells: [
        `<style>@import "${remote}/import"; body{background:url(${remote}/style)}</style>`,
        `<p style="background:url(${remote}/attribute);background-image:image-set('${remote}/set' 1x)">x</p>`,
        `<p style="background:\\75rl(${remote}/escaped)">x</p><table background="${remote}/table"><tr><td background="${remote}/cell">x</td></tr></table>`,
      ],
    },
    {
      name: "media of elsewhere",
      cells: [
        `<video src="${remote}/video" poster="${remote}/poster"></video><audio src="${remote}/audio"></audio><picture><source srcset="${remote}/source"><img alt="x"></picture><img srcset="${remote}/srcset"><video><source src="${remote}/vs"><track src="${remote}/track" default></video>`,
        `<svg><image href="${remote}/image"/><filter id="f"><feImage href="${remote}/feimage"/></filter><rect fill="url(${remote}/fill)" filter="url(${remote}/filter#f)" width="9" height="9"/></svg>`,
      ],
    },
    {
      name: "something over the page",
      cells: [
        `<a href="https://example.com/" style="position:fixed;inset:0;z-index:99;display:block">x</a>`,
        `<div style="position/**/:fixed;inset:0">x</div><div style="p\\6fsition:absolute;inset:0;z-index:9">x</div><div style="color:red;POSITION:\tsticky;top:0">x</div>`,
        `<nav class="contents"><a href="https://example.com/">x</a></nav><dialog open>x</dialog>`,
      ],
    },
    {
      name: "names of the page's objects",
      cells: [
        [
          "currentScript",
          "querySelectorAll",
          "querySelector",
          "getElementById",
          "createElement",
          "body",
          "head",
          "documentElement",
        ]
          .map((name) => `<img name="${name}" id="${name}" alt=""><form name="${name}"></form>`)
          .join(""),
        `<a id="Plotly"></a><a id="PlotlyConfig" href="x"></a><a id="MathJax"></a><a id="localStorage"></a><a id="location"></a><a id="JSON"></a><input name="parentElement"><input name="firstElementChild">`,
      ],
    },
    {
      name: "headings with such names",
      cells: ["# MathJax", "## Plotly\n\n## PlotlyConfig\n\n## __proto__\n\n## constructor\n\n## theme"],
    },
    {
      name: "classes of the page's own",
      cells: [
        `<div class="plotly"><script type="application/json">{"data":[]}</script></div><div class="plotly"></div>`,
        `<div class="plotly"><div><b class="plotly">x</b></div></div><section class="cell"><span class="count">x</span></section>`,
      ],
    },
    {
      name: "headings",
      cells: [
        `# </title>${script}`,
        `## "><img src=x onerror=${run}>`,
        `## ' onmouseover='${run}`,
        `## \`<img src=x onerror=${run}>\``,
        `## x <span title="</a></li>${image}">y</span>`,
      ],
    },
    {
      name: "languages of code",
      cells: [
        `\`\`\`"><img/src=x/onerror=${run}>\nx\n\`\`\``,
        "```constructor\nx\n```",
        "```__proto__\nx\n```",
      ],
    },
    {
      name: "titles, alternative texts and references",
      cells: [
        `![a" onerror="${run}](x.png "t" onerror="${run})`,
        `![${image}](data:, '"><img src=x onerror=${run}>')`,
        `[x](https://example.com/"onmouseover="${run} "y")`,
        `[foo]: <https://example.com/" onclick="${run}> "\\"><img src=x onerror=${run}>"\n\n[foo]`,
        `https://example.com/"onmouseover="${run}`,
      ],
    },
    {
      name: "mathematics",
      cells: [
        `$\\href{javascript:${run}}{x}$ $\\url{javascript:${run}}$ $\\htmlData{x=${run}}{y}$ $\\htmlStyle{position:fixed;inset:0}{y}$ $\\includegraphics{${remote}/tex}$`,
        `$\\text{<img src=x onerror=${run}>}$`,
        "$\\rule{100000em}{100000em}$",
        `$\\def\\a{\\a\\a}\\a$`,
        `$${"{".repeat(20_000)}$`,
      ],
    },
    {
      name: "nesting",
      cells: [
        `${"> ".repeat(1500)}x`,
        `${"<div>".repeat(20_000)}x`,
        "*".repeat(20_000),
        `${"[".repeat(5000)}x`,
        `${"- ".repeat(1000)}x`,
      ],
    },
    // Attachments and raw cells
    {
      name: "an attachment's type",
      cells: [
        attached({ a: { [`image/png" onerror="${run}`]: png } }),
        attached({ a: { [`image/x,<script>${run}</script>`]: png } }),
      ],
    },
    {
      name: "an attachment's data",
      cells: [
        attached({ a: { "image/png": `x" onerror="${run}` } }),
        attached({ a: { "image/svg+xml": svg } }),
      ],
    },
    {
      name: "attachments' names",
      cells: [
        attached(
          { "a%": { "image/png": png } },
          "![a](attachment:a%) ![b](attachment:__proto__) ![c](attachment:%) ![d](attachment:constructor)",
        ),
      ],
    },
    {
      name: "raw cells",
      cells: [
        { cell_type: "raw", source: script + image },
        { cell_type: "raw", source: script + image, metadata: { format: "text/html" } },
        { cell_type: "raw", source: script, metadata: { raw_mimetype: "text/html" } },
      ],
    },
  ];
}

/** The same of outputs and metadata. */
export function hostileOutputs(run: string, remote: string): Hostile[] {
  const { image, script, svg, packed } = parts(run, remote);
  return [
    // Outputs
    {
      name: "a picture's type",
      cells: [
        outputs(
          shown({ [`image/x" onerror="${run}`]: png }),
          shown({ [`image/x"><script>${run}</script>`]: png }),
        ),
      ],
    },
    {
      name: "a picture's data",
      cells: [
        outputs(
          shown({ "image/png": `x" onerror="${run}` }),
          shown({ "image/jpeg": `"><script>${run}</script>` }),
        ),
      ],
    },
    { name: "a picture of SVG", cells: [outputs(shown({ "image/svg+xml": svg }))] },
    {
      name: "a picture's metadata and text",
      cells: [
        outputs(
          shown(
            { "image/png": png, "text/plain": `" onload="${run}` },
            {
              "image/png": {
                width: `1" onload="${run}`,
                height: { a: 1 },
                needs_background: `x" onload="${run}`,
              },
            },
          ),
        ),
      ],
    },
    {
      name: "video and audio",
      cells: [
        outputs(
          shown({ [`video/x" onerror="${run}`]: png }),
          shown({ "video/mp4": `x" onerror="${run}` }),
          shown({ "audio/wav": `"><script>${run}</script>` }),
          shown({ [`audio/x"><script>${run}</script>`]: "" }),
        ),
      ],
    },
    {
      name: "an unknown type",
      cells: [
        outputs(
          shown({ [`application/x-${image}`]: "x" }),
          shown({ "application/javascript": run }),
          shown({ "text/x-script": script }),
        ),
      ],
    },
    {
      name: "LaTeX",
      cells: [
        outputs(
          shown({ "text/latex": `$\\href{javascript:${run}}{x}$` }),
          shown({ "text/latex": image }),
          shown({ "text/latex": `$$\\text{${script}}$$` }),
          shown({ "text/latex": "{".repeat(20_000) }),
        ),
      ],
    },
    {
      name: "Markdown in an output",
      cells: [outputs(shown({ "text/markdown": `${script}\n\n${image}\n\n[x](javascript:${run})` }))],
    },
    {
      name: "JSON",
      cells: [
        outputs(
          shown({ "application/json": { [script]: image } }),
          shown({ "application/json": `</code></pre>${image}` }),
        ),
      ],
    },
    {
      name: "a figure's JSON",
      cells: [
        outputs(
          figure({ data: [], layout: { title: { text: `</script>${script}` } } }),
          figure({ data: [{ name: "<!--<script>" }] }),
          figure({ [`</script>${image}`]: 1 }),
        ),
      ],
    },
    {
      name: "a figure's texts",
      cells: [
        outputs(
          figure({
            data: [
              {
                y: [1, 2],
                text: [image, `<a href="javascript:${run}">x</a>`],
                mode: "text",
                name: `<a href="javascript:${run}">x</a>`,
                hovertemplate: image,
              },
              { type: "table", cells: { values: [[script]] } },
            ],
            layout: {
              title: { text: `<a href="javascript:${run}" target="x" popup="a=1">x</a>${image}` },
              xaxis: { title: { text: `<span style="background:url(${remote}/title)">x</span>` } },
              annotations: [{ text: `<a href="java&#10;script:${run}">x</a>`, x: 1, y: 1 }],
              showlegend: true,
            },
          }),
        ),
      ],
    },
    {
      name: "a figure's addresses",
      cells: [
        outputs(
          figure({
            data: [{ type: "image", source: `${remote}/trace` }],
            layout: { images: [{ source: `${remote}/layout`, sizex: 1, sizey: 1 }] },
          }),
          figure({
            data: [{ type: "scattergeo", lon: [1], lat: [1] }],
            config: { topojsonURL: `${remote}/`, plotlyServerURL: remote },
          }),
          figure({
            data: [{ type: "scattermap", lon: [1], lat: [1] }],
            layout: { map: { style: `${remote}/style.json` } },
          }),
        ),
      ],
    },
    {
      name: "figures that are none",
      cells: [
        outputs(
          figure(null),
          figure(5),
          figure([]),
          figure("x"),
          figure({ data: 5, layout: null }),
          figure({ data: [null], layout: { height: "9px;position:fixed" } }),
          figure({ data: {}, layout: [], config: 1, frames: 7 }),
          figure({ layout: { height: 1e12, template: "x" } }, { "image/png": `x" onerror="${run}` }),
        ),
      ],
    },
    {
      name: "printed text",
      cells: [
        outputs(
          { output_type: "stream", name: `x" onclick="${run}`, text: script + image },
          {
            output_type: "stream",
            name: "stderr",
            text: `\u001b]8;;javascript:${run}\u0007x\u001b]8;;\u0007 \u001b]8;;https://example.com/"onmouseover="${run}\u0007y\u001b]8;;\u0007 \u001b[31m${image}\u001b[38;2;1;2;3"m${image}`,
          },
        ),
      ],
    },
    {
      name: "an error",
      cells: [
        outputs(
          { output_type: "error", ename: script, evalue: image, traceback: [] },
          {
            output_type: "error",
            ename: "x",
            evalue: "y",
            traceback: [script, `\u001b]8;;javascript:${run}\u001b\\x\u001b]8;;\u001b\\`, image],
          },
        ),
      ],
    },
    // Metadata
    { name: "the notebook's title", cells: ["x"], metadata: { title: `</title>${script}<!--` } },
    {
      name: "the notebook's language",
      cells: ["x", outputs()],
      metadata: {
        language_info: { name: `"><script>${run}</script>` },
        kernelspec: { name: "x", display_name: image, language: script },
      },
    },
    {
      name: "a language that objects have",
      cells: ["x", outputs()],
      metadata: { language_info: { name: "__proto__" } },
    },
    {
      name: "ids and metadata of cells",
      cells: [
        {
          ...outputs(shown({ "text/plain": "x" })),
          id: "theme",
          metadata: { jupyter: { source_hidden: script }, firstframe: null, tags: [image] },
        },
        { ...outputs(), id: "Plotly" },
        { ...outputs(), id: "MathJax" },
        { ...outputs(), id: "PlotlyConfig" },
      ],
    },
    // HTML of outputs: with --sanitize-html
    {
      name: "scripts in HTML",
      html: true,
      cells: [
        outputs(
          shown({ "text/html": script + image }),
          shown({
            "text/html": `<svg onload="${run}"></svg><iframe srcdoc="${script.replaceAll('"', "&quot;")}"></iframe><a href="javascript:${run}">x</a>`,
          }),
          shown({
            "text/html": `<script src="${remote}/script"></script><link rel="stylesheet" href="${remote}/css"><img src=x style="background:url(${remote}/x)">`,
          }),
        ),
      ],
    },
    {
      name: "HTML that is left open",
      html: true,
      cells: [
        outputs(
          shown({ "text/html": "<!--" }),
          shown({ "text/html": "<textarea>" }),
          shown({ "text/html": "<plaintext>" }),
          shown({ "text/html": "</div></section></main></body><style>" }),
          shown({ "text/html": "<script>/*" }),
        ),
      ],
    },
    {
      name: "HTML that takes over the page",
      html: true,
      cells: [
        outputs(
          shown({
            "text/html": `<style>*{display:none!important}</style><base href="${remote}/"><meta http-equiv="refresh" content="0;url=${remote}/refresh"><div style="position:fixed;inset:0;z-index:999">x</div>`,
          }),
          shown({
            "text/html": `<img name="currentScript"><form name="body"><input name="parentElement"></form><div id="plotly.js.gz">${packed}</div>`,
          }),
          shown({ "text/html": `<div class="plotly"><script type="${PLOTLY}">{</script></div>` }),
        ),
      ],
    },
  ];
}

export const fileName = ({ name }: Hostile) => name.replaceAll(/\W+/g, "-");
