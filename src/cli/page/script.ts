/** What runs on a page: the switch between light and dark, and plotly's figures. It fetches nothing. */
export const script = `
"use strict";
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
try { const kept = localStorage.getItem("theme"); if (kept) root.dataset.theme = kept; } catch {}
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch {}
  draw();
});
dark.addEventListener("change", () => draw());

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

const figures = [...document.querySelectorAll("div.plotly")].map((element) => {
  const { data = [], layout = {}, config = {}, frames } = JSON.parse(element.querySelector("script").textContent);
  return { element, data, layout, config, frames };
});
async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly.js.gz").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const code = document.createElement("script");
  code.textContent = await new Response(stream).text();
  document.head.append(code);
}
let ready = figures.length > 0 ? unpack() : undefined;
async function draw() {
  if (!ready) return;
  await ready;
  for (const { element, data, layout, config, frames } of figures) {
    await Plotly.react(element, { data, layout: themed(layout, element.clientWidth), config: { responsive: true, displaylogo: false, ...config }, frames });
  }
  root.dataset.figures = "drawn";
}
draw();
`;
