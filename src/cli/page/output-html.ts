import { JSDOM } from "jsdom";
import { assertShallow } from "./depth.js";
import { type Grants, sha256 } from "./policy.js";

let document: Document | undefined;

/**
 * The `text/html` of an output as it is, but self-contained: what it leaves open (a comment, a `textarea`) ends with it, and it
 * can't close what is around it. Its scripts get the nonce, and what they need is added to `grants`.
 */
export function ownHtml(source: string, nonce: string, grants: Grants): string {
  assertShallow(source);
  document ??= new JSDOM("").window.document;
  const template = document.createElement("template");
  template.innerHTML = source;
  // Nothing can close this element, so it would swallow the rest of the page.
  for (const element of template.content.querySelectorAll("plaintext")) {
    const pre = document.createElement("pre");
    pre.append(...element.childNodes);
    element.replaceWith(pre);
  }
  grant(template.content, nonce, grants);
  return template.innerHTML;
}

const FETCHING = ["src", "srcset", "data", "poster", "background", "srcdoc", "href", "xlink:href"];

function grant(root: ParentNode, nonce: string, grants: Grants): void {
  for (const element of root.querySelectorAll("*")) {
    const tag = element.localName;
    if (tag === "script") {
      element.setAttribute("nonce", nonce);
      grants.scripts = true;
    }
    if (tag === "template") grant((element as HTMLTemplateElement).content, nonce, grants);
    if (tag === "style" && /@import|url\s*\(/i.test(element.textContent ?? "")) grants.fetches = true;
    for (const { name, value } of element.attributes) {
      if (name.startsWith("on")) grants.handlers.add(sha256(value));
      if (tag === "iframe" && name === "srcdoc") element.setAttribute(name, framed(value, nonce, grants));
      const isLink = (tag === "a" || tag === "area") && name.endsWith("href");
      if (FETCHING.includes(name) && !isLink && !/^\s*(?:data:|#|$)/i.test(value)) grants.fetches = true;
      if (name === "style" && /url\s*\(/i.test(value)) grants.fetches = true;
    }
  }
}

/** A document in a frame is subject to its page's policy, so its scripts need the same nonce. */
function framed(source: string, nonce: string, grants: Grants): string {
  const dom = new JSDOM(source);
  grant(dom.window.document, nonce, grants);
  return dom.serialize();
}
