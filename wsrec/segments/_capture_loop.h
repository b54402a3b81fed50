/* The capture's thread: blocks of the kernel's packet ring to the segment ring, until it is stopped. */
#ifndef WSREC_CAPTURE_LOOP_H
#define WSREC_CAPTURE_LOOP_H

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "_packet.h"

/* how often the kernel hands over a block that is not full, ms: packets wait in it so long. Twice that, and what two ticks
   of the slowest kernel's timer take, until all that arrived is seen */
enum { WSREC_RETIRE_MS = 8 };
#define WSREC_MARGIN_NS ((uint64_t)(2 * WSREC_RETIRE_MS + 20) * 1000000)
#define WSREC_STATISTICS_NS ((uint64_t)100 * 1000000)
/* holes that a drop made show up a little later */
#define WSREC_HEAL_NS ((uint64_t)1000 * 1000000)
/* a NIC's clock further off than this is not the system's (`host.timestamping`) */
#define WSREC_NIC_LIMIT_NS ((int64_t)1000000000)

typedef struct {
    int fd;
    uint8_t *ring;
    uint32_t block_size, blocks, next;
    uint64_t *covered_until;
    uint32_t stop; /* written by another thread */
    uint64_t cpu_ns, dropped, frozen;
} wsrec_capture;

static inline uint64_t wsrec_clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void wsrec_statistics(wsrec_capture *capture, wsrec_table *table, uint64_t since, uint64_t now) {
    struct tpacket_stats_v3 statistics;
    socklen_t size = sizeof statistics;
    if (getsockopt(capture->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size)) return;
    if (statistics.tp_drops) {
        capture->dropped += statistics.tp_drops;
        wsrec_lose(&table->out, statistics.tp_drops, since, wsrec_clock_ns(CLOCK_REALTIME));
        table->heal_until = now + WSREC_HEAL_NS;
    }
    capture->frozen += statistics.tp_freeze_q_cnt;
}

/* returns 0 once stopped, else the errno of a poll that failed */
static inline int wsrec_run(wsrec_capture *capture, wsrec_table *table) {
    uint64_t stopped = 0, asked = 0, asked_utc = wsrec_clock_ns(CLOCK_REALTIME), idle = wsrec_clock_ns(CLOCK_MONOTONIC);
    struct pollfd waiting = {capture->fd, POLLIN | POLLERR, 0};
    for (;;) {
        uint64_t now = wsrec_clock_ns(CLOCK_MONOTONIC);
        struct tpacket_block_desc *block = (void *)(capture->ring + (uint64_t)capture->next * capture->block_size);
        uint32_t status = __atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE);
        if (status & TP_STATUS_USER) {
            uint32_t rejected = table->nic_rejected;
            /* before its packets are read: the holes in them are of these drops */
            if (status & TP_STATUS_LOSING) wsrec_statistics(capture, table, asked_utc, now);
            table->out.utc = wsrec_clock_ns(CLOCK_REALTIME);
            table->nic_limit = WSREC_NIC_LIMIT_NS + (int64_t)(now - idle) + (int64_t)WSREC_MARGIN_NS;
            wsrec_block(table, (const uint8_t *)block, capture->block_size, now);
            __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
            capture->next = (capture->next + 1) % capture->blocks;
            if (table->nic_rejected && !rejected) {
                int software = 0;
                setsockopt(capture->fd, SOL_PACKET, PACKET_TIMESTAMP, &software, sizeof software);
            }
        }
        if (now - asked >= WSREC_STATISTICS_NS) {
            wsrec_statistics(capture, table, asked_utc, now);
            asked = now;
            asked_utc = wsrec_clock_ns(CLOCK_REALTIME);
        }
        wsrec_announce(&table->out);
        __atomic_store_n(table->out.published, table->out.next, __ATOMIC_RELEASE);
        if (status & TP_STATUS_USER) continue;
        idle = now;
        __atomic_store_n(capture->covered_until, now - WSREC_MARGIN_NS, __ATOMIC_RELEASE);
        __atomic_store_n(&capture->cpu_ns, wsrec_clock_ns(CLOCK_THREAD_CPUTIME_ID), __ATOMIC_RELAXED);
        if (__atomic_load_n(&capture->stop, __ATOMIC_ACQUIRE)) {
            if (!stopped) stopped = now;
            if (now - WSREC_MARGIN_NS >= stopped) return 0;
        }
        if (poll(&waiting, 1, 2 * WSREC_RETIRE_MS) < 0 && errno != EINTR) return errno;
        if (waiting.revents & POLLERR) {
            /* an interface that went down; others go on */
            int error;
            socklen_t size = sizeof error;
            getsockopt(capture->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    }
}

#endif
