import { PREFIX } from "./names.js";

/**
 * What runs on a page: the switch between light and dark, plotly's figures, links to sections, the keyboard's way to what scrolls. It fetches nothing. In a block of its
 * own, and with nothing found by a name that an output's HTML could have, too: `document.x` may be an element of that name.
 */
export const script = `
"use strict";
{
const own = Object.getOwnPropertyDescriptor(Document.prototype, "currentScript").get.call(document);
const body = own.parentElement;
const root = body.parentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
try { const kept = localStorage.getItem("theme"); if (kept) root.dataset.theme = kept; } catch {}
body.firstElementChild.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch {}
  draw();
});
dark.addEventListener("change", () => draw());

// Names of a notebook's have a prefix on its page; links from elsewhere may lead to them without it.
const element = (id) => Document.prototype.getElementById.call(document, id);
function find() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch {}
  if (name !== "" && !element(name)) element(${JSON.stringify(PREFIX)} + name)?.scrollIntoView();
}
addEventListener("hashchange", find);
find();

// The contents stand open beside the text, and folded above it where there is no room.
const contents = body.querySelector(":scope > nav > details");
const beside = matchMedia("(min-width:84rem)");
const place = () => { if (contents) contents.open = beside.matches; };
beside.addEventListener("change", place);
place();

// What scrolls can be reached and scrolled with the keyboard; what fits is no stop on the way.
const reach = (element) => {
  const { overflowX, overflowY } = getComputedStyle(element);
  const scrolls = (overflow, size, room) => /auto|scroll/.test(overflow) && size > room;
  if (scrolls(overflowX, element.scrollWidth, element.clientWidth) || scrolls(overflowY, element.scrollHeight, element.clientHeight)) element.setAttribute("tabindex", "0");
  else element.removeAttribute("tabindex");
};
const sizes = new ResizeObserver((entries) => { for (const { target } of entries) reach(target); });
for (const element of body.querySelectorAll("pre,.table,.html,.latex,.katex-display,.contents")) sizes.observe(element);

// A figure's own template goes before the page's colours, and its layout before both.
function themed(layout, room) {
  const css = getComputedStyle(root);
  const color = (name) => css.getPropertyValue(name).trim();
  const axis = { gridcolor: color("--line"), zerolinecolor: color("--line-strong"), linecolor: color("--line-strong") };
  const base = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: color("--text") },
    xaxis: axis, yaxis: axis, legend: { bgcolor: "rgba(0,0,0,0)" },
    scene: Object.fromEntries(["xaxis", "yaxis", "zaxis"].map((name) => [name, axis])) };
  const own = layout.template ?? {};
  const bars = { error_x: { color: color("--muted") }, error_y: { color: color("--muted") } }; // plotly's are dark grey
  const data = merged({ bar: [bars], histogram: [bars] }, own.data ?? {});
  return { ...layout, template: { ...own, layout: merged(base, own.layout ?? {}), data }, autosize: true, width: layout.width <= room ? layout.width : undefined };
}
function merged(below, above) {
  const plain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (!plain(below) || !plain(above)) return above ?? below;
  const keys = new Set([...Object.keys(below), ...Object.keys(above)]);
  return Object.fromEntries([...keys].map((key) => [key, merged(below[key], above[key])]));
}

// Only the page's own figures are in scripts: a notebook's text has none, and another's are left alone when they can't be drawn.
const figures = [...body.querySelectorAll('div.plotly > script[type="application/vnd.plotly.v1+json"]')];
async function unpack() {
  const packed = Uint8Array.from(atob(own.previousElementSibling.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const code = Document.prototype.createElement.call(document, "script");
  code.textContent = await new Response(stream).text();
  body.append(code);
}
let ready = figures.length > 0 ? unpack() : undefined;
async function draw() {
  if (!ready) return;
  await ready;
  for (const spec of figures) {
    const drawing = spec.parentElement;
    if (!drawing) continue; // given up
    try {
      const { data, layout, config, frames } = JSON.parse(spec.textContent);
      await Plotly.react(drawing, { data: data ?? [], layout: themed(layout ?? {}, drawing.clientWidth), config: { responsive: true, displaylogo: false, ...config }, frames });
    } catch (error) {
      // The picture of it that is there for readers without scripts, or why there is none.
      const still = drawing.nextElementSibling;
      Plotly.purge(drawing);
      if (still?.localName === "noscript") drawing.innerHTML = still.textContent;
      else drawing.textContent = "This figure can't be drawn: " + (error?.message ?? error);
    }
  }
  root.dataset.figures = "drawn";
}
draw();
}
`;
