/* The clock of stages 2 to 6: the processor's time stamp counter mapped onto CLOCK_MONOTONIC, or that clock itself. */
#ifndef WSREC_CLOCK_H
#define WSREC_CLOCK_H

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

/* ns = base_ns + (ticks - base_ticks) * rate / 2^32; a rate of 0 asks for CLOCK_MONOTONIC */
typedef struct {
    uint64_t base_ticks;
    uint64_t base_ns;
    uint64_t rate;
} wsrec_clock;

static inline uint64_t wsrec_monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t wsrec_realtime(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* the clock that nothing slews, where the system has one */
static inline uint64_t wsrec_raw(void) {
#ifdef CLOCK_MONOTONIC_RAW
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#else
    return wsrec_monotonic();
#endif
}

#if defined(__x86_64__)
static inline uint64_t wsrec_ticks(void) { return __rdtsc(); }

/* CPUID 8000_0007h, EDX bit 8: the counter runs at one rate in every P-, C- and T-state (AMD APM 3, Intel SDM 17.17.1) */
static inline int wsrec_invariant(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d >> 8 & 1);
}

static inline uint64_t wsrec_map(const wsrec_clock *clock, uint64_t ticks) {
    /* signed: another processor's counter may be some ticks behind the base */
    int64_t since = (int64_t)(ticks - clock->base_ticks);
    return clock->base_ns + (uint64_t)(int64_t)(((__int128)since * (__int128)clock->rate) >> 32);
}

static inline uint64_t wsrec_now(const wsrec_clock *clock) {
    return __builtin_expect(clock->rate != 0, 1) ? wsrec_map(clock, wsrec_ticks()) : wsrec_monotonic();
}
#else
static inline uint64_t wsrec_ticks(void) { return 0; }
static inline int wsrec_invariant(void) { return 0; }
static inline uint64_t wsrec_map(const wsrec_clock *clock, uint64_t ticks) { return clock->base_ns + 0 * ticks; }
static inline uint64_t wsrec_now(const wsrec_clock *clock) { (void)clock; return wsrec_monotonic(); }
#endif

#endif
