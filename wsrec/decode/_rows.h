/* The rows in a message: one walk over its JSON notes the values at the wanted places of the message and of each element
   of the wanted arrays. Nothing here knows tables: _table_rows.pyx makes columns of what is noted. */
#ifndef WSREC_ROWS_H
#define WSREC_ROWS_H

#include <stdlib.h>
#include "_json.h"

enum { WSREC_ABSENT = -1 };  /* kind of a value that is not there; null counts as absent */

/* A key or an element on a wanted path. */
struct wsrec_place {
    uint64_t instance;    /* number of the current object at this place */
    uint64_t owner;       /* number of the object that last had this key */
    int32_t *children;    /* indexed by the first byte of the key; 0 for none */
    int32_t items;        /* first child for an element at a given position; 0 for none */
    int32_t each;         /* child for every element, whose values are rows of `rows`; 0 for none */
    int32_t sibling;      /* next child with the same first byte, or next of `items`; 0 for none */
    int32_t scope, cell;  /* where its value is noted; cell -1: not wanted */
    int32_t rows;         /* of an `each`: the scope that its elements are rows of */
    uint32_t position;    /* of an element in `items` */
    uint32_t key_length;
    const uint8_t *key;
};

/* The message (scope 0, one row), or the elements of an array. Cell 0 of an element is the element itself. */
struct wsrec_scope {
    struct wsrec_value *cells;  /* `width` of each row */
    int32_t *parents;           /* of each row the row of `parent` that it lies in */
    int32_t parent, width;
    uint32_t count, room;       /* rows; the one at `count` is being read */
};

struct wsrec_rows {
    const uint8_t *start, *end, *limit;
    uint64_t *quotes;
    struct wsrec_place *places;
    struct wsrec_scope *scopes;
    int32_t scope_count;
    uint64_t instance;
    int escapes;
};

/* Make room for the next row and begin it; 0 without memory. */
static inline int wsrec_begin_row(struct wsrec_rows *m, struct wsrec_scope *scope) {
    if (scope->count == scope->room) {
        uint32_t room = scope->room ? scope->room * 2 : 64;
        void *cells = realloc(scope->cells, (size_t)room * scope->width * sizeof(struct wsrec_value));
        if (!cells) return 0;
        scope->cells = cells;
        void *parents = realloc(scope->parents, (size_t)room * sizeof(int32_t));
        if (!parents) return 0;
        scope->parents = parents;
        scope->room = room;
    }
    /* kinds of -1 */
    memset(scope->cells + (size_t)scope->count * scope->width, 0xFF, scope->width * sizeof(struct wsrec_value));
    scope->parents[scope->count] = (int32_t)m->scopes[scope->parent].count;
    return 1;
}

static inline void wsrec_note_at(
    const struct wsrec_rows *m, const struct wsrec_place *place, const uint8_t *start, const uint8_t *end, int32_t kind
) {
    struct wsrec_scope *scope;
    struct wsrec_value *value;
    if (place->cell < 0) return;
    scope = &m->scopes[place->scope];
    value = &scope->cells[(size_t)scope->count * scope->width + place->cell];
    value->start = start;
    value->length = (uint32_t)(end - start);
    value->kind = kind;
}

static inline struct wsrec_place *wsrec_place_of(
    const struct wsrec_rows *m, const struct wsrec_place *place, const uint8_t *key, uint32_t length
) {
    for (int32_t i = length ? place->children[*key] : 0; i; i = m->places[i].sibling)
        if (m->places[i].key_length == length && (length == 1 || wsrec_same(m->places[i].key, key, length)))
            return &m->places[i];
    return NULL;
}

/* The place of the element at a position of an array. */
static inline struct wsrec_place *wsrec_place_at(
    const struct wsrec_rows *m, const struct wsrec_place *array, uint32_t position
) {
    if (array->each) return &m->places[array->each];
    for (int32_t i = array->items; i; i = m->places[i].sibling)
        if (m->places[i].position == position) return &m->places[i];
    return NULL;
}

/* Check a message with marked quotes against the grammar and note its wanted values; 0 if it does not fit or Python has
   to decide: as `wsrec_walk` of _fields.pyx, with rows. */
static int wsrec_walk_rows(struct wsrec_rows *m) {
    const uint8_t *p = m->start, *end = m->end, *base = m->start - 64, *open, *close;
    const uint64_t *quotes = m->quotes, *quotes_end = m->quotes + (m->end - m->start + 63) / 64;
    /* place: of the value; around: of the object or array that contains it, if something of that is wanted */
    struct wsrec_place *outer[64], *around = NULL, *place = m->places;
    uint32_t outer_position[64], position = 0;
    uint64_t bits = 0, objects = 0;
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
            wsrec_note_at(m, place, open, close, kind);
        }
        p = close + 1;
    } else if ((uint8_t)(*p - '0') <= 9 || *p == '-') {
        open = p;
        p = wsrec_number(p, m->limit, &kind);
        if (!p) return 0;
        if (place) wsrec_note_at(m, place, open, p, kind);
    } else if (*p == '{' || *p == '[') {
        int is_object = *p == '{';
        if (depth == 64) return 0;
        outer_position[depth] = position;
        outer[depth++] = around;
        objects = objects << 1 | (uint64_t)is_object;
        around = NULL;
        if (place) {
            wsrec_note_at(m, place, p, p, WSREC_OTHER);
            if (is_object && place->each) return 0;  /* members as rows */
            if (is_object ? place->children != NULL : place->each || place->items) around = place;
            if (is_object && around) around->instance = ++m->instance;
        }
        p++;
        while (wsrec_is_space(*p)) p++;
        if (*p == (is_object ? '}' : ']')) goto closed;
        if (is_object) goto key;
        place = NULL;
        if (around) {
            position = 0;
            if (around->each && !wsrec_begin_row(m, &m->scopes[m->places[around->each].rows])) return 0;
            place = wsrec_place_at(m, around, 0);
            goto value;
        }
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
            place = NULL;
        } else if (end - p > 4 && !memcmp(p, "true", 4)) p += 4;
        else if (end - p > 5 && !memcmp(p, "false", 5)) p += 5;
        else return 0;
        if (place) wsrec_note_at(m, place, open, p, WSREC_LITERAL);
    }
after:
    if (around && !(objects & 1) && around->each) {
        struct wsrec_scope *scope = &m->scopes[m->places[around->each].rows];
        if (scope->cells[(size_t)scope->count * scope->width].kind == WSREC_ABSENT) return 0;  /* null is no row */
        scope->count++;
        if (!wsrec_begin_row(m, scope)) return 0;
    }
between:
    if (*p == ',') {
        p++;
        if (objects & 1) goto key;
        place = around ? wsrec_place_at(m, around, ++position) : NULL;
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
        place = wsrec_place_of(m, around, open, (uint32_t)(close - open));
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

/* Note the rows of a message; 0 if it is no JSON object or array, or Python has to decide. */
static inline int wsrec_read_rows(struct wsrec_rows *m) {
    while (m->start < m->end && wsrec_is_space(*m->start)) m->start++;
    while (m->start < m->end && wsrec_is_space(m->end[-1])) m->end--;
    if (m->start == m->end || (*m->start != '{' && *m->start != '[') || (m->end[-1] != '}' && m->end[-1] != ']')) return 0;
    for (int32_t i = 0; i < m->scope_count; i++) m->scopes[i].count = 0;
    if (!wsrec_begin_row(m, &m->scopes[0])) return 0;
    return wsrec_mark(m->start, m->end, m->limit, m->quotes, &m->escapes) && wsrec_walk_rows(m);
}

/* A number as its digits: without sign, zeros in front and behind, and point; times 10**exponent. */
struct wsrec_numeral {
    const uint8_t *start;  /* first digit that is not zero */
    int32_t digits;        /* from there to the last one that is not zero, without the point */
    int32_t exponent;
    int negative;
};

/* Parse a number as exchanges write them (`wsrec.decode.row_values.is_number`); 0 if it is none. */
static inline int wsrec_parse_numeral(const uint8_t *p, const uint8_t *end, struct wsrec_numeral *found) {
    const uint8_t *first = NULL;
    int32_t point = 0, seen = 0, exponent = 0, count = 0, significant = 0;
    if (end - p > 100 || p == end) return 0;
    found->negative = *p == '-';
    if (*p == '-' || *p == '+') p++;
    for (; p < end; p++) {
        if (*p == '.') {
            if (point++) return 0;
            continue;
        }
        if ((uint8_t)(*p - '0') > 9) break;
        seen++;
        exponent -= point;
        if (*p != '0' && !first) first = p;
        if (first) count++;
        if (*p != '0') significant = count;
    }
    if (!seen) return 0;
    if (p < end) {
        int32_t power = 0, negative;
        if ((*p | 32) != 'e' || ++p == end) return 0;
        negative = *p == '-';
        if (*p == '-' || *p == '+') p++;
        if (p == end || end - p > 4) return 0;
        for (; p < end; p++) {
            if ((uint8_t)(*p - '0') > 9) return 0;
            power = power * 10 + (*p - '0');
        }
        exponent += negative ? -power : power;
    }
    found->start = first;
    found->digits = significant;
    found->exponent = exponent + (count - significant);
    return 1;
}

/* The digits of a numeral of at most 19, as an integer. */
static inline uint64_t wsrec_mantissa(const struct wsrec_numeral *numeral) {
    uint64_t sum = 0;
    const uint8_t *p = numeral->start;
    for (int32_t left = numeral->digits; left; p++)
        if (*p != '.') {
            sum = sum * 10 + (uint64_t)(*p - '0');
            left--;
        }
    return sum;
}

/* Whether two numerals are the same number. */
static inline int wsrec_equal(const struct wsrec_numeral *a, const struct wsrec_numeral *b) {
    const uint8_t *p = a->start, *q = b->start;
    if (a->digits != b->digits) return 0;
    if (!a->digits) return 1;
    if (a->exponent != b->exponent || a->negative != b->negative) return 0;
    for (int32_t left = a->digits; left; left--, p++, q++) {
        if (*p == '.') p++;
        if (*q == '.') q++;
        if (*p != *q) return 0;
    }
    return 1;
}

#endif
