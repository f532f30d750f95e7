/** The part of the kernel's global `comms` that is used here. */
export interface Comms {
  open(targetName: string, data: unknown, extras: CommExtras & { readonly id: string }): Comm;
  registerTarget(name: string, onOpen: (comm: Comm, message: CommMessage) => unknown): void;
}

export interface Comm {
  readonly isOpen: boolean;
  send(data: unknown, extras?: CommExtras): void;
  close(): void;
  onMessage(handler: (message: CommMessage) => unknown): unknown;
  onClose(handler: () => unknown): unknown;
}

export interface CommExtras {
  readonly metadata?: Record<string, unknown>;
  readonly buffers?: readonly Uint8Array[];
}

export interface CommMessage {
  readonly data: unknown;
  readonly buffers: readonly Uint8Array[];
}

/** The kernel's comms; undefined outside of notebooks. */
export function kernelComms(): Comms | undefined {
  return (globalThis as { comms?: Comms }).comms;
}
