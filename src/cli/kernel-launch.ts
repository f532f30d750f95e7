import type { KeyObject } from "node:crypto";
import { launchKernel, portsOfKernel, ResponseError } from "../../kernel/gateway/launch.js";
import { type Address, readPublicKey } from "../../kernel/gateway/response.js";
import type { PortRange } from "../../kernel/protocol/ports.js";
import { parseCommand } from "./arguments.js";
import { commands } from "./commands.js";
import { CommandFailure, UsageError } from "./errors.js";

/** What the script in a container's image gets instead of flags; Enterprise Gateway's older images have the names with EG_. */
const variables = {
  "kernel-id": ["KERNEL_ID"],
  "response-address": ["RESPONSE_ADDRESS", "EG_RESPONSE_ADDRESS"],
  "public-key": ["PUBLIC_KEY", "EG_PUBLIC_KEY"],
  "port-range": ["PORT_RANGE", "EG_PORT_RANGE"],
  "transport-encryption": ["TRANSPORT_ENCRYPTION"],
} as const;

type Flag = keyof typeof variables;

/** A value and where it came from, which errors name. */
interface Given {
  readonly text: string;
  readonly source: string;
}

/** `firstframe kernel launch`: the process becomes the kernel, and ends with it. */
export async function kernelLaunchCommand(argv: string[]): Promise<void> {
  const { values } = parseCommand("kernel launch", commands["kernel launch"], argv);
  const find = (flag: Flag): Given | undefined => {
    const text = values[flag];
    // An empty value is a gateway's way to say nothing.
    if (text) return { text, source: `--${flag}` };
    const name = variables[flag].find((variable) => process.env[variable]);
    return name === undefined ? undefined : { text: process.env[name]!, source: `$${name}` };
  };
  const need = (flag: Flag): Given => {
    const found = find(flag);
    if (found === undefined)
      throw new UsageError(`--${flag} ${commands["kernel launch"].options[flag].value} is missing`, {
        hint: "a gateway starts this command with it; on this machine, `firstframe kernel install` is all that Jupyter needs",
      });
    // Jupyter leaves what it can't fill in as it is.
    if (/^\{\w+\}$/.test(found.text))
      throw new UsageError(`${found.source}: found ${found.text}, which a gateway was to fill in`, {
        hint: "this kernelspec is for Enterprise Gateway or Gateway Provisioners, and something else started it",
      });
    return found;
  };
  const kernelId = need("kernel-id").text;
  const response = need("response-address");
  const address = responseAddress(response);
  const publicKey = rsaKey(need("public-key"));
  const ports = portRange(find("port-range"));
  const encrypted = isEncrypted(find("transport-encryption"));
  try {
    await launchKernel({ kernelId, response: address, publicKey, ports, encrypted });
  } catch (error) {
    if (error instanceof ResponseError)
      throw new CommandFailure(
        `${response.source} ${response.text}: the gateway can't be told: ${error.message}`,
      );
    throw new CommandFailure(`the kernel can't start: ${(error as Error).message}`);
  }
}

function responseAddress({ text, source }: Given): Address {
  const [, host, digits] = /^(\S+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === undefined || port < 1 || port > 65535)
    throw new UsageError(`${source}: expected HOST:PORT, found ${JSON.stringify(text)}`);
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port };
}

function rsaKey({ text, source }: Given): KeyObject {
  try {
    return readPublicKey(text);
  } catch (error) {
    throw new UsageError(`${source}: ${(error as Error).message}`);
  }
}

function portRange(given: Given | undefined): PortRange | undefined {
  if (given === undefined) return undefined;
  const { text, source } = given;
  const [, low, high] = /^(\d{1,5})\.\.(\d{1,5})$/.exec(text) ?? [];
  const [lower, upper] = [Number(low), Number(high)];
  if (lower === 0 && upper === 0) return undefined;
  if (lower >= 1024 && upper <= 65535 && upper - lower + 1 >= portsOfKernel) return { lower, upper };
  throw new UsageError(
    `${source}: expected LOWER..UPPER from 1024 to 65535 with room for ${portsOfKernel} ports, or 0..0, found ${JSON.stringify(text)}`,
  );
}

function isEncrypted(given: Given | undefined): boolean {
  // Gateways that know no encryption leave the placeholder.
  if (given === undefined || /^\{\w+\}$/.test(given.text)) return false;
  const policy = given.text.toLowerCase();
  if (policy === "auto" || policy === "required") return true;
  if (policy === "disabled") return false;
  throw new UsageError(
    `${given.source}: expected auto, required or disabled, found ${JSON.stringify(given.text)}`,
  );
}
