/**
 * Comms, as the server sees them: which are open. Messages themselves go between front end and executor.
 */
export class CommRegistry {
  private readonly targets = new Map<string, string>();

  /** Takes note of a message in either direction. */
  note(type: string, content: { readonly comm_id?: unknown; readonly target_name?: unknown }): void {
    const id = String(content.comm_id);
    if (type === "comm_open") this.targets.set(id, String(content.target_name));
    else if (type === "comm_close") this.targets.delete(id);
  }

  /** The content of a comm_info_reply. */
  info(target: string | undefined): Record<string, { target_name: string }> {
    const open = [...this.targets].filter(([, name]) => target === undefined || name === target);
    return Object.fromEntries(open.map(([id, name]) => [id, { target_name: name }]));
  }

  /** Forgets all, and says which they were. */
  clear(): string[] {
    const ids = [...this.targets.keys()];
    this.targets.clear();
    return ids;
  }
}
