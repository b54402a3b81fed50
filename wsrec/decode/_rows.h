/* The rows in a message: what the table reader (_table_rows.pyx) keeps of each wanted place, of the message and of each
   element of the wanted arrays. Nothing here knows tables. */
#ifndef WSREC_ROWS_H
#define WSREC_ROWS_H

#include <stdlib.h>
#include "_json.h"

enum { WSREC_ABSENT = -1 };  /* kind of a value that is not there; null counts as absent */

/* Where the value at a place is noted. */
struct wsrec_noted {
    int32_t wanted, scope, cell;
    int32_t rows;  /* of an `each`: the scope that its elements are rows of */
};

/* The message (scope 0, one row), or the elements of an array. Cell 0 of an element is the element itself. */
struct wsrec_scope {
    struct wsrec_value *cells;  /* `width` of each row */
    int32_t *parents;           /* of each row the row of `parent` that it lies in */
    int32_t parent, width;
    uint32_t count, room;       /* rows; the one at `count` is being read */
};

struct wsrec_reading {
    struct wsrec_scope *scopes;
    int32_t scope_count;
};

#include "_walk.h"

/* Make room for the next row and begin it; 0 without memory. */
static inline int wsrec_begin_row(struct wsrec_message *m, struct wsrec_scope *scope) {
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
    scope->parents[scope->count] = (int32_t)m->reading.scopes[scope->parent].count;
    return 1;
}

static inline void wsrec_note(
    const struct wsrec_message *m, struct wsrec_place *place, const uint8_t *start, const uint8_t *end, int32_t kind
) {
    struct wsrec_scope *scope;
    struct wsrec_value *value;
    if (!place->noted.wanted) return;
    scope = &m->reading.scopes[place->noted.scope];
    value = &scope->cells[(size_t)scope->count * scope->width + place->noted.cell];
    value->start = start;
    value->length = (uint32_t)(end - start);
    value->kind = kind;
}

static inline struct wsrec_scope *wsrec_scope_of(const struct wsrec_message *m, const struct wsrec_place *array) {
    return &m->reading.scopes[m->places[array->each].noted.rows];
}

static inline int wsrec_enter_object(struct wsrec_message *m, struct wsrec_place *place) {
    (void)m;
    return !place->each;  /* members as rows */
}

static inline int wsrec_enter_array(struct wsrec_message *m, struct wsrec_place *place) {
    return !place->each || wsrec_begin_row(m, wsrec_scope_of(m, place));
}

static inline int wsrec_end_element(struct wsrec_message *m, struct wsrec_place *array) {
    struct wsrec_scope *scope = wsrec_scope_of(m, array);
    if (scope->cells[(size_t)scope->count * scope->width].kind == WSREC_ABSENT) return 0;  /* null is no row */
    scope->count++;
    return wsrec_begin_row(m, scope);
}

/* Note the rows of a message; 0 if it is no JSON object or array, or Python has to decide. */
static inline int wsrec_read_rows(struct wsrec_message *m) {
    for (int32_t i = 0; i < m->reading.scope_count; i++) m->reading.scopes[i].count = 0;
    return wsrec_begin_row(m, &m->reading.scopes[0]) && wsrec_is_message(m);
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
