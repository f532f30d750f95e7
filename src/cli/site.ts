import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import sharp from "sharp";
import { escapeXml } from "../display/mime.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { UsageError, warn } from "./errors.js";
import { type Notebook, readNotebook } from "./notebook/format.js";
import { chineseNotebooks, pageNames, projectNotebooks } from "./notebook/paths.js";
import { htmlPage } from "./page/html.js";
import { type RenderedHtml, renderMarkdown } from "./page/markdown.js";
import { mediaUrl, shownType } from "./page/media.js";
import { renderPage } from "./page/page.js";
import { noNeeds } from "./page/policy.js";
import { languageOf, words } from "./page/words.js";
import { writeOutput } from "./write.js";

/**
 * `firstframe site`: a page per notebook, as it is, and an index, which begins with the picture that the first notebook opens
 * with, if it does, and links to the API reference if it is there. Every
 * file works on its own and offline. What can't be shown is named on standard error and does not affect the rest.
 */
export async function siteCommand(argv: string[]): Promise<void> {
  const { values, positionals } = parseCommand("site", commands.site, argv);
  const { out, title, "sanitize-html": sanitizeHtml } = values;
  const english = positionals.length > 0 ? positionals : await projectNotebooks();
  const chinese = positionals.length > 0 ? [] : await chineseNotebooks();
  const reference = existsSync(join(out, "api/index.html")) ? "api/index.html" : undefined;
  const links = {
    reference,
    edition: chinese.length > 0 ? { href: "zh/index.html", name: "中文", lang: "zh" } : undefined,
  };
  await buildEdition(english, { out, title, sanitizeHtml, links, others: [] });
  if (chinese.length === 0) return;
  await buildEdition(chinese, {
    out: join(out, "zh"),
    title: `${title} ${words.zh.tutorials}`,
    sanitizeHtml,
    links: {
      reference: reference && `../${reference}`,
      edition: { href: "../index.html", name: "English", lang: "en" },
    },
    others: english.map((path) => `../${basename(path)}`),
  });
}

interface EditionOptions {
  readonly out: string;
  readonly title: string;
  readonly sanitizeHtml: boolean;
  readonly links: {
    readonly reference: string | undefined;
    readonly edition: { readonly href: string; readonly name: string; readonly lang: string } | undefined;
  };
  /** Notebooks that have pages elsewhere, as these name them. */
  readonly others: readonly string[];
}

async function buildEdition(
  paths: readonly string[],
  { out, title, sanitizeHtml, links, others }: EditionOptions,
): Promise<void> {
  const names = pageNames(paths);
  const own = names.indexOf("index");
  if (own >= 0)
    throw new UsageError(`${paths[own]} would be written as index.html, which is the site's index`);
  const notebooks = await Promise.all(paths.map(readNotebook));
  const language = languageOf(notebooks[0]!);
  const said = words[language];
  const reference = links.reference === undefined ? "" : `<a href="${links.reference}">${said.reference}</a>`;
  const { edition } = links;
  const elsewhere =
    edition === undefined
      ? reference
      : `${reference}<a href="${edition.href}" lang="${edition.lang}" hreflang="${edition.lang}">${edition.name}</a>`;
  const site = (inside: string) => `<nav class="site" aria-label="${said.site}">${inside}</nav>`;
  const navigation = site(`<a href="index.html">${escapeXml(title)}</a>${elsewhere}`);
  const pages = new Set([...paths.map((path) => basename(path)), ...others]);
  const openings = await Promise.all(notebooks.map((notebook, i) => opening(notebook, paths[i]!)));
  const neighbour = (i: number, rel: "prev" | "next") => {
    if (names[i] === undefined) return "";
    const label = rel === "prev" ? said.previous : said.next;
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
          ? `<nav class="neighbours" aria-label="${said.tutorials}">${neighbour(i - 1, "prev")}${neighbour(i + 1, "next")}</nav>`
          : "",
      sanitizeHtml,
      warn: warnOf,
    };
    await writeOutput(join(out, `${names[i]}.html`), await renderPage(notebook, page));
    cards.push(await card(notebook, openings[i]!, names[i]!, warnOf));
  }
  const ways = elsewhere === "" ? "" : site(elsewhere);
  const film = openings[0]?.picture;
  const above = film ? `<p class="film"><img src="${film.src}" alt="${escapeXml(film.alt)}"></p>` : "";
  const body = `<main><h1>${escapeXml(title)}</h1>${ways}${above}<ul class="cards">${cards.join("")}</ul></main>`;
  const index = join(out, "index.html");
  await writeOutput(index, htmlPage(title, body, noNeeds(), language));
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
  readonly picture: RenderedHtml["picture"];
}

/** The first heading, paragraph and picture of the text that a notebook begins with. */
async function opening({ cells }: Notebook, path: string): Promise<Opening> {
  const source = cells.find((cell) => cell.cell_type === "markdown")?.source ?? "";
  try {
    const context = { folder: dirname(path), pages: new Set<string>() };
    const { headings, paragraph, picture } = await renderMarkdown(source, context);
    return { title: headings[0]?.text, paragraph, picture };
  } catch {
    // The page has already said why.
    return { title: undefined, paragraph: "", picture: undefined };
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
