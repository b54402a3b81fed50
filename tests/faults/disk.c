/* A disk that fails on order: preloaded into a process, it makes calls on the files below one folder fail.

   DISK_FOLDER   only what lies below counts
   DISK_FAULTS   CALL@PART:NTH:WHAT,...   the NTH call (from 1) of CALL on a path that contains PART fails, once for all
                 processes together: with the errno of WHAT (a number); or, of a write, takes half of it (`short`)
   DISK_STATE    a folder of our own: a file for each fault that happened, with the path; of a sync that failed also from
                 and to which byte the file was not on the disk: Linux forgets that these pages were to be written
   DISK_LOG      a file: a line a call
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAULTS 16

static struct { char call[16], part[64], what[16]; int nth, seen; } faults[FAULTS];
static int count = -1;
static const char *folder;
static off_t synced[1024];
static __thread off_t unsynced_from, unsynced_to;

static void prepare(void) {
    count = 0;
    folder = getenv("DISK_FOLDER");
    char *text = getenv("DISK_FAULTS");
    if (!folder || !text) return;
    char *copy = strdup(text), *rest = copy, *one;
    while ((one = strsep(&rest, ",")) && count < FAULTS) {
        faults[count].part[0] = 0;
        if (sscanf(one, "%15[^@]@%63[^:]:%d:%15s", faults[count].call, faults[count].part, &faults[count].nth,
                   faults[count].what) == 4) count++;
    }
    free(copy);
}

static void note(const char *call, const char *path) {
    const char *log = getenv("DISK_LOG");
    if (!log) return;
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    char line[4096];
    int size = snprintf(line, sizeof line, "%d %s %s\n", (int)getpid(), call, path);
    syscall(SYS_write, fd, line, size);
    syscall(SYS_close, fd);
}

/* What is to happen to this call: 0 nothing, -1 a short write, else an errno. */
static int fault(const char *call, const char *path) {
    if (count < 0) prepare();
    if (!folder || !path || strncmp(path, folder, strlen(folder))) return 0;
    path += strlen(folder);
    note(call, path);
    for (int i = 0; i < count; i++) {
        if (strcmp(faults[i].call, call) || (strcmp(faults[i].part, "*") && !strstr(path, faults[i].part))) continue;
        if (__sync_add_and_fetch(&faults[i].seen, 1) != faults[i].nth) continue;
        char done[4096];
        snprintf(done, sizeof done, "%s/%d", getenv("DISK_STATE"), i);
        int fd = syscall(SYS_openat, AT_FDCWD, done, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0) continue;
        char line[4200];
        int size = snprintf(line, sizeof line, "%s %lld %lld", path, (long long)unsynced_from, (long long)unsynced_to);
        syscall(SYS_write, fd, line, size);
        syscall(SYS_close, fd);
        return strcmp(faults[i].what, "short") ? atoi(faults[i].what) : -1;
    }
    return 0;
}

static int fault_fd(const char *call, int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 4095);
    if (size < 0) return 0;
    path[size] = 0;
    int keep = errno, found = fault(call, path);
    errno = keep;
    return found;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(found) do { errno = (found); return -1; } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    char path[4096];
    int found = fd > 2 ? fault_fd("write", fd, path) : 0;
    if (found > 0) FAIL(found);
    if (found < 0 && size > 1) size /= 2;
    return syscall(SYS_write, fd, data, size);
}

static ssize_t do_pwrite(int fd, const void *data, size_t size, off_t at) {
    char path[4096];
    int found = fault_fd("write", fd, path);
    if (found > 0) FAIL(found);
    if (found < 0 && size > 1) size /= 2;
    return syscall(SYS_pwrite64, fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return do_pwrite(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return do_pwrite(fd, data, size, at); }

static int do_truncate(int fd, off_t size) {
    char path[4096];
    int found = fault_fd("ftruncate", fd, path);
    if (found > 0) FAIL(found);
    return syscall(SYS_ftruncate, fd, size);
}
int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off64_t size) { return do_truncate(fd, size); }

int fdatasync(int fd) {
    char path[4096];
    struct stat about;
    fstat(fd, &about);
    unsynced_from = fd < 1024 ? synced[fd] : 0, unsynced_to = about.st_size;
    int found = fault_fd("fdatasync", fd, path);
    unsynced_to = 0;
    if (found > 0) FAIL(found);
    if (fd < 1024) synced[fd] = about.st_size;
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    char path[4096];
    int found = fault_fd("fsync", fd, path);
    if (found > 0) FAIL(found);
    return syscall(SYS_fsync, fd);
}

static int do_open(const char *path, int flags, mode_t mode) {
    int found = flags & (O_WRONLY | O_RDWR | O_CREAT) ? fault("create", path) : fault("open", path);
    if (found > 0) FAIL(found);
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < 1024) synced[fd] = 0;
    return fd;
}
#define MODE(flags) ({ va_list all; va_start(all, flags); mode_t m = flags & O_CREAT ? va_arg(all, mode_t) : 0; va_end(all); m; })
int open(const char *path, int flags, ...) { return do_open(path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return do_open(path, flags | O_LARGEFILE, MODE(flags)); }

int unlink(const char *path) {
    int found = fault("unlink", path);
    if (found > 0) FAIL(found);
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
    int found = fault("rmdir", path);
    if (found > 0) FAIL(found);
    return syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdir(const char *path, mode_t mode) {
    int found = fault("mkdir", path);
    if (found > 0) FAIL(found);
    return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int rename(const char *from, const char *to) {
    int found = fault("rename", from);
    if (found > 0) FAIL(found);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int link(const char *from, const char *to) {
    int found = fault("link", from);
    if (found > 0) FAIL(found);
    return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
