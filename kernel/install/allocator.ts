/**
 * Settings of glibc's allocator for processes that compute on tensors: the one that runs cells. By default it maps fresh pages for every
 * large block and gives them back when the block is freed, so that each tensor pays for its page faults. They have
 * to be in the environment before a process starts. Other allocators ignore them.
 */
export const allocatorSettings = {
  /** Never map a block by itself: it comes from the heap, which stays. */
  MALLOC_MMAP_MAX_: "0",
  /** Keep free memory up to 16 GiB. */
  MALLOC_TRIM_THRESHOLD_: "17179869184",
  /** Grow the heap by 64 MiB at a time; untouched pages cost nothing. */
  MALLOC_TOP_PAD_: "67108864",
} as const;

/**
 * The opposite, for the kernel's server, through which large output goes: it gives every large block back at once. glibc would raise
 * the limit (128 KiB) by itself, and keep what lies below.
 */
export const serverAllocatorSettings = { MALLOC_MMAP_THRESHOLD_: "131072" } as const;

/**
 * An environment without them, for a process that computes nothing: memory that it has had once would stay with it.
 * Other values than these are the user's own, and stay.
 */
export function withoutAllocatorSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const ours = new Map<string, string>(Object.entries(allocatorSettings));
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => ours.get(name) !== value));
}
