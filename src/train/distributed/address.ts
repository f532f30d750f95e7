export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Of `HOST:PORT`, where an IPv6 address has brackets; undefined for anything else. */
export function parseAddress(address: string): Address | undefined {
  const [, bracketed, plain, digits] =
    /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(address) ?? [];
  const port = Number(digits);
  const host = bracketed ?? plain;
  return host === undefined || !(port >= 1 && port <= 65_535) ? undefined : { host, port };
}
