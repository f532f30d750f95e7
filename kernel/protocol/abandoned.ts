/** Folders of sockets whose kernel was killed, and so could not remove its own. */
import { lstat, readdir, rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";

/**
 * Removes a user's own folders in `parent` that begin with `prefix` and hold a socket `name` on which nobody listens. A
 * kernel that lives, in another container too, answers.
 */
export async function removeAbandoned(parent: string, prefix: string, name: string): Promise<void> {
  const folders = (await readdir(parent)).filter((entry) => entry.startsWith(prefix));
  for (const folder of folders.map((entry) => join(parent, entry))) {
    try {
      const found = await lstat(folder);
      if (!found.isDirectory() || found.uid !== process.getuid?.()) continue;
      if (await isDead(join(folder, name))) await rm(folder, { recursive: true });
    } catch {
      // somebody else removes it just then
    }
  }
}

function isDead(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    // Any other error, such as that it is not bound yet, says nothing of whether it will be.
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code === "ECONNREFUSED"));
  });
}
