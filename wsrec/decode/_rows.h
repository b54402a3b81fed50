/* The rows in a message: what the table reader (_table_rows.pyx) keeps of each wanted place, of the message and of each
   element of the wanted arrays. Nothing here knows tables. */
#ifndef WSREC_ROWS_H
#define WSREC_ROWS_H

#include <stdlib.h>
#include "_json.h"

/* ns since the epoch; times before it are none (`wsrec.decode.row_values.NO_TIME`) */
static const int64_t WSREC_NO_TIME = (int64_t)86400 * 1000000000;

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

#endif
