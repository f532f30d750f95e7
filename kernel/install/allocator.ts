/**
 * Settings of glibc's allocator for processes that compute on tensors. By default it maps fresh pages for every
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
