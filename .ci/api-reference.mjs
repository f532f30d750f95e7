// node .ci/api-reference.mjs [DIR]: the API reference from the TSDoc of what package.json exports (default out/site/api).
// typedoc reads TypeScript through the compiler's JavaScript API, which TypeScript 7 has not: it is given TypeScript 5.9,
// which is here as typescript-js.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { resolve } from "node:path";

const redirect = `export const resolve = (name, context, next) =>
  next(name === "typescript" ? "typescript-js" : name, context);`;
register(`data:text/javascript,${encodeURIComponent(redirect)}`, import.meta.url);
const { Application, DefaultTheme, PageEvent } = await import("typedoc");

const root = new URL("../", import.meta.url).pathname;
const { exports, version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));
const entryPoints = Object.values(exports)
  .map(({ types }) => types)
  .filter((types) => types !== undefined)
  .map((types) => root + types.replace(/^\.\/dist\//, "").replace(/\.d\.ts$/, ".ts"));

// What folds in the navigation is a link as well, which can't be reached apart from the folding: the link goes below it.
class Theme extends DefaultTheme {
  buildNavigation(project) {
    const apart = ({ children, ...entry }) => {
      if (children === undefined) return entry;
      const link = entry.path === undefined ? [] : [entry];
      return { text: entry.text, children: [...link, ...children.map(apart)] };
    };
    return super.buildNavigation(project).map(apart);
  }
}

const app = await Application.bootstrap({
  entryPoints,
  tsconfig: `${root}tsconfig.json`,
  basePath: root,
  name: `firstframe ${version}`,
  readme: "none",
  projectDocuments: [`${root}kernel/docs/*.md`, `${root}src/train/distributed/docs/*.md`],
  excludeInternal: true,
  excludePrivate: true,
  excludeExternals: true,
  disableSources: true,
  disableGit: true,
  hideGenerator: true,
  searchInComments: true,
  navigationLinks: { Tutorials: "tutorials:" },
  validation: { notExported: false, invalidLink: true, invalidPath: true, rewrittenLink: true },
  // The build checks the types, with the compiler that they are written for.
  skipErrorChecking: true,
  logLevel: "Warn",
});
app.renderer.defineTheme("firstframe", Theme);
app.options.setValue("theme", "firstframe");
// The theme's links lead to one address from every page. A link inside a summary can't be reached apart from it, and no part
// of a page is named as its main one; and in the dark a link in a text has nearly the text's colour.
app.renderer.on(PageEvent.END, (page) => {
  page.contents = page.contents
    ?.replaceAll(/<summary\b.*?<\/summary>/gs, (summary) =>
      summary.replaceAll(/<a\b[^>]*class="tsd-anchor-icon".*?<\/a>/gs, ""),
    )
    .replace('<div class="col-content">', '<div class="col-content" role="main">')
    .replaceAll('href="tutorials:"', `href="${"../".repeat(page.url.split("/").length)}index.html"`)
    .replace(
      "</head>",
      "<style>.col-content { min-width: 0; overflow-wrap: anywhere; } .tsd-comment a { text-decoration: underline; }</style></head>",
    );
});
const project = await app.convert();
if (project === undefined) process.exit(1);
// By what one imports, not by where it is in the sources.
for (const [entry, { types }] of Object.entries(exports)) {
  const folder = types?.replace(/^\.\/dist\//, "").replace(/(\/index)?\.d\.ts$/, "");
  const module = project.children.find(({ name }) => name === folder);
  if (module !== undefined) module.name = entry.replace(".", "firstframe");
}
app.validate(project);
const out = resolve(process.argv[2] ?? `${root}out/site/api`);
// A warning is a comment that says something of nothing, or a link that leads nowhere.
const isFaulty = () => app.logger.hasErrors() || app.logger.hasWarnings();
if (!isFaulty()) await app.generateDocs(project, out);
if (isFaulty()) process.exit(1);
console.log(`API reference: ${out}/index.html`);
