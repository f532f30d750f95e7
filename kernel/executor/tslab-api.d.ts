/** tslab's display API, as cells see it if tslab is not installed. */

/** Shows something below the cell. */
export interface Display {
  javascript(code: string): void;
  html(text: string): void;
  markdown(text: string): void;
  latex(text: string): void;
  svg(text: string): void;
  png(bytes: Uint8Array): void;
  jpeg(bytes: Uint8Array): void;
  gif(bytes: Uint8Array): void;
  pdf(bytes: Uint8Array): void;
  text(text: string): void;
  /** Any MIME type; bytes are sent as base64. */
  raw(contentType: string, content: string | Uint8Array): void;
}

export declare const display: Display;

/** A display that each call replaces, instead of adding another. */
export declare function newDisplay(): Display;

/** The version of the API, of TypeScript and of Node. */
export declare const versions: { tslab: string; typescript: string; node: string };
