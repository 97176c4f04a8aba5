/* Counts and logs each call that changes something below a folder, and ends the process, or fails, at the one asked for.

   Built as a shared library and loaded with LD_PRELOAD. arm() begins; before it nothing is counted. With an error, such
   as ENOSPC, that call and all after it fail with it, but for those that remove something: a disk stays full. Each line
   of the log is the call and the paths it works on, separated by tabs. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static atomic_int calls;
static int end_at, error, log_file = -1;

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

void arm(const char *watched, int number, int with, const char *log) {
    strncpy(folder, watched, sizeof folder - 1);
    end_at = number;
    error = with;
    log_file = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
}

int counted(void) { return calls; }

static void absolute(int at, const char *path, char *found) {
    char start[PATH_MAX] = "";
    if (path[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, start, sizeof start - 2);
        start[length > 0 ? length : 0] = 0;
        strcat(start, "/");
    }
    snprintf(found, PATH_MAX, "%s%s", start, path);
}

static void of_descriptor(int descriptor, char *found) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, found, PATH_MAX - 1);
    found[length > 0 ? length : 0] = 0;
}

/* Whether the call must fail, which errno then says why. */
static int fails(const char *call, const char *path, const char *target) {
    if (!folder[0] || (strncmp(path, folder, strlen(folder)) && strncmp(target, folder, strlen(folder))))
        return 0;
    int number = ++calls;
    if (end_at && number >= end_at && !error)
        kill(getpid(), SIGKILL);
    dprintf(log_file, "%s\t%s\t%s\n", call, path, target);
    if (!end_at || number < end_at || !strcmp(call, "remove"))
        return 0;
    errno = error;
    return 1;
}

static int fails_on_descriptor(const char *call, int descriptor) {
    if (!folder[0] || descriptor == log_file)
        return 0;
    char path[PATH_MAX];
    of_descriptor(descriptor, path);
    return fails(call, path, "");
}

static int fails_on_path(const char *call, int at, const char *path) {
    char found[PATH_MAX];
    absolute(at, path, found);
    return fails(call, found, "");
}

#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & O_CREAT) {                                                                                             \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        MODE REAL(name);                                                                                               \
        if (flags & (O_CREAT | O_TRUNC) && fails_on_path("open", AT_FDCWD, path))                                      \
            return -1;                                                                                                 \
        return real(path, flags, mode);                                                                                \
    }
#define OPENAT(name)                                                                                                   \
    int name(int at, const char *path, int flags, ...) {                                                               \
        MODE REAL(name);                                                                                               \
        if (flags & (O_CREAT | O_TRUNC) && fails_on_path("open", at, path))                                            \
            return -1;                                                                                                 \
        return real(at, path, flags, mode);                                                                            \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define ON_DESCRIPTOR(type, name, call, parameters, arguments)                                                         \
    type name parameters {                                                                                             \
        REAL(name);                                                                                                    \
        if (fails_on_descriptor(call, descriptor))                                                                     \
            return -1;                                                                                                 \
        return real arguments;                                                                                         \
    }
ON_DESCRIPTOR(ssize_t, write, "write", (int descriptor, const void *data, size_t size), (descriptor, data, size))
ON_DESCRIPTOR(ssize_t, writev, "write", (int descriptor, const struct iovec *data, int n), (descriptor, data, n))
ON_DESCRIPTOR(ssize_t, pwrite, "write", (int descriptor, const void *data, size_t size, off_t at),
              (descriptor, data, size, at))
ON_DESCRIPTOR(ssize_t, pwrite64, "write", (int descriptor, const void *data, size_t size, off64_t at),
              (descriptor, data, size, at))
ON_DESCRIPTOR(int, ftruncate, "write", (int descriptor, off_t size), (descriptor, size))
ON_DESCRIPTOR(int, ftruncate64, "write", (int descriptor, off64_t size), (descriptor, size))
ON_DESCRIPTOR(ssize_t, sendfile, "write", (int descriptor, int from, off_t *at, size_t size),
              (descriptor, from, at, size))
ON_DESCRIPTOR(ssize_t, sendfile64, "write", (int descriptor, int from, off64_t *at, size_t size),
              (descriptor, from, at, size))
ON_DESCRIPTOR(int, fsync, "fsync", (int descriptor), (descriptor))

#define ON_PATH(name, call, parameters, arguments)                                                                     \
    int name parameters {                                                                                              \
        REAL(name);                                                                                                    \
        if (fails_on_path(call, AT_FDCWD, path))                                                                       \
            return -1;                                                                                                 \
        return real arguments;                                                                                         \
    }
ON_PATH(mkdir, "mkdir", (const char *path, mode_t mode), (path, mode))
ON_PATH(rmdir, "remove", (const char *path), (path))
ON_PATH(unlink, "remove", (const char *path), (path))

int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    if (fails_on_path("remove", at, path))
        return -1;
    return real(at, path, flags);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    char source[PATH_MAX], target[PATH_MAX];
    absolute(AT_FDCWD, from, source);
    absolute(AT_FDCWD, to, target);
    if (fails("rename", source, target))
        return -1;
    return real(from, to);
}
