import { AnsiUp } from "ansi_up";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { escapeXml } from "../../display/mime.js";

for (const [name, language] of Object.entries({
  bash,
  css,
  diff,
  json,
  markdown,
  python,
  typescript,
  xml,
  yaml,
})) {
  hljs.registerLanguage(name, language);
}
// One grammar serves both: what JavaScript has, TypeScript has.
hljs.registerAliases(["js", "javascript", "mjs", "jsx"], { languageName: "typescript" });

/** Source code as HTML with highlight.js's classes; an unknown language is left plain. */
export function highlight(source: string, language: string | undefined): string {
  if (language === undefined || !hljs.getLanguage(language)) return escapeXml(source);
  return hljs.highlight(source, { language, ignoreIllegals: true }).value;
}

/** A terminal's text as HTML: colours by class, lines overwritten after a carriage return as they end up. */
export function terminal(text: string): string {
  const ansi = new AnsiUp();
  ansi.use_classes = true;
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  return ansi.ansi_to_html(lines.map((line) => line.replace(/\r+$/, "").replace(/^.*\r/s, "")).join("\n"));
}
