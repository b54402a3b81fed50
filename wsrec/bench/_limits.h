/* What this machine can do at best: single operations, timed in a loop, and a loop that does each step of the receive path
   once and nothing else. The C of `wsrec.bench._limits`. */

#ifndef WSREC_LIMITS_H
#define WSREC_LIMITS_H

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "_clock.h"

/* libcrypto's functions, by the names of its manual */
typedef struct {
    int (*init)(void *, const void *, void *, const unsigned char *, const unsigned char *);
    int (*update)(void *, unsigned char *, int *, const unsigned char *, int);
    int (*ctrl)(void *, int, int, void *);
    int (*final)(void *, unsigned char *, int *);
} wsrec_evp;

enum { WSREC_AAD = 5, WSREC_SEAL = 16, WSREC_SET_TAG = 0x11 };

/* Decrypt one record of TLS 1.3 into `into` and verify it: the least number of calls. Returns 0 if the tag is wrong. */
static inline int wsrec_evp_open(
    const wsrec_evp *evp, void *context, const uint8_t *nonce, const uint8_t *record, size_t plain, uint8_t *into
) {
    int done;
    uint8_t unused[WSREC_SEAL];
    return evp->init(context, NULL, NULL, NULL, nonce) == 1
        && evp->update(context, NULL, &done, record, WSREC_AAD) == 1
        && evp->update(context, into, &done, record + WSREC_AAD, (int)plain) == 1
        && evp->ctrl(context, WSREC_SET_TAG, WSREC_SEAL, (void *)(record + WSREC_AAD + plain)) == 1
        && evp->final(context, unused, &done) == 1;
}

/* the compiler must take what is there for used and changed */
#define WSREC_USED(value) __asm__ volatile("" : : "r"(value) : "memory")

static inline void wsrec_copies(uint8_t *into, const uint8_t *from, size_t size, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        memcpy(into, from, size);
        WSREC_USED(into);
    }
}

static inline void wsrec_tick_reads(int64_t count) {
    for (int64_t i = 0; i < count; i++) WSREC_USED(wsrec_ticks());
}

static inline void wsrec_stage_clock_reads(const wsrec_clock *clock, int64_t count) {
    for (int64_t i = 0; i < count; i++) WSREC_USED(wsrec_now(clock));
}

static inline void wsrec_clock_reads(int64_t count) {
    for (int64_t i = 0; i < count; i++) WSREC_USED(wsrec_monotonic());
}

static inline void wsrec_getppids(int64_t count) {
    for (int64_t i = 0; i < count; i++) syscall(SYS_getppid);
}

/* epoll_wait(2) without waiting, and recvmsg(2) of a socket where nothing is */
static inline void wsrec_polls(int epoll, int64_t count) {
    struct epoll_event event;
    for (int64_t i = 0; i < count; i++) epoll_wait(epoll, &event, 1, 0);
}

static inline ssize_t wsrec_receive_some(int fd, void *into, size_t room) {
    struct iovec part = {into, room};
    struct msghdr message = {0};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    return recvmsg(fd, &message, MSG_DONTWAIT);
}

/* `size` bytes each time; returns how many times there were as many */
static inline int64_t wsrec_receives(int fd, uint8_t *into, size_t size, int64_t count) {
    int64_t full = 0;
    for (int64_t i = 0; i < count; i++) full += wsrec_receive_some(fd, into, size) == (ssize_t)size;
    return full;
}

/* Follow `next` through memory, each place read only after the one before it is known. */
static inline uint64_t wsrec_chase(const uint64_t *next, uint64_t at, int64_t count) {
    for (int64_t i = 0; i < count; i++) at = next[at];
    return at;
}

/* returns how many bytes were taken */
static inline int64_t wsrec_sends(int fd, const uint8_t *from, size_t size, int64_t count) {
    int64_t taken = 0;
    for (int64_t i = 0; i < count; i++) {
        const ssize_t some = send(fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (some > 0) taken += some;
    }
    return taken;
}

/* One thread wakes another that sleeps, by a descriptor that takes 8 bytes (eventfd, pipe) or, where that is -1, by a futex;
   `sent` is just before, `woke` when the other runs. It is left asleep for a while before each, and answers by a word. */
static inline int wsrec_wake(
    const wsrec_clock *clock, int descriptor, uint32_t *word, const uint32_t *answer, int64_t *sent, int64_t count,
    uint64_t asleep
) {
    const uint64_t one = 1;
    for (uint32_t i = 0; i < (uint32_t)count; i++) {
        const uint64_t rest = wsrec_now(clock) + asleep;
        while (wsrec_now(clock) < rest) { }
        sent[i] = (int64_t)wsrec_now(clock);
        if (descriptor < 0) {
            __atomic_store_n(word, i + 1, __ATOMIC_RELEASE);
            syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
        } else if (write(descriptor, &one, sizeof one) != sizeof one)
            return 0;
        while (__atomic_load_n(answer, __ATOMIC_ACQUIRE) != i + 1) { }
    }
    return 1;
}

static inline int wsrec_woken(
    const wsrec_clock *clock, int descriptor, uint32_t *word, uint32_t *answer, int64_t *woke, int64_t count
) {
    uint64_t taken;
    for (uint32_t i = 0; i < (uint32_t)count; i++) {
        if (descriptor < 0)
            while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == i) syscall(SYS_futex, word, FUTEX_WAIT, i, NULL, NULL, 0);
        else if (read(descriptor, &taken, sizeof taken) != sizeof taken)
            return 0;
        woke[i] = (int64_t)wsrec_now(clock);
        __atomic_store_n(answer, i + 1, __ATOMIC_RELEASE);
    }
    return 1;
}

/* Two threads that watch a word without sleeping, and change it in turn; the one that is `first` notes each round trip. */
static inline void wsrec_by_watching(const wsrec_clock *clock, uint32_t *word, int first, int64_t *took, int64_t count) {
    for (uint32_t i = 0; i < (uint32_t)count; i++) {
        const uint64_t began = wsrec_now(clock);
        if (first) __atomic_store_n(word, 2 * i + 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 2 * i + (first ? 2 : 1)) { }
        if (!first) __atomic_store_n(word, 2 * i + 2, __ATOMIC_RELEASE);
        if (first) took[i] = (int64_t)(wsrec_now(clock) - began);
    }
}

/* Send the same record at a pace, noting the time before each. Returns 0 if the connection failed. */
static inline int wsrec_send_paced(
    const wsrec_clock *clock, int fd, const uint8_t *record, size_t size, int64_t *sent, int64_t count, double gap
) {
    const uint64_t begin = wsrec_now(clock);
    for (int64_t i = 0; i < count; i++) {
        const uint64_t due = begin + (uint64_t)((double)i * gap);
        uint64_t now;
        while ((now = wsrec_now(clock)) < due) { }
        sent[i] = (int64_t)now;
        for (size_t done = 0; done < size;) {
            const ssize_t taken = send(fd, record + done, size - done, MSG_NOSIGNAL);
            if (taken < 0 && errno != EINTR) return 0;
            if (taken > 0) done += (size_t)taken;
        }
    }
    return 1;
}

/* the columns of what `wsrec_floor` notes of a record */
enum { WSREC_EVENT, WSREC_RECV_START, WSREC_READ, WSREC_RECV_END, WSREC_PARSED, WSREC_HANDOFF, WSREC_MOMENTS };

/* The receive path with nothing in it but its steps: wait (or not), read, decrypt, read a frame's header, write a slot of
   64 bytes and publish it, the time taken at each. Every record is the same one, under the same nonce. Returns how many
   records came before the end of the connection or an error. */
static inline int64_t wsrec_floor(
    const wsrec_clock *clock, int fd, int epoll, const wsrec_evp *evp, void *context, const uint8_t *nonce, size_t size, uint8_t *ciphertext,
    size_t room, uint8_t *ring, uint64_t *slots, size_t slot_count, uint64_t *published, int64_t *moments, int64_t count
) {
    struct epoll_event ready;
    size_t have = 0;
    int64_t done = 0;
    while (done < count) {
        if (epoll >= 0 && epoll_wait(epoll, &ready, 1, -1) < 1) continue;
        const uint64_t event = wsrec_now(clock);
        const uint64_t start = wsrec_now(clock);
        const ssize_t got = wsrec_receive_some(fd, ciphertext + have, room - have);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) break;
        const uint64_t read_at = wsrec_now(clock);
        have += (size_t)got;
        size_t at = 0;
        for (; have - at >= size && done < count; at += size, done++) {
            int64_t *moment = moments + done * WSREC_MOMENTS;
            uint64_t *slot = slots + 8 * ((size_t)done % slot_count);
            if (!wsrec_evp_open(evp, context, nonce, ciphertext + at, size - WSREC_AAD - WSREC_SEAL, ring)) return -1;
            moment[WSREC_EVENT] = (int64_t)event;
            moment[WSREC_RECV_START] = (int64_t)start;
            moment[WSREC_READ] = (int64_t)read_at;
            moment[WSREC_RECV_END] = (int64_t)wsrec_now(clock);
            /* opcode and length; a frame of TLS 1.3 is followed by the type of its record */
            const size_t length = (ring[1] & 127) == 126 ? (size_t)ring[2] << 8 | ring[3] : ring[1] & 127;
            moment[WSREC_PARSED] = (int64_t)wsrec_now(clock);
            for (int i = 0; i < 7; i++) slot[i] = (uint64_t)moment[i % WSREC_MOMENTS];
            slot[7] = (uint64_t)ring[0] << 32 | length;
            moment[WSREC_HANDOFF] = (int64_t)wsrec_now(clock);
            __atomic_store_n(published, (uint64_t)done + 1, __ATOMIC_RELEASE);
        }
        memmove(ciphertext, ciphertext + at, have - at);
        have -= at;
    }
    return done;
}

#endif
