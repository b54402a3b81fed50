/* A disk that fails on order: preloaded into a process, it makes calls on the files below one folder fail.

   DISK_FOLDER   only what lies below counts
   DISK_FAULTS   CALL@PART:NTH:WHAT,...   the NTH call (from 1) of CALL on a path that contains PART fails, once for all
                 processes together. CALL `grow` is every call that takes room: write, create, mkdir, link. WHAT is
                   N       the errno
                   NxM     the errno, M calls in a row
                   N~MS    the errno, for MS milliseconds from then on; the first write still takes a half
                   short   a write takes a half
                   torn    the same, and the next write to the file is EIO
                   lie     a write, or link, says that it was done, and was not: what no disk may do, to try the judges
   DISK_PROCESS  only in processes that have this word on their command line
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
#include <time.h>
#include <unistd.h>

#define FAULTS 16
enum { SHORT = -1, LIE = -2 };

static struct { char call[16], part[64], what[24], torn[4096]; int nth, seen, half; } faults[FAULTS];
static int count = -1;
static const char *folder;
static off_t synced[1024];
static __thread off_t unsynced_from, unsynced_to;

static int concerned(void) {
    const char *word = getenv("DISK_PROCESS");
    if (!word || !*word) return 1;
    char line[4096];
    int fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
    ssize_t size = syscall(SYS_read, fd, line, sizeof line);
    syscall(SYS_close, fd);
    return size > 0 && memmem(line, size, word, strlen(word));
}

static void prepare(void) {
    /* a process that is going to be forked has neither yet */
    const char *below = getenv("DISK_FOLDER"), *text = getenv("DISK_FAULTS");
    if (!below || !text) return;
    count = 0;
    if (!concerned()) return;
    folder = strdup(below);
    char *copy = strdup(text), *rest = copy, *one;
    while ((one = strsep(&rest, ",")) && count < FAULTS) {
        faults[count].part[0] = 0;
        if (sscanf(one, "%15[^@]@%63[^:]:%d:%23s", faults[count].call, faults[count].part, &faults[count].nth,
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

static int matches(const char *call, const char *wanted) {
    if (!strcmp(wanted, "grow"))
        return !strcmp(call, "write") || !strcmp(call, "create") || !strcmp(call, "mkdir") || !strcmp(call, "link");
    return !strcmp(call, wanted);
}

/* Whether we are the first to leave a file for this fault. */
static int leave(const char *name, const char *path) {
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return 0;
    char line[4200];
    int size = snprintf(line, sizeof line, "%s %lld %lld", path, (long long)unsynced_from, (long long)unsynced_to);
    syscall(SYS_write, fd, line, size);
    syscall(SYS_close, fd);
    return 1;
}

/* Milliseconds since that file was left, -1 if it was not. */
static long long since(const char *name) {
    struct stat about;
    struct timespec now;
    if (stat(name, &about)) return -1;
    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - about.st_mtim.tv_sec) * 1000LL + (now.tv_nsec - about.st_mtim.tv_nsec) / 1000000;
}

/* What is to happen to this call: 0 nothing, SHORT, LIE, else an errno. */
static int fault(const char *call, const char *path) {
    if (count < 0) prepare();
    if (!folder || !path || strncmp(path, folder, strlen(folder))) return 0;
    path += strlen(folder);
    note(call, path);
    for (int i = 0; i < count; i++) {
        if (!strcmp(call, "write") && *faults[i].torn && !strcmp(faults[i].torn, path)) {
            *faults[i].torn = 0;
            char name[4096];
            snprintf(name, sizeof name, "%s/%d.torn", getenv("DISK_STATE"), i);
            leave(name, path);
            return EIO;
        }
        if (!matches(call, faults[i].call) || (strcmp(faults[i].part, "*") && !strstr(path, faults[i].part))) continue;
        int seen = __sync_add_and_fetch(&faults[i].seen, 1), times = 1, lasts = 0, code = atoi(faults[i].what);
        char name[4096], *mark;
        snprintf(name, sizeof name, "%s/%d", getenv("DISK_STATE"), i);
        if ((mark = strchr(faults[i].what, '~'))) lasts = atoi(mark + 1);
        else if ((mark = strchr(faults[i].what, 'x')) && code) times = atoi(mark + 1);
        if (lasts) {
            long long ago = since(name);
            if (ago < 0 && (seen < faults[i].nth || !leave(name, path))) continue;
            if (ago >= lasts) continue;
            if (!strcmp(call, "write") && !__sync_lock_test_and_set(&faults[i].half, 1)) return SHORT;
            return code;
        }
        if (seen < faults[i].nth || seen >= faults[i].nth + times) continue;
        if (seen > faults[i].nth) snprintf(name, sizeof name, "%s/%d.%d", getenv("DISK_STATE"), i, seen - faults[i].nth);
        if (!leave(name, path)) continue;
        if (!strcmp(faults[i].what, "torn")) strcpy(faults[i].torn, path);
        return code ? code : !strcmp(faults[i].what, "lie") ? LIE : SHORT;
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
    if (found == LIE) return size;
    if (found == SHORT && size > 1) size /= 2;
    return syscall(SYS_write, fd, data, size);
}

static ssize_t do_pwrite(int fd, const void *data, size_t size, off_t at) {
    char path[4096];
    int found = fault_fd("write", fd, path);
    if (found > 0) FAIL(found);
    if (found == LIE) return size;
    if (found == SHORT && size > 1) size /= 2;
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
    if (found == LIE) return 0;
    return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
