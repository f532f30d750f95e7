import { createHash } from "node:crypto";

/** What a page has to include for its content, and what its policy has to allow. */
export interface Needs {
  math: boolean;
  plotly: boolean;
  /** It shows pictures that the notebook's text names by web address. */
  remotePictures: boolean;
  /** Given to the scripts of the outputs' own HTML and to nothing else on the page. */
  readonly nonce: string;
  readonly html: Grants;
}

/** What the outputs' own HTML may do. */
export interface Grants {
  /** Scripts with the page's nonce run, with what they load. */
  scripts: boolean;
  /** Hashes of the event handlers that it has as attributes. */
  readonly handlers: Set<string>;
  /** It names what has to be fetched. */
  fetches: boolean;
}

/** @param nonce must be unknown beforehand to anyone who writes a part of the page */
export function noNeeds(nonce = ""): Needs {
  const html = { scripts: false, handlers: new Set<string>(), fetches: false };
  return { math: false, plotly: false, remotePictures: false, nonce, html };
}

/**
 * The page's Content-Security-Policy: its own scripts run, identified by their hashes, and nothing is fetched except pictures
 * that the notebook's text names. An output's own HTML may do what it needs, without opening the rest of the page.
 *
 * @param scripts the page's own
 */
export function policy({ plotly, remotePictures, nonce, html }: Needs, scripts: readonly string[]): string {
  const runs = [...scripts];
  if (html.scripts) runs.push(`'nonce-${nonce}'`, "'strict-dynamic'", "'unsafe-eval'");
  if (html.handlers.size > 0) runs.push("'unsafe-hashes'", ...html.handlers);
  const always = [`script-src ${runs.join(" ")}`, "base-uri 'none'"];
  if (html.scripts || html.handlers.size > 0 || html.fetches) return always.join("; ");
  return [
    "default-src 'none'",
    ...always,
    "style-src 'unsafe-inline'",
    "font-src data:",
    "media-src data:",
    `img-src data: blob:${remotePictures ? " https: http:" : ""}`,
    // Country outlines, which plotly.js fetches from there.
    ...(plotly ? ["connect-src https://cdn.plot.ly/un/"] : []),
    "form-action 'none'",
  ].join("; ");
}

/** A script as a source expression of a policy. */
export function sha256(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}
