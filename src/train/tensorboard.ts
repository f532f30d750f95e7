/**
 * TensorBoard's event files: TFRecords of `Event` messages (tensorflow/core/util/event.proto and
 * framework/summary.proto). TensorFlow.js has a writer for its TensorFlow engines and scalars only; this one works on
 * every engine and writes pictures too.
 */
import { type FileHandle, mkdir, open, readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { crc32c } from "@aws-crypto/crc32c";
import { PbfWriter } from "pbf";

/** Field numbers of the messages. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
const SESSION_LOG = { status: 1 } as const;
const SESSION_START = 1;
const SUMMARY = { value: 1 } as const;
const VALUE = { tag: 1, simpleValue: 2, image: 4, tensor: 8, metadata: 9 } as const;
const IMAGE = { height: 1, width: 2, colorspace: 3, encoded: 4 } as const;
const RGB = 3;
const TENSOR = { dtype: 1, shape: 2, string: 8 } as const;
const DT_STRING = 7;
const SHAPE = { dim: 2 } as const;
const DIM = { size: 1 } as const;
const METADATA = { pluginData: 1 } as const;
const PLUGIN = { name: 1 } as const;

type Fields = (message: PbfWriter) => void;

/** Appends events to a file of its own, as `torch.utils.tensorboard.SummaryWriter` does. */
export class SummaryWriter {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #now: () => number;
  #last: Promise<void> = Promise.resolve();

  private constructor(path: string, handle: FileHandle, now: () => number) {
    this.path = path;
    this.#handle = handle;
    this.#now = now;
  }

  /**
   * Starts an event file in `logDir`.
   *
   * @param options.purgeStep a resumed run's first step: TensorBoard drops what earlier files say about it and later ones.
   */
  static async create(
    logDir: string,
    { purgeStep, now = () => Date.now() / 1000 }: { purgeStep?: number; now?: () => number } = {},
  ): Promise<SummaryWriter> {
    await mkdir(logDir, { recursive: true });
    // TensorBoard reads files in the order of their names, so they must ascend even if the clock was set back.
    const earlier = (await readdir(logDir)).map((file) =>
      Number(/^events\.out\.tfevents\.(\d+)\./.exec(file)?.[1] ?? 0),
    );
    const time = earlier.reduce((latest, each) => Math.max(latest, each), Math.floor(now()));
    const name = `events.out.tfevents.${time}.${hostname()}.${process.pid}`;
    let path = join(logDir, `${name}.0`);
    let handle: FileHandle | undefined;
    for (let i = 1; handle === undefined; i++) {
      handle = await open(path, "ax").catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
        path = join(logDir, `${name}.${i}`);
        return undefined;
      });
    }
    const writer = new SummaryWriter(path, handle, now);
    await writer.#event((event) => event.writeStringField(EVENT.fileVersion, "brain.Event:2"));
    if (purgeStep !== undefined) {
      await writer.#event((event) => {
        event.writeVarintField(EVENT.step, purgeStep);
        message(event, EVENT.sessionLog, (log) => log.writeVarintField(SESSION_LOG.status, SESSION_START));
      });
    }
    return writer;
  }

  /** One number under a tag. */
  addScalar(tag: string, value: number, step: number): Promise<void> {
    return this.addScalars({ [tag]: value }, step);
  }

  /** Several numbers of one step, in one event. */
  async addScalars(values: Readonly<Record<string, number>>, step: number): Promise<void> {
    const all = Object.entries(values);
    if (all.length === 0) return;
    await this.#summary(
      step,
      ([tag, value], field) => {
        field.writeStringField(VALUE.tag, tag);
        field.writeFloatField(VALUE.simpleValue, value);
      },
      all,
    );
  }

  /** A PNG, GIF or JPEG picture; an animated GIF moves in TensorBoard. */
  async addImage(
    tag: string,
    encoded: Uint8Array,
    { width, height }: { readonly width: number; readonly height: number },
    step: number,
  ): Promise<void> {
    await this.#summary(
      step,
      (name, field) => {
        field.writeStringField(VALUE.tag, name);
        message(field, VALUE.image, (image) => {
          image.writeVarintField(IMAGE.height, height);
          image.writeVarintField(IMAGE.width, width);
          image.writeVarintField(IMAGE.colorspace, RGB);
          image.writeBytesField(IMAGE.encoded, encoded);
        });
      },
      [tag],
    );
  }

  /** Text, which TensorBoard reads as Markdown. */
  async addText(tag: string, text: string, step: number): Promise<void> {
    await this.#summary(
      step,
      (name, field) => {
        field.writeStringField(VALUE.tag, `${name}/text_summary`);
        message(field, VALUE.tensor, (tensor) => {
          tensor.writeVarintField(TENSOR.dtype, DT_STRING);
          message(tensor, TENSOR.shape, (shape) => {
            message(shape, SHAPE.dim, (dim) => dim.writeVarintField(DIM.size, 1));
          });
          tensor.writeBytesField(TENSOR.string, new TextEncoder().encode(text));
        });
        message(field, VALUE.metadata, (metadata) => {
          message(metadata, METADATA.pluginData, (plugin) => plugin.writeStringField(PLUGIN.name, "text"));
        });
      },
      [tag],
    );
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#handle.close();
  }

  #summary<T>(
    step: number,
    write: (entry: T, field: PbfWriter) => void,
    entries: readonly T[],
  ): Promise<void> {
    return this.#event((event) => {
      event.writeVarintField(EVENT.step, step);
      message(event, EVENT.summary, (summary) => {
        for (const entry of entries) message(summary, SUMMARY.value, (field) => write(entry, field));
      });
    });
  }

  /** Writes events one after another, each whole. */
  #event(fields: Fields): Promise<void> {
    const event = new PbfWriter();
    event.writeDoubleField(EVENT.wallTime, this.#now());
    fields(event);
    const bytes = record(event.finish());
    this.#last = this.#last.then(() => this.#handle.appendFile(bytes));
    return this.#last;
  }
}

function message(parent: PbfWriter, tag: number, fields: Fields): void {
  parent.writeMessage(tag, (_: undefined, child: PbfWriter) => fields(child), undefined);
}

/** A TFRecord: length, its checksum, data, its checksum. */
function record(data: Uint8Array): Buffer {
  const out = Buffer.alloc(data.length + 16);
  out.writeBigUInt64LE(BigInt(data.length), 0);
  out.writeUInt32LE(maskedCrc(out.subarray(0, 8)), 8);
  out.set(data, 12);
  out.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return out;
}

/** TensorFlow's masking of CRC-32C, so that checksums of data that contains checksums stay useful. */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data) >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
