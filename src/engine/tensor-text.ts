/**
 * A tensor's values as text, as PyTorch prints them with the defaults of `torch.set_printoptions`. Minimum, maximum, mean
 * and spread are what `summary(x)` is for.
 */

/** Digits after the point. */
const PRECISION = 4;
/** Tensors of more values are printed in part. */
const THRESHOLD = 1000;
/** So many at either end of each axis then. */
const EDGE_ITEMS = 3;
const LINE_WIDTH = 80;
/** What the values are printed after; what wraps stands below their bracket. */
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
 * `tensor([[1., 2.], [3., 4.]])`. As in PyTorch, float32 and bool are not named, int32 and string are; what is printed in
 * part has its shape beside it, which PyTorch leaves out.
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

/** The text so far with what follows the values, on the same line where there is room. */
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
function cells(values: ArrayLike<number | string>, dtype: string): { width: number; texts: string[] } {
  if (dtype === "complex64") return complexCells(values as ArrayLike<number>);
  if (dtype === "float32") {
    const format = floatFormat(values as ArrayLike<number>);
    return { width: format.width, texts: Array.from(values as ArrayLike<number>, format.text) };
  }
  const word = (value: number | string) =>
    typeof value === "string"
      ? JSON.stringify(value)
      : dtype === "bool"
        ? value
          ? "True"
          : "False"
        : `${value}`;
  const texts = Array.from(values, word);
  const width = texts.reduce((most, text) => Math.max(most, text.length), 0);
  return { width, texts: texts.map((text) => text.padStart(width)) };
}

function complexCells(values: ArrayLike<number>): { width: number; texts: string[] } {
  const part = (which: number) =>
    Float32Array.from({ length: values.length / 2 }, (_, i) => values[2 * i + which]!);
  const [real, imaginary] = [part(0), part(1)];
  const [left, right] = [floatFormat(real), floatFormat(imaginary)];
  const texts = Array.from(real, (value, i) => {
    const below = `${right.text(imaginary[i]!).trimStart()}j`;
    return `${left.text(value)}${below.startsWith("-") ? "" : "+"}${below}`;
  });
  return { width: left.width + right.width + 1, texts };
}

interface FloatFormat {
  /** Of the finite values but zero: nothing else counts. */
  readonly width: number;
  readonly text: (value: number) => string;
}

/** How all of the values are written: with a point alone where all are whole, in powers of ten where they are far apart. */
function floatFormat(values: ArrayLike<number>): FloatFormat {
  const counted = Array.from(values).filter((value) => Number.isFinite(value) && value !== 0);
  let [least, most] = [Number.POSITIVE_INFINITY, 0];
  for (const value of counted) {
    least = Math.min(least, Math.abs(value));
    most = Math.max(most, Math.abs(value));
  }
  const whole = counted.every(Number.isInteger);
  const scientific = counted.length > 0 && (most / least > 1000 || most > 1e8 || (!whole && least < 1e-4));
  const write = (value: number): string => {
    if (Number.isNaN(value)) return "nan";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    if (scientific) return scientificText(value);
    return whole ? `${signOf(value)}${Math.abs(value).toFixed(0)}.` : fixedText(value);
  };
  const width = counted.reduce((longest, value) => Math.max(longest, write(value).length), 1);
  return { width, text: (value) => write(value).padStart(width) };
}

const signOf = (value: number): string => (value < 0 || Object.is(value, -0) ? "-" : "");

/** Python's `f"{value:.4f}"`. */
function fixedText(value: number): string {
  const [kept, rest] = [Math.abs(value).toFixed(PRECISION), Math.abs(value).toFixed(100)];
  return signOf(value) + (roundedUpFromEven(rest.slice(0, kept.length), rest.slice(kept.length)) ?? kept);
}

/** Python's `f"{value:.4e}"`: two digits of the exponent at least. */
function scientificText(value: number): string {
  const [mantissa, exponent] = parts(Math.abs(value).toExponential(PRECISION));
  const [rest, exactExponent] = parts(Math.abs(value).toExponential(100));
  const even = roundedUpFromEven(rest.slice(0, mantissa.length), rest.slice(mantissa.length));
  const power = even === undefined ? exponent : exactExponent;
  return `${signOf(value)}${even ?? mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

function parts(text: string): [mantissa: string, exponent: number] {
  const [mantissa, exponent] = text.split("e");
  return [mantissa!, Number(exponent)];
}

/** Python rounds a tie to the even digit, JavaScript away from zero: the digits to keep where they differ. */
function roundedUpFromEven(kept: string, rest: string): string | undefined {
  return /^50*$/.test(rest) && Number(kept.at(-1)) % 2 === 0 ? kept : undefined;
}
