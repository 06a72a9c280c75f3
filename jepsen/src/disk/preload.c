/* Makes the disk of one process fail, from outside and while it runs.
 *
 * Preloaded, it stands between the process and the C library's file calls. What it does is read at
 * every call from a file mapped into memory (FAULT_CONTROL, 64 bytes of 32-bit words), and only to
 * files below one folder (FAULT_DIR): sockets, logs and the program itself are left alone.
 *
 *   word 0: error number of every sync          word 1: error number of every write
 *   word 2: milliseconds every sync and every write takes longer
 *   word 3: writes end after half of their bytes, if not 0
 *   word 4: one bit of every n-th read is flipped, if not 0
 *   word 8: how often any of it was done (the tests want to know that it was)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_ERROR, WRITE_ERROR, STALL_MS, SHORT_WRITES, FLIP_ONE_IN, DONE = 8 };

static volatile uint32_t *control;
static char folder[4096];
static size_t folder_length;
static uint32_t reads;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_CONTROL"), *dir = getenv("FAULT_DIR");
    if (!path || !dir || strlen(dir) + 1 >= sizeof folder) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    /* With the slash: another folder's name may begin with this one's. */
    folder_length = (size_t)snprintf(folder, sizeof folder, "%s/", dir);
    control = map;
}

/* Whether a fault of this kind is on, and the descriptor is of a file it is meant for. */
static uint32_t on(int fd, int word) {
    if (!control || !control[word]) return 0;
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)folder_length || strncmp(path, folder, folder_length) != 0) return 0;
    __atomic_fetch_add((uint32_t *)&control[DONE], 1, __ATOMIC_RELAXED);
    return control[word];
}

static void stall(int fd) {
    uint32_t ms = on(fd, STALL_MS);
    /* In slices, because healing ends it. */
    while (ms && control[STALL_MS]) {
        uint32_t slice = ms < 20 ? ms : 20;
        struct timespec time = {0, (long)slice * 1000000};
        nanosleep(&time, NULL);
        ms -= slice;
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define SYNC(name)                          \
    int name(int fd) {                      \
        stall(fd);                          \
        uint32_t error = on(fd, SYNC_ERROR);\
        if (error) {                        \
            errno = (int)error;             \
            return -1;                      \
        }                                   \
        return REAL(name)(fd);              \
    }

SYNC(fsync)
SYNC(fdatasync)

/* Gives the number of bytes to write, or 0 with errno set. A write that is durable on return
 * (O_DSYNC) is a sync, too. Halves stay whole blocks, as direct writes demand. */
static size_t allowed(int fd, size_t count) {
    stall(fd);
    uint32_t error = on(fd, WRITE_ERROR);
    if (!error && control && control[SYNC_ERROR] && (fcntl(fd, F_GETFL) & O_DSYNC))
        error = on(fd, SYNC_ERROR);
    if (error) {
        errno = (int)error;
        return 0;
    }
    if (count >= 8192 && on(fd, SHORT_WRITES)) return count / 2 / 4096 * 4096;
    return count;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    size_t n = allowed(fd, count);
    return !n && count ? -1 : REAL(write)(fd, bytes, n);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    size_t n = allowed(fd, count);
    return !n && count ? -1 : REAL(pwrite)(fd, bytes, n, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    size_t n = allowed(fd, count);
    return !n && count ? -1 : REAL(pwrite64)(fd, bytes, n, at);
}

static ssize_t flip(int fd, void *bytes, ssize_t count) {
    if (count <= 0 || !control || !control[FLIP_ONE_IN]) return count;
    uint32_t n = __atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED);
    if (n % control[FLIP_ONE_IN] == 0 && on(fd, FLIP_ONE_IN))
        ((unsigned char *)bytes)[(n * 2654435761u) % (size_t)count] ^= 16;
    return count;
}

ssize_t read(int fd, void *bytes, size_t count) {
    return flip(fd, bytes, REAL(read)(fd, bytes, count));
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    return flip(fd, bytes, REAL(pread)(fd, bytes, count, at));
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    return flip(fd, bytes, REAL(pread64)(fd, bytes, count, at));
}
