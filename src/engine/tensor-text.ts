/**
 * A tensor's values as text, as PyTorch prints them with the defaults of `torch.set_printoptions`. For minimum, maximum,
 * mean and spread there is `summary(x)`.
 */

/** Digits after the point. */
const PRECISION = 4;
/** Tensors with more values than this are printed in part. */
const THRESHOLD = 1000;
/** How many values then remain at either end of each axis. */
const EDGE_ITEMS = 3;
const LINE_WIDTH = 80;
/** What the values are printed after; wrapped lines align with their bracket. */
const HEAD = "tensor(";

/** The values that {@link tensorText} prints. */
export interface PrintedValues {
  /** The whole tensor's. */
  readonly shape: readonly number[];
  readonly dtype: string;
  /** In row-major order, as many as {@link printedShape} says; pairs of real and imaginary parts for complex64. */
  readonly values: ArrayLike<number | string>;
}

/** The shape of what is printed of a tensor: its own, or with {@link EDGE_ITEMS} at both ends of each longer axis. */
export function printedShape(shape: readonly number[]): number[] {
  const whole = shape.reduce((product, n) => product * n, 1) <= THRESHOLD;
  return shape.map((n) => (whole ? n : Math.min(n, 2 * EDGE_ITEMS)));
}

/**
 * `tensor([[1., 2.], [3., 4.]])`. As in PyTorch, int32 and string are named, float32 and bool are not. Unlike PyTorch,
 * a tensor that is printed in part shows its shape.
 *
 * @param requiresGrad adds PyTorch's word for what an optimizer trains
 */
export function tensorText({ shape, dtype, values }: PrintedValues, requiresGrad = false): string {
  const printed = printedShape(shape);
  const suffixes: string[] = [];
  let body = "[]";
  if (shape.includes(0)) {
    if (shape.length !== 1) suffixes.push(`size=(${shape.join(", ")})`);
    if (dtype !== "float32") suffixes.push(`dtype=${dtype}`);
  } else {
    const { width, texts } = cells(values, dtype);
    body = nested(texts, width, shape, printed);
    if (printed.some((n, axis) => n < shape[axis]!)) suffixes.push(`shape=[${shape.join(", ")}]`);
    if (dtype === "int32" || dtype === "string") suffixes.push(`dtype=${dtype}`);
  }
  if (requiresGrad) suffixes.push("requires_grad=True");
  return closed(HEAD + body, suffixes);
}

/** The text so far with what follows the values, on the same line if there is room. */
function closed(text: string, suffixes: readonly string[]): string {
  let used = text.length - text.lastIndexOf("\n") + 1;
  let whole = text;
  for (const suffix of suffixes) {
    if (used + suffix.length + 2 > LINE_WIDTH) {
      whole += `,\n${" ".repeat(HEAD.length)}${suffix}`;
      used = HEAD.length + suffix.length;
    } else {
      whole += `, ${suffix}`;
      used += suffix.length + 2;
    }
  }
  return `${whole})`;
}

/** Brackets, commas and line breaks around the values' texts. */
function nested(
  texts: readonly string[],
  width: number,
  shape: readonly number[],
  printed: readonly number[],
): string {
  const last = shape.length - 1;
  const steps = printed.map((_, axis) => printed.slice(axis + 1).reduce((product, n) => product * n, 1));
  const list = (axis: number, from: number, indent: number): string => {
    if (axis > last) return texts[from]!;
    const items = Array.from({ length: printed[axis]! }, (_, i) =>
      list(axis + 1, from + i * steps[axis]!, indent + 1),
    );
    if (printed[axis]! < shape[axis]!) items.splice(EDGE_ITEMS, 0, axis === last ? " ..." : "...");
    const below = " ".repeat(indent + 1);
    if (axis < last) return `[${items.join(`,${"\n".repeat(last - axis)}${below}`)}]`;
    const inLine = Math.max(1, Math.floor((LINE_WIDTH - indent) / (width + 2)));
    const lines: string[] = [];
    for (let i = 0; i < items.length; i += inLine) lines.push(items.slice(i, i + inLine).join(", "));
    return `[${lines.join(`,\n${below}`)}]`;
  };
  return list(0, 0, HEAD.length);
}

/** Each value's text, and the width they are aligned to. */
interface Cells {
  readonly width: number;
  readonly texts: readonly string[];
}

function cells(values: ArrayLike<number | string>, dtype: string): Cells {
  if (dtype === "complex64") return complexCells(values as ArrayLike<number>);
  if (dtype === "float32") return floatCells(values as ArrayLike<number>);
  const word = (value: number | string): string => {
    if (typeof value === "string") return JSON.stringify(value);
    if (dtype === "bool") return value ? "True" : "False";
    return String(value);
  };
  const texts = Array.from(values, word);
  const width = texts.reduce((most, text) => Math.max(most, text.length), 0);
  return { width, texts: texts.map((text) => text.padStart(width)) };
}

function complexCells(values: ArrayLike<number>): Cells {
  const part = (which: number) =>
    floatCells(Float32Array.from({ length: values.length / 2 }, (_, i) => values[2 * i + which]!));
  const [real, imaginary] = [part(0), part(1)];
  const texts = real.texts.map((text, i) => {
    const below = `${imaginary.texts[i]!.trimStart()}j`;
    return `${text}${below.startsWith("-") ? "" : "+"}${below}`;
  });
  return { width: real.width + imaginary.width + 1, texts };
}

/** A bare point if all values are whole, powers of ten if they are far apart, with PyTorch's bounds. */
function floatCells(values: ArrayLike<number>): Cells {
  // Only finite values other than zero count, for the width as well.
  const counts = (value: number) => Number.isFinite(value) && value !== 0;
  let [least, most, whole] = [Number.POSITIVE_INFINITY, 0, true];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!counts(value)) continue;
    least = Math.min(least, Math.abs(value));
    most = Math.max(most, Math.abs(value));
    whole &&= Number.isInteger(value);
  }
  const scientific = most > 0 && (most / least > 1000 || most > 1e8 || (!whole && least < 1e-4));
  const write = (value: number): string => {
    if (Number.isNaN(value)) return "nan";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    const sign = value < 0 || Object.is(value, -0) ? "-" : "";
    const size = Math.abs(value);
    if (scientific) return sign + scientificText(size);
    return sign + (whole ? `${size.toFixed(0)}.` : fixedText(size));
  };
  const texts = Array.from(values, write);
  const width = texts.reduce(
    (longest, { length }, i) => (counts(values[i]!) ? Math.max(longest, length) : longest),
    1,
  );
  return { width, texts: texts.map((text) => text.padStart(width)) };
}

/** Python's `f"{value:.4f}"`, for a value that is not negative. */
function fixedText(value: number): string {
  const kept = value.toFixed(PRECISION);
  return evenAtTie(kept.length, (digits) => value.toFixed(digits)) ?? kept;
}

/** Python's `f"{value:.4e}"`, for a value that is not negative: the exponent has at least two digits. */
function scientificText(value: number): string {
  const split = (digits: number) => value.toExponential(digits).split("e") as [string, string];
  const [kept, power] = split(PRECISION);
  const even = evenAtTie(kept.length, (digits) => split(digits)[0]);
  // A tie that is not rounded up does not carry into the exponent.
  const exponent = Number(even === undefined ? power : split(MANY)[1]);
  return `${even ?? kept}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** Digits that quickly rule out most ties, and all that JavaScript gives, which take longer. */
const [SOME, MANY] = [12, 100];

/**
 * Python rounds a tie to the even digit, JavaScript rounds it up. The text if the two differ, else undefined.
 *
 * @param length of the text with the digits that are kept
 */
function evenAtTie(length: number, write: (digits: number) => string): string | undefined {
  const isTie = (digits: number) => /^50*$/.test(write(digits).slice(length));
  if (!isTie(SOME) || !isTie(MANY)) return undefined;
  const kept = write(MANY).slice(0, length);
  return Number(kept.at(-1)) % 2 === 0 ? kept : undefined;
}
