import type { DOMWindow } from "jsdom";

/** RGBA pixels that plotly painted on a canvas (heat maps, images), to be encoded as PNG later. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

/**
 * Gives a jsdom window's canvases the parts of a 2D context that plotly.js needs: filled rectangles and pixel data.
 * `toDataURL` has to return at once, which PNG encoders don't: it returns a placeholder, and the pixels wait in the map.
 */
export function installCanvas(window: DOMWindow): Map<string, Pixels> {
  const painted = new Map<string, Pixels>();
  const contexts = new WeakMap<object, Context>();
  const canvas = window.HTMLCanvasElement.prototype;

  canvas.getContext = function (this: HTMLCanvasElement, kind: string) {
    if (kind !== "2d") return null;
    const known = contexts.get(this);
    if (known?.width === this.width && known.height === this.height) return known;
    const context = new Context(this.width, this.height);
    contexts.set(this, context);
    return context;
  } as unknown as typeof canvas.getContext;

  canvas.toDataURL = function (this: HTMLCanvasElement) {
    const context = contexts.get(this) ?? new Context(this.width, this.height);
    const placeholder = `canvas:${painted.size}`;
    painted.set(placeholder, context);
    return placeholder;
  };
  return painted;
}

class Context implements Pixels {
  readonly data: Uint8ClampedArray;
  fillStyle = "rgb(0,0,0)";

  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    this.data = new Uint8ClampedArray(width * height * 4);
  }

  fillRect(x: number, y: number, width: number, height: number): void {
    const [red, green, blue, alpha] = parseColor(this.fillStyle);
    const [left, right] = span(x, width, this.width);
    const [top, bottom] = span(y, height, this.height);
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column++) {
        const at = (row * this.width + column) * 4;
        const below = (this.data[at + 3]! / 255) * (1 - alpha);
        const sum = alpha + below;
        if (sum === 0) continue;
        this.data[at] = (red * alpha + this.data[at]! * below) / sum;
        this.data[at + 1] = (green * alpha + this.data[at + 1]! * below) / sum;
        this.data[at + 2] = (blue * alpha + this.data[at + 2]! * below) / sum;
        this.data[at + 3] = sum * 255;
      }
    }
  }

  createImageData(width: number, height: number): Pixels {
    return { width, height, data: new Uint8ClampedArray(width * height * 4) };
  }

  getImageData(x: number, y: number, width: number, height: number): Pixels {
    const out = this.createImageData(width, height);
    for (let row = 0; row < height; row++) {
      const from = ((y + row) * this.width + x) * 4;
      out.data.set(this.data.subarray(from, from + width * 4), row * width * 4);
    }
    return out;
  }

  putImageData(image: Pixels, x: number, y: number): void {
    for (let row = 0; row < image.height; row++) {
      const line = image.data.subarray(row * image.width * 4, (row + 1) * image.width * 4);
      this.data.set(line, ((y + row) * this.width + x) * 4);
    }
  }
}

/** The whole pixels from `start` over `length` (which may be negative), inside 0 .. limit. */
function span(start: number, length: number, limit: number): [number, number] {
  const [low, high] = length < 0 ? [start + length, start] : [start, start + length];
  return [Math.max(0, Math.round(low)), Math.min(limit, Math.round(high))];
}

function parseColor(style: string): [number, number, number, number] {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(style);
  if (hex) return [...hex.slice(1).map((part) => Number.parseInt(part, 16)), 1] as never;
  const list = /^rgba?\(([^)]*)\)$/.exec(style)?.[1]?.split(",").map(Number);
  if (!list || list.some(Number.isNaN)) throw new Error(`canvas: unknown colour ${style}`);
  return [list[0] ?? 0, list[1] ?? 0, list[2] ?? 0, list[3] ?? 1];
}
