import { readFileSync, realpathSync, statSync } from "node:fs";
import { extname, resolve, sep } from "node:path";
import type { MimeBundle } from "../notebook/format.js";
import { mediaUrl, pictureType, shownType } from "./media.js";
import { anchored } from "./sanitize.js";

/** Removes percent-encoding if there is any; a plain percent sign stays. */
export function percentDecoded(text: string): string {
  return text.replaceAll(/(?:%[\da-f]{2})+/gi, (encoded) => {
    try {
      return decodeURIComponent(encoded);
    } catch {
      return encoded;
    }
  });
}

/** Where a notebook's link leads on its page: links between notebooks become links between pages. */
export function pageLink(href: string, pages: ReadonlySet<string>): string {
  const [, path = "", fragment = ""] = /^(?:\.\/)?([^#]*)(#.*)?$/s.exec(href) ?? [];
  if (!pages.has(percentDecoded(path))) return href;
  return path.replace(/\.ipynb$/, ".html") + anchored(fragment);
}

/** What a picture's address becomes: an address for the page, or why the picture is not shown. */
export type Picture = { readonly address: string; readonly remote: boolean } | { readonly problem: string };

export interface PictureSources {
  /** Pictures come from this folder and its subfolders; a page shows nothing else from the disk. */
  readonly folder: string;
  readonly attachments?: Readonly<Record<string, MimeBundle>>;
}

/** The longest picture file that goes into a page, in bytes. */
const longestPicture = 64 * 2 ** 20;

/** A picture named in a notebook's text: from the web as it is, from an attachment or a file as a data URL. */
export function embedded(address: string, { folder, attachments }: PictureSources): Picture {
  const scheme = /^([a-z][a-z\d+.-]*):/i.exec(address)?.[1]?.toLowerCase();
  if (scheme === "http" || scheme === "https" || address.startsWith("//")) return { address, remote: true };
  if (scheme === "data") return { address, remote: false };
  if (scheme === "attachment") {
    return attached(percentDecoded(address.slice("attachment:".length)), attachments ?? {});
  }
  if (scheme !== undefined) return { problem: "expected a web address or a file in the notebook's folder" };
  return fromFile(percentDecoded(address.replace(/[?#].*$/s, "")), folder);
}

function attached(name: string, attachments: Readonly<Record<string, MimeBundle>>): Picture {
  const bundle = Object.hasOwn(attachments, name) ? attachments[name]! : undefined;
  if (bundle === undefined) return { problem: "the cell has no such attachment" };
  const type = shownType(bundle, "image");
  if (type === undefined) return { problem: "the attachment is no picture that a page can show" };
  const url = mediaUrl(type, bundle[type]);
  return url === undefined
    ? { problem: `the attachment's ${type} is not base64` }
    : { address: url, remote: false };
}

function fromFile(name: string, folder: string): Picture {
  const type = pictureType(extname(name));
  if (type === undefined) return { problem: "it is no picture that a page can show" };
  try {
    // Symbolic links are followed first, since what counts is where the file really is.
    const file = realpathSync(resolve(folder, name));
    if (!file.startsWith(realpathSync(folder).replace(/[/\\]?$/, sep))) {
      return { problem: "it is not in the notebook's folder" };
    }
    const stats = statSync(file);
    if (!stats.isFile()) return { problem: "it is not a file" };
    if (stats.size > longestPicture) return { problem: "its file is larger than 64 MB" };
    return { address: `data:${type};base64,${readFileSync(file).toString("base64")}`, remote: false };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { problem: code === "ENOENT" ? "there is no such file" : `it can't be read (${code})` };
  }
}
