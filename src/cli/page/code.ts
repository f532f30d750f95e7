import { AnsiUp } from "ansi_up";
import hljs from "#highlight";
import { escapeXml } from "../../display/mime.js";

// One grammar serves both, since TypeScript includes JavaScript.
hljs.registerAliases(["js", "javascript", "mjs", "jsx"], { languageName: "typescript" });

/** Source code as HTML with highlight.js's classes; an unknown language is left plain. */
export function highlight(source: string, language: string | undefined): string {
  if (language === undefined || !hljs.getLanguage(language)) return escapeXml(source);
  return hljs.highlight(source, { language, ignoreIllegals: true }).value;
}

/** The most characters of a text that a page shows; the notebook has all of it. */
const longestText = 2_000_000;

/** A terminal's text as HTML: colours by class, lines with carriage returns as they end up. */
export function terminal(text: string): string {
  const ansi = new AnsiUp();
  ansi.use_classes = true;
  const lines = text.replaceAll("\r\n", "\n").split("\n").map(overwritten).join("\n");
  if (lines.length <= longestText) return ansi.ansi_to_html(lines);
  const left = lines.length - longestText;
  const [start, end] = [lines.slice(0, longestText / 2), lines.slice(-longestText / 2)];
  const gap = `<span class="note">\n... ${left} characters are left out on this page ...\n</span>`;
  return ansi.ansi_to_html(start) + gap + ansi.ansi_to_html(end);
}

function overwritten(line: string): string {
  let end = line.length;
  while (line[end - 1] === "\r") end--;
  return line.slice(line.lastIndexOf("\r", end - 1) + 1, end);
}
