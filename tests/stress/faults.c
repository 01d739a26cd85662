/* A library for LD_PRELOAD that stands between a program and its file system. It counts the operations that
 * change something below one folder, and at the Nth it kills the process, or lets it and all later ones fail;
 * and it can keep a log of them all. What it does is said by variables of the environment, which faults_arm()
 * reads again:
 *
 *   FAULTS_BELOW   the folder, an absolute path; nothing happens without it
 *   FAULTS_AT      N, counted from 1; 0 is never
 *   FAULTS_DO      before | within | after: kill the process there (within a write: half of it is done), or
 *                  an errno's number: from the Nth on, every operation that it concerns fails with it
 *   FAULTS_LOG     a file, to which a record per operation is appended (see tests/stress/oplog.py)
 *   FAULTS_COUNT   a file, whose first 8 bytes always hold the number of operations so far
 *
 * One operation is done at a time, so that their order in the log is the one in which they happened.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH 4096
enum moment { NEVER, BEFORE, WITHIN, AFTER, FAIL };

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char below[PATH];
static long at;
static enum moment moment;
static int failure;
static int log_file = -1;
static int64_t own_count, *count = &own_count;

/* The number that the next operation gets is 1 again. */
void faults_arm(void) {
  const char *folder = getenv("FAULTS_BELOW"), *number = getenv("FAULTS_AT"), *what = getenv("FAULTS_DO");
  const char *log = getenv("FAULTS_LOG"), *counter = getenv("FAULTS_COUNT");
  pthread_mutexattr_t kind;
  pthread_mutexattr_init(&kind);
  pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&lock, &kind); /* after a fork, another thread may have held it */
  snprintf(below, sizeof below, "%s", folder ? folder : "");
  at = number ? atol(number) : 0;
  moment = !what ? NEVER : !strcmp(what, "before") ? BEFORE : !strcmp(what, "within") ? WITHIN
           : !strcmp(what, "after") ? AFTER : FAIL;
  failure = moment == FAIL ? atoi(what) : 0;
  log_file = log ? syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  count = &own_count;
  if (counter) {
    int file = syscall(SYS_openat, AT_FDCWD, counter, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0 && !syscall(SYS_ftruncate, file, 8)) {
      void *shared = mmap(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      if (shared != MAP_FAILED) count = shared;
    }
    if (file >= 0) syscall(SYS_close, file);
  }
  *count = 0;
}

__attribute__((constructor)) static void at_start(void) { faults_arm(); }

static void kill_now(void) {
  syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
  for (;;) pause();
}

static int is_below(const char *path) {
  size_t n = strlen(below);
  return n && path && !strncmp(path, below, n) && (!path[n] || path[n] == '/');
}

/* An absolute path, by a folder's descriptor and a path that may be relative to it. */
static const char *resolve(int folder, const char *path, char *out) {
  char link[64], base[PATH];
  ssize_t n;
  if (!path) { out[0] = 0; return out; }
  if (path[0] == '/') { snprintf(out, PATH, "%s", path); return out; }
  if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
  else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  n = readlink(link, base, sizeof base - 1);
  base[n < 0 ? 0 : n] = 0;
  snprintf(out, PATH, "%s/%s", base, path);
  return out;
}

static const char *of_descriptor(int file, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t n = readlink(link, out, PATH - 1);
  out[n < 0 ? 0 : n] = 0;
  return out;
}

/* What an errno concerns: a full disk takes nothing new, a read-only one no change, a broken one nothing. */
enum kind { CREATE, DATA, CHANGE, FLUSH, READ };

static int concerns(enum kind kind) {
  if (failure == ENOSPC || failure == EDQUOT) return kind == CREATE || kind == DATA;
  if (failure == EROFS) return kind != READ && kind != FLUSH;
  return 1;
}

/* Count an operation, with the lock held; whether it has to fail. */
static int begin(enum kind kind) {
  int64_t now = kind == READ ? *count : ++*count;
  if (kind != READ && now == at && moment == BEFORE) kill_now();
  if (at && now >= at && moment == FAIL && concerns(kind)) { errno = failure; return -1; }
  return 0;
}

static int is_now(enum moment when) { return *count == at && moment == when; }

struct record { char op[8]; int64_t node, offset, flags; int32_t a, b, data; int32_t failed; };

static int64_t node_of(int file) {
  struct stat status;
  return fstat(file, &status) ? 0 : (int64_t)status.st_ino;
}

static int64_t node_at(const char *path) {
  struct stat status;
  return lstat(path, &status) ? 0 : (int64_t)status.st_ino;
}

/* Log an operation that is done, and kill the process if it is the time to. */
static void end(const char *op, const char *a, const char *b, int64_t node, int64_t offset, int64_t flags,
                const void *data, ssize_t size, int failed) {
  int error = errno;
  if (log_file >= 0) {
    struct record r = {{0}, node, offset, flags, strlen(a), strlen(b), size > 0 ? size : 0, failed};
    strncpy(r.op, op, sizeof r.op);
    struct iovec parts[] = {{&r, sizeof r}, {(void *)a, r.a}, {(void *)b, r.b}, {(void *)data, r.data}};
    syscall(SYS_writev, log_file, parts, 4);
  }
  if (is_now(AFTER) || is_now(WITHIN)) kill_now();
  errno = error;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);
#define ENTER pthread_mutex_lock(&lock)
#define LEAVE pthread_mutex_unlock(&lock)

/* open, in all its forms */
static int opened(int (*real)(int, const char *, int, mode_t), int folder, const char *name, int flags, mode_t mode) {
  char path[PATH];
  if (!below[0] || !is_below(resolve(folder, name, path))) return real(folder, name, flags, mode);
  int changes = flags & (O_CREAT | O_TRUNC), result = -1;
  ENTER;
  if (!changes && (flags & O_ACCMODE) == O_RDONLY) {
    if (!begin(READ)) result = real(folder, name, flags, mode);
    LEAVE;
    return result;
  }
  int existed = node_at(path) != 0;
  if (!begin(flags & O_CREAT && !existed ? CREATE : CHANGE)) {
    result = real(folder, name, flags, mode);
    end(existed ? flags & O_TRUNC ? "trunc" : "open" : "create", path, "", result < 0 ? 0 : node_of(result), 0,
        flags, 0, 0, result < 0);
  }
  LEAVE;
  return result;
}
static int by_openat(int folder, const char *name, int flags, mode_t mode) {
  REAL(int, openat, int, const char *, int, ...)
  return real(folder, name, flags, mode);
}
#define MODE \
  mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *name, int flags, ...) { MODE return opened(by_openat, AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(by_openat, AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int d, const char *name, int flags, ...) { MODE return opened(by_openat, d, name, flags, mode); }
int openat64(int d, const char *name, int flags, ...) { MODE return opened(by_openat, d, name, flags | O_LARGEFILE, mode); }
int __open_2(const char *name, int flags) { return opened(by_openat, AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { return opened(by_openat, AT_FDCWD, name, flags, 0); }
int __openat_2(int d, const char *name, int flags) { return opened(by_openat, d, name, flags, 0); }
int __openat64_2(int d, const char *name, int flags) { return opened(by_openat, d, name, flags, 0); }

/* Data: one buffer at a time, so that half of it is easily done. `offset` < 0: where the file stands. */
static ssize_t by_write(int file, const void *data, size_t size, off_t offset) {
  REAL(ssize_t, write, int, const void *, size_t)
  static ssize_t (*real_at)(int, const void *, size_t, off_t);
  if (!real_at) real_at = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
  return offset < 0 ? real(file, data, size) : real_at(file, data, size, offset);
}
static int is_mine(int file, char *path) { return below[0] && file > 2 && is_below(of_descriptor(file, path)); }
static ssize_t written(int file, const void *data, size_t size, off_t offset) {
  char path[PATH];
  if (!is_mine(file, path)) return by_write(file, data, size, offset);
  ssize_t result = -1;
  ENTER;
  if (!begin(DATA)) {
    result = by_write(file, data, is_now(WITHIN) ? size / 2 : size, offset);
    int64_t end_of_it = offset < 0 ? lseek(file, 0, SEEK_CUR) : offset + result;
    end("write", path, "", node_of(file), end_of_it - result, 0, data, result, result < 0);
  }
  LEAVE;
  return result;
}
static ssize_t written_all(int file, const struct iovec *parts, int n, off_t offset) {
  ssize_t total = 0;
  for (int i = 0; i < n; i++) {
    ssize_t done = parts[i].iov_len ? written(file, parts[i].iov_base, parts[i].iov_len, offset < 0 ? offset : offset + total) : 0;
    if (done < 0) return total ? total : -1;
    total += done;
    if (done < (ssize_t)parts[i].iov_len) break;
  }
  return total;
}
ssize_t write(int file, const void *data, size_t size) { return written(file, data, size, -1); }
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return written(file, data, size, offset); }
ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) { return written(file, data, size, offset); }
ssize_t writev(int file, const struct iovec *parts, int n) {
  char path[PATH];
  REAL(ssize_t, writev, int, const struct iovec *, int)
  return is_mine(file, path) ? written_all(file, parts, n, -1) : real(file, parts, n);
}
ssize_t pwritev(int file, const struct iovec *parts, int n, off_t offset) {
  char path[PATH];
  REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t)
  return is_mine(file, path) ? written_all(file, parts, n, offset) : real(file, parts, n, offset);
}
ssize_t pwritev64(int file, const struct iovec *parts, int n, off_t offset) { return pwritev(file, parts, n, offset); }
/* Copies by the system: as if it could not, so that the program writes by itself. */
static int copies(int file) {
  char path[PATH];
  if (!is_mine(file, path)) return 1;
  errno = EINVAL;
  return 0;
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
  REAL(ssize_t, sendfile, int, int, off_t *, size_t)
  return copies(to) ? real(to, from, offset, size) : -1;
}
ssize_t sendfile64(int to, int from, off_t *offset, size_t size) { return sendfile(to, from, offset, size); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
  REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned)
  return copies(to) ? real(from, a, to, b, size, flags) : -1;
}

/* Operations on an open file */
#define ON_FILE(kind, op, flags, call) \
  char path[PATH]; \
  if (!is_mine(file, path)) return call; \
  int result = -1; \
  ENTER; \
  if (!begin(kind)) { result = call; end(op, path, "", node_of(file), 0, flags, 0, 0, result != 0); } \
  LEAVE; \
  return result;
int fsync(int file) { REAL(int, fsync, int) ON_FILE(FLUSH, "fsync", 0, real(file)) }
int fdatasync(int file) { REAL(int, fdatasync, int) ON_FILE(FLUSH, "fsync", 0, real(file)) }
int ftruncate(int file, off_t size) { REAL(int, ftruncate, int, off_t) ON_FILE(DATA, "resize", size, real(file, size)) }
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }
int flock(int file, int how) { REAL(int, flock, int, int) ON_FILE(FLUSH, "flock", how, real(file, how)) }

/* Operations on names */
#define ON_NAMES(kind, op, d1, n1, d2, n2, flags, call) \
  char a[PATH], b[PATH]; \
  if (!below[0]) return call; \
  resolve(d1, n1, a); \
  resolve(d2, n2, b); \
  if (!is_below(a) && !is_below(b)) return call; \
  int result = -1; \
  ENTER; \
  if (!begin(kind)) { result = call; end(op, a, b, node_at(b[0] ? b : a), 0, flags, 0, 0, result != 0); } \
  LEAVE; \
  return result;
int rename(const char *x, const char *y) {
  REAL(int, rename, const char *, const char *)
  ON_NAMES(CHANGE, "rename", AT_FDCWD, x, AT_FDCWD, y, 0, real(x, y))
}
int renameat(int d, const char *x, int e, const char *y) {
  REAL(int, renameat, int, const char *, int, const char *)
  ON_NAMES(CHANGE, "rename", d, x, e, y, 0, real(d, x, e, y))
}
int renameat2(int d, const char *x, int e, const char *y, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned)
  ON_NAMES(CHANGE, "rename", d, x, e, y, flags, real(d, x, e, y, flags))
}
int link(const char *x, const char *y) {
  REAL(int, link, const char *, const char *)
  ON_NAMES(CREATE, "link", AT_FDCWD, x, AT_FDCWD, y, 0, real(x, y))
}
int linkat(int d, const char *x, int e, const char *y, int flags) {
  REAL(int, linkat, int, const char *, int, const char *, int)
  ON_NAMES(CREATE, "link", d, x, e, y, 0, real(d, x, e, y, flags))
}
int mkdir(const char *x, mode_t mode) {
  REAL(int, mkdir, const char *, mode_t)
  ON_NAMES(CREATE, "mkdir", AT_FDCWD, x, AT_FDCWD, 0, mode, real(x, mode))
}
int mkdirat(int d, const char *x, mode_t mode) {
  REAL(int, mkdirat, int, const char *, mode_t)
  ON_NAMES(CREATE, "mkdir", d, x, AT_FDCWD, 0, mode, real(d, x, mode))
}
int unlink(const char *x) {
  REAL(int, unlink, const char *)
  ON_NAMES(CHANGE, "unlink", AT_FDCWD, x, AT_FDCWD, 0, 0, real(x))
}
int unlinkat(int d, const char *x, int flags) {
  REAL(int, unlinkat, int, const char *, int)
  ON_NAMES(CHANGE, "unlink", d, x, AT_FDCWD, 0, flags, real(d, x, flags))
}
int rmdir(const char *x) {
  REAL(int, rmdir, const char *)
  ON_NAMES(CHANGE, "unlink", AT_FDCWD, x, AT_FDCWD, 0, AT_REMOVEDIR, real(x))
}
