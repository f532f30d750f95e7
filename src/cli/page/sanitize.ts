import createDOMPurify, { type DOMPurify } from "dompurify";
import { assertShallow } from "./depth.js";
import { PREFIX } from "./names.js";

export interface SanitizeOptions {
  /** The address that a picture's `src` becomes; `undefined` removes the picture. */
  picture(address: string, element: Element): string | undefined;
  /** The address that a link's `href` becomes, before links into the page get the prefix. */
  link(address: string): string;
}

let purifier: DOMPurify | undefined;
let options: SanitizeOptions;

/**
 * Untrusted HTML without anything active: no scripts, event handlers, frames, forms or style sheets, no addresses except
 * those of links and pictures, no names that shadow others, nothing that leaves its place on the page.
 */
export async function sanitize(html: string, { picture, link }: SanitizeOptions): Promise<HTMLElement> {
  assertShallow(html);
  purifier ??= await makePurifier();
  options = { picture, link };
  const body = purifier.sanitize(html, {
    ADD_TAGS: ["semantics", "annotation"],
    ADD_ATTR: ["encoding", "target"],
    FORBID_TAGS: ["style", "form"],
    FORBID_ATTR: ["background", "poster", "srcset"],
    SANITIZE_NAMED_PROPS: true,
    RETURN_DOM: true,
  });
  return body as HTMLElement;
}

async function makePurifier(): Promise<DOMPurify> {
  const { JSDOM } = await import("jsdom");
  const purify = createDOMPurify(new JSDOM("").window);
  purify.addHook("uponSanitizeAttribute", (element, attribute) => {
    const value = changed(element, attribute.attrName, attribute.attrValue);
    if (value === undefined) attribute.keepAttr = false;
    else attribute.attrValue = value;
  });
  return purify;
}

const REFERENCES = ["for", "headers", "list", "aria-controls", "aria-describedby", "aria-labelledby"];

/** An attribute's value as it goes into the page, or `undefined` if it is dropped. */
function changed(element: Element, name: string, value: string): string | undefined {
  const tag = element.nodeName.toLowerCase();
  if (name === "style") return safeStyle(value);
  if (name === "src") return tag === "img" ? options.picture(value, element) : ownAddress(value);
  if (name === "href" || name === "xlink:href") {
    return tag === "a" || tag === "area" ? anchored(options.link(value)) : ownAddress(value);
  }
  if (REFERENCES.includes(name)) return value.replaceAll(/\S+/g, (id) => PREFIX + id);
  if (name === "usemap") return anchored(value);
  // SVG's references to gradients, masks and the like.
  if (/\burl\s*\(/i.test(value)) {
    const id = /^\s*url\(\s*["']?#([\w.:-]+)["']?\s*\)\s*$/i.exec(value)?.[1];
    return id === undefined ? undefined : `url(#${PREFIX}${id})`;
  }
  return value;
}

/** Addresses within the page, or that contain their data; all others would be fetched. */
const ownAddress = (address: string) =>
  address.startsWith("#") ? anchored(address) : /^data:/i.test(address) ? address : undefined;

/** A link into one of our pages leads to the prefixed name. */
export function anchored(address: string): string {
  return address.replace(/^#(?!$)(?:user-content-)?/, `#${PREFIX}`);
}

/** Declarations that cover nothing and fetch nothing; each one between `;` is checked on its own. */
function safeStyle(style: string): string | undefined {
  const kept = style.split(";").filter((declaration) => {
    if (/[\\@<]|\/\*|(?:url|image|image-set|src)\s*\(/i.test(declaration)) return false;
    const property = declaration.slice(0, declaration.indexOf(":")).trim().toLowerCase();
    if (property === "position") return /:\s*(?:relative|static)\s*$/i.test(declaration);
    return property !== "" && property !== "z-index";
  });
  return kept.length > 0 ? kept.join(";") : undefined;
}
