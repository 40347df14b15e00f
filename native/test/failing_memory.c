/* Memory that runs out: the N-th allocation after the program has said so fails, and those after it do not. Put in front of a
   program by LD_PRELOAD; counts malloc, calloc, realloc, posix_memalign, aligned_alloc and mmap.

   fail_from(n) arms it: 0 counts only. failed() says how many were counted since, and whether one failed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

static _Thread_local long counted = -1;
static _Thread_local long target = 0;
static _Thread_local int was_failed = 0;

void fail_from(long n) {
  target = n;
  was_failed = 0;
  counted = 0;
}

long allocations(int* failed) {
  const long seen = counted;
  counted = -1;
  *failed = was_failed;
  return seen;
}

static int fails(void) {
  if (counted < 0 || ++counted != target) {
    return 0;
  }
  was_failed = 1;
  errno = ENOMEM;
  return 1;
}

/* What dlsym itself allocates before the real functions are known. */
static char early[65536];
static size_t early_used;

static void* early_room(size_t size) {
  void* const at = early + early_used;
  early_used += (size + 15) / 16 * 16;
  return early_used <= sizeof early ? at : NULL;
}

#define REAL(result, name, ...)                                   \
  static result (*real)(__VA_ARGS__);                             \
  static int looking;                                             \
  if (real == NULL && !looking) {                                 \
    looking = 1;                                                  \
    real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);       \
    looking = 0;                                                  \
  }

void* malloc(size_t size) {
  REAL(void*, malloc, size_t)
  return real == NULL ? early_room(size) : fails() ? NULL : real(size);
}

void* calloc(size_t count, size_t size) {
  REAL(void*, calloc, size_t, size_t)
  return real == NULL ? early_room(count * size) : fails() ? NULL : real(count, size);
}

void* realloc(void* at, size_t size) {
  REAL(void*, realloc, void*, size_t)
  return fails() ? NULL : real(at, size);
}

int posix_memalign(void** at, size_t alignment, size_t size) {
  REAL(int, posix_memalign, void**, size_t, size_t)
  return fails() ? ENOMEM : real(at, alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  REAL(void*, aligned_alloc, size_t, size_t)
  return fails() ? NULL : real(alignment, size);
}

void free(void* at) {
  REAL(void, free, void*)
  if ((char*)at < early || (char*)at >= early + sizeof early) {
    real(at);
  }
}

void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  REAL(void*, mmap, void*, size_t, int, int, int, off_t)
  return fails() ? MAP_FAILED : real(address, length, protection, flags, fd, offset);
}
