/* One captured TCP connection: which bytes of its stream have arrived, and its TLS record headers.

   Stream offsets count the payload from the byte behind the SYN, in 64 bits. `frontier` is where the first hole begins; what
   arrived behind it is a sorted list of intervals. Everything that is new or was there before is written to the segment
   ring. Hostile segments may make it forget holes, never grow without bound. */
#ifndef WSREC_FLOW_H
#define WSREC_FLOW_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* segment_ring.py has the same; the module compares them on import */
typedef struct {
    uint64_t offset, stamp;
    uint32_t length, flow;
    uint16_t conn;
    uint8_t kind, flags;
    uint32_t value;
} wsrec_segment;

enum { WSREC_OPEN = 1, WSREC_SEGMENT, WSREC_TLS_RECORD, WSREC_LOSS, WSREC_BROKEN };
enum { WSREC_NIC = 1, WSREC_REPEATED = 2, WSREC_FILLED = 4, WSREC_AHEAD = 8 };
enum { WSREC_URGENT = 1, WSREC_RECORDS = 2, WSREC_CONTRADICTED = 3 };

/* the producer's side of the segment ring */
typedef struct {
    wsrec_segment *records;
    uint64_t mask, capacity;
    uint64_t *published, *released, *dropped;
    uint64_t next;     /* records written; `published` follows once a block */
    uint64_t consumed; /* `released` as last seen */
    uint64_t utc;      /* when the block being read was taken up, ns since the epoch */
    /* packets dropped since the last LOSS, and in which interval (ns since the epoch) */
    uint64_t lost, lost_since, lost_until;
} wsrec_output;

enum { WSREC_HOLES = 64, WSREC_CHUNKS = 1024 };
#define WSREC_WINDOW ((int64_t)1 << 30)        /* the largest TCP window (RFC 7323 2.3); sockets advertise less */
#define WSREC_NO_RECORDS (~(uint64_t)0)        /* of `records_from`: no TLS records are looked for */
#define WSREC_CHUNK_BYTES ((uint64_t)8 << 20)  /* payload kept while a hole is open */
#define WSREC_RECORD_MAX ((1 << 14) + 2048)    /* RFC 5246 6.2.3; RFC 8446 allows less */

typedef struct wsrec_chunk {
    struct wsrec_chunk *next;
    uint64_t start, end;
    uint32_t captured;
    uint8_t data[];
} wsrec_chunk;

typedef struct {
    uint32_t id;
    uint16_t conn, port, remote_port;
    uint8_t version; /* of IP: 4 or 6 */
    uint8_t remote[16], local[16]; /* the latter: of the SYN */
    uint8_t open, broken;
    /* the timestamp of the SYN (RFC 7323 section 3), if it has one, and when it came (monotonic, ns) */
    uint8_t has_timestamp;
    uint32_t timestamp;
    uint64_t opened;
    int interface; /* the one that showed the SYN first: others show the same packets again */
    uint32_t first; /* sequence number of offset 0 */
    uint64_t frontier;
    uint32_t ahead; /* intervals behind the frontier: sorted, apart from one another */
    struct { uint64_t start, end; } arrived[WSREC_HOLES + 1];
    uint64_t heal_until; /* until then (monotonic, ns) holes are given up: the capture lost packets */
    /* the last segment, to know it again where another device shows it */
    uint64_t last_stamp;
    uint32_t last_sequence, last_length;
    /* TLS records: where they begin, written by another thread; and the parser */
    uint64_t records_from;
    uint64_t at, record_start;
    uint32_t body; /* bytes to come of the record's body */
    uint8_t header[5], header_size, records_broken;
    wsrec_chunk *chunks;
    uint32_t chunk_count;
    uint64_t chunk_bytes;
} wsrec_flow;

/* one packet's TCP segment */
typedef struct {
    uint64_t stamp; /* 0: its time is not known */
    uint64_t now;   /* monotonic, ns */
    uint32_t sequence, length, captured;
    const uint8_t *payload; /* `captured` bytes of `length` */
    uint8_t nic, urgent;
    int interface;
    int64_t window; /* no socket accepts what lies further from what it has */
} wsrec_arrival;

static inline int wsrec_write(wsrec_output *out, const wsrec_segment *record, uint64_t reserve) {
    if (out->next - out->consumed + reserve >= out->capacity) {
        out->consumed = __atomic_load_n(out->released, __ATOMIC_ACQUIRE);
        if (out->next - out->consumed + reserve >= out->capacity) return 0;
    }
    out->records[out->next++ & out->mask] = *record;
    return 1;
}

static inline void wsrec_lose(wsrec_output *out, uint64_t packets, uint64_t since, uint64_t until) {
    if (!packets) return;
    if (!out->lost || since < out->lost_since) out->lost_since = since;
    if (until > out->lost_until) out->lost_until = until;
    out->lost += packets;
    __atomic_store_n(out->dropped, *out->dropped + packets, __ATOMIC_RELEASE);
}

/* a loss is announced once there is room, before anything that comes after it */
static inline int wsrec_announce(wsrec_output *out) {
    wsrec_segment record = {out->lost_since, out->lost_until, 0, 0, 0, WSREC_LOSS, 0, 0};
    if (!out->lost) return 1;
    record.value = out->lost > UINT32_MAX ? UINT32_MAX : (uint32_t)out->lost;
    if (!wsrec_write(out, &record, 0)) return 0;
    out->lost = out->lost_since = out->lost_until = 0;
    return 1;
}

static inline void wsrec_emit(wsrec_output *out, const wsrec_flow *flow, uint8_t kind, uint64_t offset, uint64_t length,
                              uint64_t stamp, uint8_t flags, uint32_t value) {
    wsrec_segment record = {offset, stamp, (uint32_t)length, flow->id, flow->conn, kind, flags, value};
    if (!wsrec_announce(out) || !wsrec_write(out, &record, 1)) wsrec_lose(out, 1, stamp ? stamp : out->utc, out->utc);
}

static inline void wsrec_drop_chunks(wsrec_flow *flow) {
    while (flow->chunks) {
        wsrec_chunk *chunk = flow->chunks;
        flow->chunks = chunk->next;
        free(chunk);
    }
    flow->chunk_count = 0;
    flow->chunk_bytes = 0;
}

static inline void wsrec_break_records(wsrec_output *out, wsrec_flow *flow) {
    flow->records_broken = 1;
    wsrec_drop_chunks(flow);
    wsrec_emit(out, flow, WSREC_BROKEN, flow->at, 0, 0, 0, WSREC_RECORDS);
}

/* the record headers of the bytes up to `end`, which lie behind everything parsed before; content is only needed of headers */
static inline void wsrec_parse_records(wsrec_output *out, wsrec_flow *flow, uint64_t start, uint64_t end,
                                       const uint8_t *data, uint32_t captured) {
    while (flow->at < end) {
        uint64_t left = end - flow->at, from = flow->at - start;
        if (flow->body) {
            uint64_t part = left < flow->body ? left : flow->body;
            flow->at += part;
            flow->body -= (uint32_t)part;
        } else {
            if (from >= captured) {
                wsrec_break_records(out, flow);
                return;
            }
            if (!flow->header_size) flow->record_start = flow->at;
            flow->header[flow->header_size++] = data[from];
            flow->at++;
            if (flow->header_size < 5) continue;
            flow->body = (uint32_t)flow->header[3] << 8 | flow->header[4];
            if (flow->header[0] < 20 || flow->header[0] > 24 || flow->header[1] != 3 || flow->body > WSREC_RECORD_MAX) {
                wsrec_break_records(out, flow);
                return;
            }
        }
        if (!flow->body && flow->header_size == 5) {
            wsrec_emit(out, flow, WSREC_TLS_RECORD, flow->at, flow->at - flow->record_start, 0, 0, flow->header[0]);
            flow->header_size = 0;
        }
    }
}

/* new bytes of the stream, for the parser of records: those behind a hole are kept until it is filled */
static inline void wsrec_feed_records(wsrec_output *out, wsrec_flow *flow, uint64_t start, uint64_t end,
                                      const uint8_t *data, uint32_t captured) {
    uint64_t from = __atomic_load_n(&flow->records_from, __ATOMIC_ACQUIRE);
    if (from == WSREC_NO_RECORDS) wsrec_drop_chunks(flow);
    if (from == WSREC_NO_RECORDS || flow->records_broken) return;
    if (flow->at < from) flow->at = from;
    if (end <= flow->at) return;
    if (start > flow->at) {
        wsrec_chunk **place = &flow->chunks, *chunk;
        if (flow->chunk_count == WSREC_CHUNKS || flow->chunk_bytes + captured > WSREC_CHUNK_BYTES
            || !(chunk = malloc(sizeof *chunk + captured))) {
            wsrec_break_records(out, flow);
            return;
        }
        while (*place && (*place)->start < start) place = &(*place)->next;
        chunk->start = start;
        chunk->end = end;
        chunk->captured = captured;
        if (captured) memcpy(chunk->data, data, captured);
        chunk->next = *place;
        *place = chunk;
        flow->chunk_count++;
        flow->chunk_bytes += captured;
        return;
    }
    wsrec_parse_records(out, flow, start, end, data, captured);
    while (flow->chunks && flow->chunks->start <= flow->at && !flow->records_broken) {
        wsrec_chunk *chunk = flow->chunks;
        flow->chunks = chunk->next;
        flow->chunk_count--;
        flow->chunk_bytes -= chunk->captured;
        if (chunk->end > flow->at) wsrec_parse_records(out, flow, chunk->start, chunk->end, chunk->data, chunk->captured);
        free(chunk);
    }
}

/* the first hole is given up: its bytes are never covered */
static inline void wsrec_give_up_hole(wsrec_flow *flow) {
    flow->frontier = flow->arrived[0].end;
    memmove(flow->arrived, flow->arrived + 1, --flow->ahead * sizeof *flow->arrived);
}

/* the smallest hole is given up: its bytes count as arrived, and those of them that still come as repeated */
static inline void wsrec_give_up_smallest(wsrec_flow *flow) {
    uint32_t at, chosen = 0;
    uint64_t least = flow->arrived[0].start - flow->frontier;
    for (at = 1; at < flow->ahead; at++) {
        uint64_t size = flow->arrived[at].start - flow->arrived[at - 1].end;
        if (size < least) {
            least = size;
            chosen = at;
        }
    }
    if (!chosen) {
        wsrec_give_up_hole(flow);
        return;
    }
    flow->arrived[chosen - 1].end = flow->arrived[chosen].end;
    memmove(flow->arrived + chosen, flow->arrived + chosen + 1, (--flow->ahead - chosen) * sizeof *flow->arrived);
}

/* make [start, end) part of what has arrived */
static inline void wsrec_cover(wsrec_flow *flow, uint64_t start, uint64_t end) {
    uint32_t low, high;
    if (start <= flow->frontier) {
        uint32_t gone = 0;
        if (end > flow->frontier) flow->frontier = end;
        while (gone < flow->ahead && flow->arrived[gone].start <= flow->frontier) {
            if (flow->arrived[gone].end > flow->frontier) flow->frontier = flow->arrived[gone].end;
            gone++;
        }
        if (gone) {
            flow->ahead -= gone;
            memmove(flow->arrived, flow->arrived + gone, flow->ahead * sizeof *flow->arrived);
        }
        return;
    }
    /* those from `low` up to `high` touch it */
    for (low = 0; low < flow->ahead && flow->arrived[low].end < start; low++);
    for (high = low; high < flow->ahead && flow->arrived[high].start <= end; high++) {
        if (flow->arrived[high].start < start) start = flow->arrived[high].start;
        if (flow->arrived[high].end > end) end = flow->arrived[high].end;
    }
    if (low == high) {
        memmove(flow->arrived + low + 1, flow->arrived + low, (flow->ahead - low) * sizeof *flow->arrived);
        flow->ahead++;
    } else if (high > low + 1) {
        memmove(flow->arrived + low + 1, flow->arrived + high, (flow->ahead - high) * sizeof *flow->arrived);
        flow->ahead -= high - low - 1;
    }
    flow->arrived[low].start = start;
    flow->arrived[low].end = end;
    if (flow->ahead > WSREC_HOLES) wsrec_give_up_smallest(flow);
}

/* nothing more of the flow is told */
static inline void wsrec_break(wsrec_output *out, wsrec_flow *flow, uint64_t stamp, uint32_t reason) {
    flow->broken = 1;
    wsrec_drop_chunks(flow);
    wsrec_emit(out, flow, WSREC_BROKEN, flow->frontier, 0, stamp, 0, reason);
}

/* the server's SYN: stream offsets begin behind it. Of two that contradict each other TCP took one, it is not known which */
static inline void wsrec_opened(wsrec_output *out, wsrec_flow *flow, uint32_t sequence, uint64_t stamp, uint8_t nic,
                                int interface) {
    if (flow->open) {
        if (flow->first != sequence + 1 && !flow->broken) wsrec_break(out, flow, stamp, WSREC_CONTRADICTED);
        return;
    }
    flow->first = sequence + 1;
    flow->open = 1;
    flow->interface = interface;
    wsrec_emit(out, flow, WSREC_OPEN, 0, 0, stamp, nic ? WSREC_NIC : 0, 0);
}

/* a segment of the flow with payload */
static inline void wsrec_arrived(wsrec_output *out, wsrec_flow *flow, const wsrec_arrival *got) {
    uint8_t nic = got->nic ? WSREC_NIC : 0;
    int64_t position;
    uint64_t start, end, from, top;
    uint32_t captured = got->captured, place = 0;
    const uint8_t *data = got->payload;

    if (!flow->open || flow->broken || !got->length) return;
    if (got->stamp && got->stamp == flow->last_stamp && got->sequence == flow->last_sequence
        && got->length == flow->last_length)
        return;
    position = (int64_t)flow->frontier + (int32_t)(got->sequence - (uint32_t)(flow->first + flow->frontier));
    top = flow->ahead ? flow->arrived[flow->ahead - 1].end : flow->frontier;
    /* a hole so far behind what arrives in order is not TCP's: the capture did not see what filled it */
    while (flow->ahead && position > (int64_t)flow->frontier + got->window && position <= (int64_t)top)
        wsrec_give_up_hole(flow);
    if (position > (int64_t)flow->frontier + got->window || position < (int64_t)flow->frontier - got->window) return;
    end = (uint64_t)(position + got->length);
    if (position + (int64_t)got->length <= 0) return;
    if (got->urgent) {
        wsrec_break(out, flow, got->stamp, WSREC_URGENT);
        return;
    }
    flow->last_stamp = got->stamp;
    flow->last_sequence = got->sequence;
    flow->last_length = got->length;
    if (position < 0) {
        uint32_t cut = (uint32_t)-position;
        data += captured < cut ? captured : cut;
        captured -= captured < cut ? captured : cut;
        position = 0;
    }
    start = from = (uint64_t)position;

    /* in turn: what was there before, and what is new */
    while (from < end) {
        uint64_t covered = from < flow->frontier ? flow->frontier : from, until = end;
        if (covered == from) {
            while (place < flow->ahead && flow->arrived[place].end <= from) place++;
            if (place < flow->ahead) {
                if (flow->arrived[place].start <= from) covered = flow->arrived[place].end;
                else if (flow->arrived[place].start < end) until = flow->arrived[place].start;
            }
        }
        if (covered > from) {
            if (covered > end) covered = end;
            if (got->stamp && got->interface == flow->interface)
                wsrec_emit(out, flow, WSREC_SEGMENT, from, covered - from, got->stamp, nic | WSREC_REPEATED, 0);
            from = covered;
        } else {
            uint8_t flags = nic;
            uint64_t skip = from - start;
            if (until <= top) flags |= WSREC_FILLED;
            /* what is new in this segment has no hole before it unless the segment itself has one */
            /* nor is it known of one that the capture's own drops may have made */
            if (start > flow->frontier && got->now >= flow->heal_until) flags |= WSREC_AHEAD;
            if (got->stamp) wsrec_emit(out, flow, WSREC_SEGMENT, from, until - from, got->stamp, flags, 0);
            wsrec_feed_records(out, flow, from, until, data + (skip < captured ? skip : captured),
                               skip < captured ? (captured - skip < until - from ? (uint32_t)(captured - skip) : (uint32_t)(until - from)) : 0);
            from = until;
        }
    }
    if (!got->stamp) wsrec_lose(out, 1, out->utc, out->utc);
    wsrec_cover(flow, start, end);
    if (flow->ahead && got->now < flow->heal_until) {
        flow->frontier = flow->arrived[flow->ahead - 1].end;
        flow->ahead = 0;
        if (flow->chunks) wsrec_break_records(out, flow);
    }
}

/* what the flow holds is released; it may be used for another */
static inline void wsrec_forget(wsrec_flow *flow) {
    wsrec_drop_chunks(flow);
    memset(flow, 0, sizeof *flow);
}

#endif
