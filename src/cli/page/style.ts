const dark = `--page:#14161a;--panel:#1d2026;--text:#e3e6ea;--muted:#9aa3ad;--line:#2c313a;--line-strong:#4a515d;
--link:#7db4ff;--error:#ff8f85;--error-panel:#2f1c1d;--accent:#f0a35e;--on-accent:#14161a;
--keyword:#c79bff;--string:#93d28a;--number:#f0a35e;--comment:#8a93a0;--title:#7db4ff;--type:#5fd0c5;
--red:#ff7b72;--green:#7ee787;--yellow:#e3b341;--blue:#79c0ff;--magenta:#d2a8ff;--cyan:#56d4dd;--black:#8b949e;--white:#f0f6fc`;

/** The pages' style sheet: one column that a phone can show, light and dark, no font to fetch. */
export const style = `
:root{color-scheme:light;--page:#ffffff;--panel:#f6f7f9;--text:#1d2126;--muted:#626b76;--line:#e3e6ea;--line-strong:#b7bec8;
--link:#0a5cc2;--error:#b3261e;--error-panel:#fdf0ef;--accent:#b3590b;--on-accent:#ffffff;
--keyword:#7a2fc0;--string:#1f6f2c;--number:#9c4a00;--comment:#687180;--title:#0a5cc2;--type:#006d6a;
--red:#b3261e;--green:#1a7f37;--yellow:#8a6100;--blue:#0a5cc2;--magenta:#8e2fb5;--cyan:#0b7285;--black:#24292f;--white:#57606a}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;${dark}}}
:root[data-theme=dark]{color-scheme:dark;${dark}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:17px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:58rem;margin:0 auto;padding:2rem 1.25rem 6rem;isolation:isolate}
a{color:var(--link)}
h1,h2,h3,h4{line-height:1.25;margin:2.2em 0 .6em}
h1{font-size:2rem;margin-top:.5em}h2{font-size:1.45rem;border-bottom:1px solid var(--line);padding-bottom:.3em}h3{font-size:1.15rem}
p,ul,ol,blockquote{margin:.8em 0}
blockquote{margin-left:0;padding:.1em 1em;border-left:4px solid var(--line-strong);color:var(--muted)}
hr{border:0;border-top:1px solid var(--line);margin:2em 0}
img,video,svg{max-width:100%;height:auto}
.on-light{background:#fff}.on-dark{background:#111}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.86em}
:not(pre)>code{background:var(--panel);border-radius:4px;padding:.12em .35em;overflow-wrap:break-word}
pre{margin:0;line-height:1.5;overflow-x:auto;tab-size:2}
pre.code{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.8em 1em}
.markdown pre.code{margin:1em 0}
.table,.html{overflow-x:auto}
table{border-collapse:collapse;font-size:.92em;margin:1em 0}
th,td{border-bottom:1px solid var(--line);padding:.35em .8em;text-align:left}
th{border-bottom-color:var(--line-strong)}
.cell{position:relative;margin:1.2em 0}
.count{position:absolute;right:100%;top:.75em;margin-right:.7em;color:var(--muted);font:.72rem ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:nowrap}
.output{margin-top:.7em}
.output>pre:not(.code){padding:.1em 1em;max-height:32em;overflow:auto}
.stream,.result,.raw{white-space:pre-wrap;overflow-wrap:anywhere}
.stderr{border-left:3px solid var(--accent)}
.error{background:var(--error-panel);border-left:3px solid var(--error);border-radius:0 8px 8px 0;padding:.7em 1em!important;white-space:pre-wrap;overflow-wrap:anywhere}
.note{color:var(--muted);font-style:italic}
.plotly{width:100%;overflow:hidden}
.latex,.katex-display{overflow-x:auto;overflow-y:hidden;padding:.2em 0}
details>summary{cursor:pointer;color:var(--muted);font-size:.9em}
#theme{position:fixed;top:.7rem;right:.8rem;z-index:2;width:2.2rem;height:2.2rem;border-radius:50%;border:1px solid var(--line);background:var(--panel);color:var(--text);font-size:1rem;line-height:1;cursor:pointer}
.contents{max-width:58rem;margin:0 auto;padding:1rem 4rem 0 1.25rem;font-size:.9rem}
.contents ol{list-style:none;margin:0;padding:.3em 0 0}
.contents a{display:block;padding:.25em 0;color:var(--muted);text-decoration:none;line-height:1.35}
.contents a:hover{color:var(--link)}
.site{display:flex;flex-wrap:wrap;gap:.2em 1.2em;font-size:.9em}
.neighbours{display:flex;justify-content:space-between;gap:1rem;margin-top:4rem;padding-top:1.2rem;border-top:1px solid var(--line)}
.neighbours a{max-width:48%;text-decoration:none}.neighbours a:hover{text-decoration:underline}
.neighbours a[rel=next]{margin-left:auto;text-align:right}
.neighbours small{display:block;color:var(--muted)}
summary code{background:none!important;padding:0!important;overflow-wrap:anywhere}
details[open]>summary{margin-bottom:.4em}details[open]>summary code{display:none}
.film img{display:block;max-width:100%;border-radius:10px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1.2rem;padding:0;list-style:none}
.cards a{display:flex;flex-direction:column;height:100%;border:1px solid var(--line);border-radius:10px;overflow:hidden;color:inherit;text-decoration:none;background:var(--panel)}
.cards a:hover{border-color:var(--link)}
.cards img{aspect-ratio:16/9;object-fit:cover;width:100%;background:var(--page)}
.cards div{padding:.9rem 1.1rem 1.1rem}
.cards strong{display:block;line-height:1.35}
.cards p{margin:.4em 0 0;font-size:.92em;color:var(--muted)}
ins,del{text-decoration:none}ins{background:color-mix(in srgb,var(--green) 25%,transparent)}del{background:color-mix(in srgb,var(--red) 25%,transparent)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}.pair figure{margin:0}.pair figcaption{color:var(--muted);font-size:.85em}
.passed{color:var(--green)}.failed{color:var(--error)}
.hljs-keyword,.hljs-built_in,.hljs-literal,.hljs-selector-tag,.hljs-meta .hljs-keyword{color:var(--keyword)}
.hljs-string,.hljs-regexp,.hljs-addition,.hljs-meta .hljs-string{color:var(--string)}
.hljs-number,.hljs-symbol,.hljs-bullet{color:var(--number)}
.hljs-comment,.hljs-quote{color:var(--comment);font-style:italic}
.hljs-title,.hljs-section,.hljs-name{color:var(--title)}
.hljs-type,.hljs-title.class_,.hljs-attr,.hljs-attribute{color:var(--type)}
.hljs-deletion{color:var(--error)}
.hljs-subst{color:inherit}
.ansi-bold,.ansi-bright{font-weight:600}
${["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
  .map(
    (name) =>
      `.ansi-${name}-fg,.ansi-bright-${name}-fg{color:var(--${name})}.ansi-${name}-bg,.ansi-bright-${name}-bg{background:var(--${name});color:var(--page)}`,
  )
  .join("\n")}
@media (min-width:84rem){.contents{position:fixed;z-index:1;top:5rem;left:calc(50% + 30.5rem);width:min(15rem,calc(50% - 32rem));max-height:80vh;overflow:auto;margin:0;padding:0;font-size:.85rem}}
@media (max-width:64rem){.count{position:static;display:block;margin:0 0 .2em}}
@media (max-width:40rem){body{font-size:16px}main{padding:1.2rem 1rem 4rem}.contents{padding:.9rem 4rem 0 1rem}h1{font-size:1.6rem;padding-right:2.5rem}h2{font-size:1.25rem}.pair{grid-template-columns:1fr}}
@media print{#theme,.contents{display:none}.output>pre{max-height:none}}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
`;
