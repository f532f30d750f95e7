/* Preloaded: renames take as long as on a folder in an object store, and say so beforehand. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int rename(const char *from, const char *to) {
  int (*next)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
  const char *text = getenv("SLOW_RENAME_MS");
  long ms = text ? atol(text) : 0;
  struct timespec pause = {ms / 1000, (ms % 1000) * 1000000};
  fprintf(stderr, "renaming to %s\n", to);
  nanosleep(&pause, NULL);
  return next(from, to);
}
