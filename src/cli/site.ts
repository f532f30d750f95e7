import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import sharp from "sharp";
import { escapeXml } from "../display/mime.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError, warn } from "./errors.js";
import { type Notebook, readNotebook } from "./notebook/format.js";
import { pageNames, projectNotebooks } from "./notebook/paths.js";
import { htmlPage } from "./page/html.js";
import { renderMarkdown } from "./page/markdown.js";
import { mediaUrl, shownType } from "./page/media.js";
import { renderPage } from "./page/page.js";
import { writeOutput } from "./write.js";

/**
 * `firstframe site`: a page per notebook, as it is, and an index, which links to the API reference if it is there. Every
 * file works on its own and offline. What can't be shown is named on standard error and does not affect the rest.
 */
export async function siteCommand(argv: string[]): Promise<void> {
  const { values, positionals } = parseCommand("site", commands.site, argv);
  const paths = positionals.length > 0 ? positionals : await projectNotebooks();
  const names = pageNames(paths);
  const own = names.indexOf("index");
  if (own >= 0)
    throw new UsageError(`${paths[own]} would be written as index.html, which is the site's index`);
  const notebooks = await Promise.all(paths.map(readNotebook));
  const reference = existsSync(join(values.out, "api/index.html"))
    ? '<a href="api/index.html">API reference</a>'
    : "";
  const navigation = `<nav class="site" aria-label="Site"><a href="index.html">${escapeXml(values.title)}</a>${reference}</nav>`;
  const pages = new Set(paths.map((path) => basename(path)));
  const openings = await Promise.all(notebooks.map((notebook, i) => opening(notebook, paths[i]!)));
  const neighbour = (i: number, rel: "prev" | "next") => {
    if (names[i] === undefined) return "";
    const label = rel === "prev" ? "Previous" : "Next";
    const title = openings[i]!.title ?? names[i];
    return `<a rel="${rel}" href="${encodeURIComponent(names[i])}.html"><small>${label}</small>${escapeXml(title)}</a>`;
  };
  const cards: string[] = [];
  for (const [i, notebook] of notebooks.entries()) {
    const path = paths[i]!;
    const warnOf = (message: string) => warn(`${path}, ${message}`);
    const page = {
      folder: dirname(path),
      pages,
      name: names[i]!,
      navigation,
      neighbours:
        paths.length > 1
          ? `<nav class="neighbours" aria-label="Tutorials">${neighbour(i - 1, "prev")}${neighbour(i + 1, "next")}</nav>`
          : "",
      sanitizeHtml: values["sanitize-html"],
      warn: warnOf,
    };
    await writeOutput(join(values.out, `${names[i]}.html`), await renderPage(notebook, page));
    cards.push(await card(notebook, openings[i]!, names[i]!, warnOf));
  }
  const ways = reference === "" ? "" : `<nav class="site" aria-label="Site">${reference}</nav>`;
  const body = `<main><h1>${escapeXml(values.title)}</h1>${ways}<ul class="cards">${cards.join("")}</ul></main>`;
  const index = join(values.out, "index.html");
  await writeOutput(index, htmlPage(values.title, body));
  console.log(`${paths.length} pages and ${index}`);
}

async function card(
  notebook: Notebook,
  { title, paragraph }: Opening,
  name: string,
  warn: (message: string) => void,
): Promise<string> {
  const text =
    paragraph.length > 180 ? `${paragraph.slice(0, paragraph.lastIndexOf(" ", 180))} …` : paragraph;
  const picture = await firstPicture(notebook, warn);
  const image = picture === undefined ? "" : `<img src="${picture}" alt="" loading="lazy">`;
  return `<li><a href="${encodeURIComponent(name)}.html">${image}<div><strong>${escapeXml(title ?? name)}</strong><p>${escapeXml(text)}</p></div></a></li>`;
}

interface Opening {
  readonly title: string | undefined;
  readonly paragraph: string;
}

/** The first heading and paragraph of a notebook's text. */
async function opening({ cells }: Notebook, path: string): Promise<Opening> {
  const source = cells.find((cell) => cell.cell_type === "markdown")?.source ?? "";
  try {
    const context = { folder: dirname(path), pages: new Set<string>() };
    const { headings, paragraph } = await renderMarkdown(source, context);
    return { title: headings[0]?.text, paragraph };
  } catch {
    // The page has already said why.
    return { title: undefined, paragraph: "" };
  }
}

/** The first drawable picture among the outputs, in small. */
async function firstPicture(
  notebook: Notebook,
  warn: (message: string) => void,
): Promise<string | undefined> {
  for (const [i, cell] of notebook.cells.entries()) {
    for (const [j, output] of cell.cell_type === "code" ? cell.outputs.entries() : []) {
      if (!("data" in output)) continue;
      const type = shownType(output.data, "image");
      if (type === undefined) continue;
      const bytes = Buffer.from(String(output.data[type]), type === "image/svg+xml" ? "utf8" : "base64");
      try {
        const small = await sharp(bytes).resize({ width: 640, withoutEnlargement: true }).webp().toBuffer();
        return mediaUrl("image/webp", small.toString("base64"));
      } catch (error) {
        const [why] = (error as Error).message.split("\n");
        warn(`cell ${i + 1}, output ${j + 1}: ${type} can't be drawn for the index: ${why}`);
      }
    }
  }
  return undefined;
}
