/**
 * How a kernel tells a gateway where it is: the connection info as JSON, under an AES key of its own, and that under the
 * gateway's RSA key. Enterprise Gateway calls this form version 1; Gateway Provisioners have the same.
 */
import {
  constants,
  createCipheriv,
  createPublicKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import { connect } from "node:net";

const version = 1;
/** As long as a gateway waits for a kernel by default. */
const patienceMs = 30_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads the key that a gateway hands to launchers: a public RSA key in DER form as base64, which is PEM without its first and last
 * line; PEM as a whole is taken, too.
 * @throws Error saying what is wrong with it
 */
export function readPublicKey(text: string): KeyObject {
  let key: KeyObject;
  try {
    key = text.startsWith("-----BEGIN")
      ? createPublicKey(text)
      : createPublicKey({ key: Buffer.from(text, "base64"), format: "der", type: "spki" });
  } catch (error) {
    throw new Error(`not a public key in DER form as base64 (${(error as Error).message})`);
  }
  if (key.asymmetricKeyType !== "rsa") throw new Error(`expected an RSA key, found ${key.asymmetricKeyType}`);
  return key;
}

/** What only the owner of the private key can read. */
export function seal(info: object, key: KeyObject): string {
  const secret = randomBytes(16);
  const cipher = createCipheriv("aes-128-ecb", secret, null);
  const hidden = Buffer.concat([cipher.update(JSON.stringify(info)), cipher.final()]);
  const wrapped = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, secret);
  const payload = { version, key: wrapped.toString("base64"), conn_info: hidden.toString("base64") };
  return Buffer.from(JSON.stringify(payload)).toString("base64");
}

/** Sends a text over a connection of its own, the end of which is the text's. @throws Error from the system, or after 30 s. */
export function sendResponse({ host, port }: Address, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.setTimeout(patienceMs, () => socket.destroy(new Error(`no answer in ${patienceMs / 1000} s`)));
    socket.on("error", reject);
    socket.on("close", (failed) => {
      if (!failed) resolve();
    });
    socket.resume();
    socket.end(text);
  });
}
