/* The values at a feed's field paths: what the field reader (_fields.pyx) keeps of each wanted place. */
#ifndef WSREC_FIELDS_H
#define WSREC_FIELDS_H

#include "_json.h"

/* The values at a place; valid if `epoch` is the message's. */
struct wsrec_noted {
    uint64_t epoch;
    struct wsrec_value first, last;  /* equal, unless the path has an array's every element */
    int32_t left;     /* child whose subtree only Python reads; 0 for none */
    int32_t also;     /* place below an `each` that gets the values of this one as well; 0 for none */
    int32_t alike;    /* whether its values are compared with one another */
    int32_t differs;  /* whether these texts differ; other differing values make `first` undecided */
};

struct wsrec_reading {
    uint64_t epoch;
    int32_t place_count;
};

#include "_walk.h"

static inline void wsrec_note(
    const struct wsrec_message *m, struct wsrec_place *place, const uint8_t *start, const uint8_t *end, int32_t kind
) {
    struct wsrec_value value = {start, (uint32_t)(end - start), kind};
    for (;;) {
        struct wsrec_noted *noted = &place->noted;
        if (noted->epoch != m->reading.epoch) {
            noted->epoch = m->reading.epoch;
            noted->first = value;
            noted->differs = 0;
        } else if (noted->alike) {
            if (value.kind != noted->first.kind) noted->first.kind = WSREC_UNDECIDED;
            else if (value.length != noted->first.length || !wsrec_same(value.start, noted->first.start, value.length)) {
                if (kind == WSREC_TEXT) noted->differs = 1;
                else noted->first.kind = WSREC_UNDECIDED;
            }
        }
        noted->last = value;
        if (!noted->also) return;
        place = &m->places[noted->also];
    }
}

/* Mark a place and those below as undecided: Python has to read them. */
static void wsrec_leave(const struct wsrec_message *m, int32_t top) {
    for (int32_t i = top; i < m->reading.place_count; i++) {
        int32_t above = i;
        while (above && above != top) above = m->places[above].parent;
        if (!above) continue;
        for (int32_t n = i; n; n = m->places[n].noted.also) {
            struct wsrec_noted *noted = &m->places[n].noted;
            noted->epoch = m->reading.epoch;
            noted->differs = 0;
            noted->first.kind = noted->last.kind = WSREC_UNDECIDED;
        }
    }
}

static inline int wsrec_enter_object(struct wsrec_message *m, struct wsrec_place *place) {
    if (place->each) wsrec_leave(m, place->each);
    if (place->noted.left) wsrec_leave(m, place->noted.left);
    return 1;
}

static inline int wsrec_enter_array(struct wsrec_message *m, struct wsrec_place *place) {
    if (place->noted.left) wsrec_leave(m, place->noted.left);
    return 1;
}

static inline int wsrec_end_element(struct wsrec_message *m, struct wsrec_place *array) {
    (void)m, (void)array;
    return 1;
}

static inline uint64_t wsrec_mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 32);
}

static inline uint64_t wsrec_hash(const uint8_t *p, uint32_t length, uint64_t seed) {
    uint64_t hash = seed ^ length, word;
    const uint8_t *end = p + length;
    if (length < 8) return wsrec_mix(hash, wsrec_few(p, length));
    for (; end - p > 8; p += 8) {
        memcpy(&word, p, 8);
        hash = wsrec_mix(hash, word);
    }
    memcpy(&word, end - 8, 8);
    return wsrec_mix(hash, word);
}

#endif
