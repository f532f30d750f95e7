import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Tensor } from "../engine/tf.js";
import { writeAtomically } from "../files/atomic.js";
import type { Model } from "../nn/module.js";
import { readJsonObject } from "../weights/config.js";

/** The SHA-256 of a JSON value, its keys in the order given. */
export function fingerprint(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

/** The SHA-256 of a model's configuration and weights, whatever files they came from. */
export async function fingerprintModel(model: Model & { readonly config: object }): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(model.config));
  for (const [name, parameter] of model.parameters) {
    const values = await parameter.values();
    hash.update(name).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest("hex");
}

/** A JSON value's text with all keys sorted, so that their order makes no difference. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/**
 * Identifies a component's folder of a pipeline by its content, wherever it lies: configurations by their values, without those
 * that only say where they come from (`_diffusers_version`), weights and vocabularies by their bytes, and nothing else.
 */
export async function fingerprintComponent(folder: string, memoDir: string): Promise<string> {
  const parts: [string, string][] = [];
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    if (name.endsWith(".json")) {
      const entries = Object.entries(await readJsonObject(path)).filter(([key]) => !key.startsWith("_"));
      parts.push([name, canonicalJson(Object.fromEntries(entries))]);
    } else if (/\.(safetensors|bin|model|txt)$/.test(name)) {
      parts.push([name, await fingerprintContent(path, memoDir)]);
    }
  }
  return fingerprint(parts);
}

/** The SHA-256 of a tensor's shape and values. */
export async function fingerprintTensor(tensor: Tensor): Promise<string> {
  const values = await tensor.data();
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash("sha256").update(JSON.stringify(tensor.shape)).update(bytes).digest("hex");
}

interface ContentRecord {
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  readonly sha256: string;
}

/**
 * The SHA-256 of a file's bytes, or of all files in a folder. Hashes are kept in `memoDir` and used again as long as a file's
 * size and modification time stay the same.
 */
export async function fingerprintContent(path: string, memoDir: string): Promise<string> {
  const info = await stat(path);
  if (info.isDirectory()) {
    const names = (await readdir(path)).sort();
    const parts: [string, string][] = [];
    for (const name of names) parts.push([name, await fingerprintContent(join(path, name), memoDir)]);
    return fingerprint(parts);
  }
  const memo = join(memoDir, `${fingerprint(path).slice(0, 32)}.json`);
  const known = await readRecord(memo);
  if (known?.path === path && known.size === info.size && known.mtimeMs === info.mtimeMs) return known.sha256;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  const record: ContentRecord = { path, size: info.size, mtimeMs: info.mtimeMs, sha256: hash.digest("hex") };
  await mkdir(memoDir, { recursive: true });
  const text = JSON.stringify({ ...record, check: fingerprint(record) });
  await writeAtomically(memo, (handle) => handle.writeFile(text));
  return record.sha256;
}

async function readRecord(path: string): Promise<ContentRecord | undefined> {
  try {
    const { check, ...record } = JSON.parse(await readFile(path, "utf8")) as ContentRecord & {
      check: string;
    };
    return check === fingerprint(record) ? record : undefined;
  } catch {
    return undefined; // not there, or damaged: computed again
  }
}
