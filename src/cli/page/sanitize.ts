import createDOMPurify, { type DOMPurify } from "dompurify";
import { assertShallow } from "./depth.js";
import { PREFIX } from "./names.js";

export interface SanitizeOptions {
  /** The address that a picture's `src` becomes; `undefined` takes the picture out. */
  picture(address: string, element: Element): string | undefined;
  /** The address that a link's `href` becomes, before links into the page get the prefix. */
  link(address: string): string;
}

let purifier: DOMPurify | undefined;
let options: SanitizeOptions;

/**
 * HTML of a stranger's without what could act: no script, event handler, frame, form or style sheet, no address but of
 * links and pictures, no name that shadows another, nothing that leaves its place on the page.
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

/** An attribute's value as it goes into the page, or `undefined` where it doesn't. */
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

/** What is in the page or in the address itself; all else would be fetched. */
const ownAddress = (address: string) =>
  address.startsWith("#") ? anchored(address) : /^data:/i.test(address) ? address : undefined;

/** A link into a page of ours leads to the prefixed name. */
export function anchored(address: string): string {
  return address.replace(/^#(?!$)(?:user-content-)?/, `#${PREFIX}`);
}

/** Declarations that put nothing over the page and fetch nothing: what follows each `;` is looked at by itself. */
function safeStyle(style: string): string | undefined {
  const kept = style.split(";").filter((declaration) => {
    if (/[\\@<]|\/\*|(?:url|image|image-set|src)\s*\(/i.test(declaration)) return false;
    const property = declaration.slice(0, declaration.indexOf(":")).trim().toLowerCase();
    if (property === "position") return /:\s*(?:relative|static)\s*$/i.test(declaration);
    return property !== "" && property !== "z-index";
  });
  return kept.length > 0 ? kept.join(";") : undefined;
}
