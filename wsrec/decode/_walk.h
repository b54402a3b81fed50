/* One walk over the JSON of a message: it checks the grammar and finds the values at the wanted places. Both the field
   reader (_fields.pyx) and the table reader (_table_rows.pyx) are made of it.

   What is done with a value is the reader's: its header (_fields.h, _rows.h) defines `struct wsrec_noted` and
   `struct wsrec_reading`, includes this file, and then defines the four handlers below. They are inlined, so that a
   handler that does nothing costs nothing. */
#ifndef WSREC_WALK_H
#define WSREC_WALK_H

#include "_json.h"

/* A key or an element on a wanted path. Places are numbered; 0 is the message itself, so that 0 also stands for none. */
struct wsrec_place {
    uint64_t instance;    /* number of the current object at this place */
    uint64_t owner;       /* number of the object that last had this key */
    int32_t *children;    /* indexed by the first byte of the key; 0 for none */
    int32_t items;        /* first child for an element at a given position; 0 for none */
    int32_t each;         /* child for all other elements; 0 for none */
    int32_t sibling;      /* next child with the same first byte, or next of `items`; 0 for none */
    int32_t parent;
    uint32_t position;    /* of an element in `items` */
    uint32_t key_length;
    uint8_t *key;
    struct wsrec_noted noted;
};

/* `limit`: end of the memory that may be read; `quotes`: one bit per byte of the message. */
struct wsrec_message {
    const uint8_t *start, *end, *limit;
    uint64_t *quotes;
    struct wsrec_place *places;
    uint64_t instance;    /* number of the last object */
    int escapes;
    struct wsrec_reading reading;
};

/* A value at a wanted place. */
static inline void wsrec_note(
    const struct wsrec_message *m, struct wsrec_place *place, const uint8_t *start, const uint8_t *end, int32_t kind
);
/* An object or an array at a wanted place begins; 0: Python has to read the message. */
static inline int wsrec_enter_object(struct wsrec_message *m, struct wsrec_place *place);
static inline int wsrec_enter_array(struct wsrec_message *m, struct wsrec_place *place);
/* An element of an array with an `each` has been read; 0 as above. */
static inline int wsrec_end_element(struct wsrec_message *m, struct wsrec_place *array);

static inline struct wsrec_noted *wsrec_noted_at(struct wsrec_place *places, int32_t index) {
    return &places[index].noted;
}

static inline struct wsrec_place *wsrec_child(
    const struct wsrec_message *m, const struct wsrec_place *place, const uint8_t *key, uint32_t length
) {
    for (int32_t i = length ? place->children[*key] : 0; i; i = m->places[i].sibling)
        if (m->places[i].key_length == length && (length == 1 || wsrec_same(m->places[i].key, key, length)))
            return &m->places[i];
    return NULL;
}

/* The place of the element at a position of an array. */
static inline struct wsrec_place *wsrec_element(
    const struct wsrec_message *m, const struct wsrec_place *array, uint32_t position
) {
    for (int32_t i = array->items; i; i = m->places[i].sibling)
        if (m->places[i].position == position) return &m->places[i];
    return array->each ? &m->places[array->each] : NULL;
}

/* Check a message with marked quotes against the grammar and note its wanted values; 0 if it does not fit or Python has
   to decide.

   The message begins and ends with a bracket. So any other byte is not the last one, and the byte after it can be read
   without a check for the end of the message. */
static int wsrec_walk(struct wsrec_message *m) {
    const uint8_t *p = m->start, *end = m->end, *base = m->start - 64, *open, *close;
    const uint64_t *quotes = m->quotes, *quotes_end = m->quotes + (m->end - m->start + 63) / 64;
    /* place: of the value; around: of the object or array that contains it, if something of that is wanted */
    struct wsrec_place *outer[64], *around = NULL, *place = m->places;
    uint32_t outer_position[64], position = 0;  /* in the containing array */
    uint64_t bits = 0, objects = 0;  /* one bit per level of nesting: whether it is an object */
    int depth = 0;
    int32_t kind;

#define NEXT_QUOTE(quote) \
    while (!bits) { \
        if (quotes == quotes_end) return 0; \
        bits = *quotes++; \
        base += 64; \
    } \
    quote = base + __builtin_ctzll(bits); \
    bits &= bits - 1;

value:
    if (*p == '"') {
        NEXT_QUOTE(open)
        NEXT_QUOTE(close)
        if (place) {
            open++;
            kind = m->escapes && memchr(open, '\\', (size_t)(close - open)) ? WSREC_UNDECIDED : WSREC_TEXT;
            wsrec_note(m, place, open, close, kind);
        }
        p = close + 1;
    } else if ((uint8_t)(*p - '0') <= 9 || *p == '-') {
        open = p;
        p = wsrec_number(p, m->limit, &kind);
        if (!p) return 0;
        if (place) wsrec_note(m, place, open, p, kind);
    } else if (*p == '{') {
        if (depth == 64) return 0;
        outer_position[depth] = position;
        outer[depth++] = around;
        objects = objects << 1 | 1;
        around = NULL;
        if (place) {
            wsrec_note(m, place, p, p, WSREC_OTHER);
            if (!wsrec_enter_object(m, place)) return 0;
            if (place->children) {
                around = place;
                around->instance = ++m->instance;
            }
        }
        p++;
        while (wsrec_is_space(*p)) p++;
        if (*p == '}') goto closed;
        goto key;
    } else if (*p == '[') {
        if (depth == 64) return 0;
        outer_position[depth] = position;
        outer[depth++] = around;
        objects <<= 1;
        around = NULL;
        if (place) {
            wsrec_note(m, place, p, p, WSREC_OTHER);
            if (!wsrec_enter_array(m, place)) return 0;
            if (place->each || place->items) around = place;
        }
        place = NULL;
        p++;
        while (wsrec_is_space(*p)) p++;
        if (*p == ']') goto closed;
        if (around) {
            position = 0;
            place = wsrec_element(m, around, 0);
            goto value;
        }
        /* a book is mostly arrays of strings: a price and a size */
        while (*p == '"') {
            NEXT_QUOTE(open)
            NEXT_QUOTE(close)
            p = close + 1;
            if (*p != ',') goto between;
            p++;
        }
        goto value;
    } else if (wsrec_is_space(*p)) {
        p++;
        goto value;
    } else {
        open = p;
        if (end - p > 4 && !memcmp(p, "null", 4)) {
            p += 4;
            place = NULL;  /* null counts as absent */
        } else if (end - p > 4 && !memcmp(p, "true", 4)) p += 4;
        else if (end - p > 5 && !memcmp(p, "false", 5)) p += 5;
        else return 0;
        if (place) wsrec_note(m, place, open, p, WSREC_LITERAL);
    }
after:
    if (around && !(objects & 1) && around->each && !wsrec_end_element(m, around)) return 0;
between:
    if (*p == ',') {
        p++;
        if (objects & 1) goto key;
        place = around ? wsrec_element(m, around, ++position) : NULL;
        goto value;
    }
    if (*p != (objects & 1 ? '}' : ']')) {
        if (!wsrec_is_space(*p++)) return 0;
        goto between;
    }
closed:
    p++;
    objects >>= 1;
    around = outer[--depth];
    position = outer_position[depth];
    if (!depth || p == end) return !depth && p == end;
    goto after;
key:
    while (*p != '"')
        if (!wsrec_is_space(*p++)) return 0;
    NEXT_QUOTE(open)
    NEXT_QUOTE(close)
    place = NULL;
    if (around) {
        open++;
        if (m->escapes && memchr(open, '\\', (size_t)(close - open))) return 0;
        place = wsrec_child(m, around, open, (uint32_t)(close - open));
        if (place) {
            if (place->owner == around->instance) return 0;
            place->owner = around->instance;
        }
    }
    p = close + 1;
    while (*p != ':')
        if (!wsrec_is_space(*p++)) return 0;
    p++;
    goto value;
#undef NEXT_QUOTE
}

/* Whether it is a JSON object or array, whose wanted values are noted; 0 also if Python has to decide. Strips the white
   space around it. */
static inline int wsrec_is_message(struct wsrec_message *m) {
    while (m->start < m->end && wsrec_is_space(*m->start)) m->start++;
    while (m->start < m->end && wsrec_is_space(m->end[-1])) m->end--;
    return m->start < m->end && (*m->start == '{' || *m->start == '[') && (m->end[-1] == '}' || m->end[-1] == ']')
        && wsrec_mark(m->start, m->end, m->limit, m->quotes, &m->escapes) && wsrec_walk(m);
}

#endif
