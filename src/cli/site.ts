import { basename, dirname, join } from "node:path";
import sharp from "sharp";
import { escapeXml } from "../display/mime.js";
import { writeFileAtomic } from "../engine/cache.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { type Notebook, readNotebook } from "./notebook/format.js";
import { pageNames, projectNotebooks } from "./notebook/paths.js";
import { htmlPage } from "./page/html.js";
import { dataUrl, renderMarkdown } from "./page/markdown.js";
import { renderPage } from "./page/page.js";

/** `firstframe site`: a page per notebook, as it is, and an index. Every file works alone and offline. */
export async function siteCommand(argv: string[]): Promise<void> {
  const { values, positionals } = parseCommand("site", commands.site, argv);
  const paths = positionals.length > 0 ? positionals : await projectNotebooks();
  const names = pageNames(paths);
  const notebooks = await Promise.all(paths.map(readNotebook));
  const navigation = `<p class="back"><a href="index.html">${escapeXml(values.title)}</a></p>`;
  const pages = new Set(paths.map((path) => basename(path)));
  const cards: string[] = [];
  for (const [i, notebook] of notebooks.entries()) {
    const path = paths[i]!;
    const page = { folder: dirname(path), pages, name: names[i]!, navigation };
    await writeFileAtomic(join(values.out, `${names[i]}.html`), await renderPage(notebook, page));
    cards.push(await card(notebook, path, names[i]!));
  }
  const body = `<main><h1>${escapeXml(values.title)}</h1><ul class="cards">${cards.join("")}</ul></main>`;
  const index = join(values.out, "index.html");
  await writeFileAtomic(index, htmlPage(escapeXml(values.title), body));
  console.log(`${paths.length} pages and ${index}`);
}

async function card(notebook: Notebook, path: string, name: string): Promise<string> {
  const context = { folder: dirname(path), pages: new Set<string>() };
  const first = notebook.cells.find((cell) => cell.cell_type === "markdown");
  // Math would need its fonts here; a card shows its source.
  const source = first?.source.replaceAll(/\$+([^$]+)\$+/g, "$1") ?? "";
  const { html, headings } = await renderMarkdown(source, context);
  // A heading that runs into the paragraph is the same on every card.
  const paragraph =
    /<p>(?:<strong>.*?<\/strong>\s*)?(.*?)<\/p>/s.exec(html)?.[1]?.replace(/<[^>]*>/g, "") ?? "";
  const text =
    paragraph.length > 180 ? `${paragraph.slice(0, paragraph.lastIndexOf(" ", 180))} …` : paragraph;
  const picture = await firstPicture(notebook);
  const image = picture === undefined ? "" : `<img src="${picture}" alt="" loading="lazy">`;
  return `<li><a href="${encodeURIComponent(name)}.html">${image}<div><strong>${headings[0]?.text ?? name}</strong><p>${text}</p></div></a></li>`;
}

/** The first picture among the outputs, small. */
async function firstPicture(notebook: Notebook): Promise<string | undefined> {
  for (const cell of notebook.cells) {
    for (const output of cell.cell_type === "code" ? cell.outputs : []) {
      if (!("data" in output)) continue;
      const type = Object.keys(output.data).find((name) => name.startsWith("image/"));
      if (type === undefined) continue;
      const bytes = Buffer.from(String(output.data[type]), type === "image/svg+xml" ? "utf8" : "base64");
      const small = await sharp(bytes).resize({ width: 640, withoutEnlargement: true }).webp().toBuffer();
      return dataUrl("image/webp", small.toString("base64"));
    }
  }
  return undefined;
}
