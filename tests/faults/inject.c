// Makes one call of a program fail that changes files below a folder: a library for LD_PRELOAD.
//
// FAULT_UNDER is the folder. The call of number FAULT_AT, counted from 1, fails with FAULT_KIND: ENOSPC or EIO are its error,
// "kill" ends the process before it, "torn" after half of what was to be written. FAULT_COUNT names a file that gets the number
// of calls at the end.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { NONE, ERROR, KILL, TORN };

static char under[PATH_MAX];
static size_t under_length;
static long at;
static enum kind kind;
static int error;
static atomic_long calls;

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("FAULT_UNDER"), *number = getenv("FAULT_AT"), *what = getenv("FAULT_KIND");
  if (folder == NULL || realpath(folder, under) == NULL) return;
  under_length = strlen(under);
  at = number == NULL ? 0 : atol(number);
  if (what == NULL) return;
  if (strcmp(what, "ENOSPC") == 0) kind = ERROR, error = ENOSPC;
  if (strcmp(what, "EIO") == 0) kind = ERROR, error = EIO;
  if (strcmp(what, "kill") == 0) kind = KILL;
  if (strcmp(what, "torn") == 0) kind = TORN;
}

__attribute__((destructor)) static void end(void) {
  const char *path = getenv("FAULT_COUNT");
  FILE *file = path == NULL ? NULL : fopen(path, "w");
  if (file == NULL) return;
  fprintf(file, "%ld\n", (long)calls);
  fclose(file);
}

// Whether a path, of a file or folder that need not be there yet, is below the folder. Links are not followed.
static int is_below(int folder, const char *path) {
  char whole[2 * PATH_MAX], link[64], base[PATH_MAX];
  if (under_length == 0 || path == NULL) return 0;
  if (path[0] == '/') return strncmp(path, under, under_length) == 0;
  ssize_t length;
  if (folder == AT_FDCWD) {
    if (getcwd(base, sizeof base) == NULL) return 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if ((length = readlink(link, base, sizeof base - 1)) < 0) return 0;
    base[length] = 0;
  }
  snprintf(whole, sizeof whole, "%s/%s", base, path);
  return strncmp(whole, under, under_length) == 0;
}

static int is_open_below(int file) {
  char link[64], path[PATH_MAX];
  if (under_length == 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strncmp(path, under, under_length) == 0;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Counts a call, and says what befalls it.
static enum kind befalls(int counted) {
  if (!counted || atomic_fetch_add(&calls, 1) + 1 != at) return NONE;
  if (kind == KILL) die();
  if (kind == ERROR) errno = error;
  return kind;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// A call that returns -1 where it fails.
#define CALL(name, counted, arguments)                                                                                 \
  {                                                                                                                    \
    const enum kind befallen = befalls(counted);                                                                       \
    if (befallen == ERROR) return -1;                                                                                  \
    const __typeof__(NEXT(name) arguments) returned = NEXT(name) arguments;                                            \
    if (befallen == TORN) die();                                                                                       \
    return returned;                                                                                                   \
  }

// The same of a call that writes `count` bytes.
#define WRITE(name, file, count, half, whole)                                                                          \
  {                                                                                                                    \
    const enum kind befallen = befalls(is_open_below(file));                                                           \
    if (befallen == ERROR) return -1;                                                                                  \
    if (befallen == TORN) {                                                                                            \
      (void)!NEXT(name) half;                                                                                          \
      die();                                                                                                           \
    }                                                                                                                  \
    return NEXT(name) whole;                                                                                           \
  }

#define OPEN(name)                                                                                                     \
  int name(const char *path, int flags, ...) {                                                                         \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    const mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                    \
    va_end(rest);                                                                                                      \
    CALL(name, (flags & (O_CREAT | O_TRUNC)) != 0 && is_below(AT_FDCWD, path), (path, flags, mode))                    \
  }

#define OPENAT(name)                                                                                                   \
  int name(int folder, const char *path, int flags, ...) {                                                             \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    const mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                    \
    va_end(rest);                                                                                                      \
    CALL(name, (flags & (O_CREAT | O_TRUNC)) != 0 && is_below(folder, path), (folder, path, flags, mode))              \
  }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *from, size_t count)
  WRITE(write, file, count, (file, from, count / 2), (file, from, count))

ssize_t pwrite64(int file, const void *from, size_t count, off64_t offset)
  WRITE(pwrite64, file, count, (file, from, count / 2, offset), (file, from, count, offset))

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t count, unsigned flags)
  WRITE(copy_file_range, out, count, (in, in_at, out, out_at, count / 2, flags), (in, in_at, out, out_at, count, flags))

int fsync(int file) CALL(fsync, is_open_below(file), (file))
int fdatasync(int file) CALL(fdatasync, is_open_below(file), (file))
int ftruncate64(int file, off64_t length) CALL(ftruncate64, is_open_below(file), (file, length))
int rename(const char *from, const char *to) CALL(rename, is_below(AT_FDCWD, to), (from, to))
int mkdir(const char *path, mode_t mode) CALL(mkdir, is_below(AT_FDCWD, path), (path, mode))
int rmdir(const char *path) CALL(rmdir, is_below(AT_FDCWD, path), (path))
int unlink(const char *path) CALL(unlink, is_below(AT_FDCWD, path), (path))
int unlinkat(int folder, const char *path, int flags) CALL(unlinkat, is_below(folder, path), (folder, path, flags))
