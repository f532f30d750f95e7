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
 * For the kernel's server, through which large output goes: it gives large blocks back at once. glibc would raise the limit by itself, up
 * to 32 MiB, and keep what lies below.
 */
export const serverAllocatorSettings = {
  MALLOC_MMAP_THRESHOLD_: "65536",
  /** Setting one of them sets all, and glibc's own for these two make a start slower. */
  MALLOC_TRIM_THRESHOLD_: "524288",
  MALLOC_TOP_PAD_: "262144",
} as const;

/** An environment without settings that we made; other values than these are the user's own, and stay. */
function without(env: NodeJS.ProcessEnv, settings: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => settings[name] !== value));
}

/** The environment of a kernel's server, which kernelspecs add to: this process may be one that computes. */
export function serverEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return without(env, allocatorSettings);
}

/** The environment of the process that runs cells. The user's own settings win. */
export function executorEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const given = without(env, serverAllocatorSettings);
  for (const [name, value] of Object.entries(allocatorSettings)) given[name] ||= value;
  return given;
}
