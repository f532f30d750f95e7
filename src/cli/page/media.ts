/**
 * The media types that a page shows, with their file extensions. Anything else is named in the page but not shown, because a
 * type in a notebook is text by the notebook's author.
 */
const EXTENSIONS: Readonly<Record<string, readonly string[]>> = {
  "image/apng": [".apng"],
  "image/avif": [".avif"],
  "image/bmp": [".bmp"],
  "image/gif": [".gif"],
  "image/jpeg": [".jpg", ".jpeg"],
  "image/jpg": [],
  "image/png": [".png"],
  "image/svg+xml": [".svg"],
  "image/webp": [".webp"],
  "audio/aac": [],
  "audio/flac": [],
  "audio/mp3": [],
  "audio/mp4": [],
  "audio/mpeg": [],
  "audio/ogg": [],
  "audio/wav": [],
  "audio/webm": [],
  "audio/x-wav": [],
  "video/mp4": [],
  "video/ogg": [],
  "video/quicktime": [],
  "video/webm": [],
};

export type Medium = "image" | "audio" | "video";

/** The first type of a MIME bundle that a page shows as this medium. */
export function shownType(data: object, medium: Medium): string | undefined {
  return Object.keys(data).find((type) => type.startsWith(`${medium}/`) && Object.hasOwn(EXTENSIONS, type));
}

/** The type of a picture's file by its name. */
export function pictureType(extension: string): string | undefined {
  return Object.keys(EXTENSIONS).find((type) => EXTENSIONS[type]!.includes(extension.toLowerCase()));
}

/**
 * Content of a MIME bundle as a data URL that needs no escaping; `undefined` if pages don't show the type or the content is
 * not base64. SVG is text; in an `img` it runs no script and fetches nothing.
 */
export function mediaUrl(type: string, content: unknown): string | undefined {
  if (!Object.hasOwn(EXTENSIONS, type) || typeof content !== "string") return undefined;
  if (type === "image/svg+xml") return `data:${type};base64,${Buffer.from(content).toString("base64")}`;
  const base64 = content.replaceAll(/\s/g, "");
  return isBase64(base64) ? `data:${type};base64,${base64}` : undefined;
}

function isBase64(text: string): boolean {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const length = text.length - padding;
  return length > 0 && length % 4 !== 1 && !/[^A-Za-z0-9+/]/.test(text.slice(0, length));
}
