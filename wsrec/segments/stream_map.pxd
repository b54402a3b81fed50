from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


# The producer's side of a stream map in compiled code; the layout is that of MAP_DTYPE (tests/segments/test_rings.py)
cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    typedef struct {
        uint64_t count, offset;
        uint32_t flow;
        uint16_t conn;
        uint8_t kind, flags;
        uint16_t tail, overhead;
        uint32_t size;
    } wsrec_map_record;
    _Static_assert(sizeof(wsrec_map_record) == 32, "a record of the stream map has 32 bytes");

    typedef struct {
        wsrec_map_record *records;
        uint64_t *published, *released;
        uint64_t mask, capacity;
        /* of all its records; `lost`: the one before found no room */
        uint32_t flow;
        uint16_t conn;
        uint8_t lost;
    } wsrec_stream_map;

    /* a RECORD (`MapKind`): the bytes up to `count` were brought by the stream up to `offset`, `tail` bytes behind them */
    static inline void wsrec_map_append(wsrec_stream_map *map, uint64_t count, uint64_t offset, uint16_t tail) {
        uint64_t published = *map->published;
        wsrec_map_record *record = &map->records[published & map->mask];
        if (published - __atomic_load_n(map->released, __ATOMIC_ACQUIRE) >= map->capacity) {
            map->lost = 1;
            return;
        }
        record->count = count;
        record->offset = offset;
        record->flow = map->flow;
        record->conn = map->conn;
        record->kind = 5;
        record->flags = map->lost;
        record->tail = tail;
        record->overhead = 0;
        record->size = 0;
        map->lost = 0;
        __atomic_store_n(map->published, published + 1, __ATOMIC_RELEASE);
    }
    """
    ctypedef struct wsrec_map_record:
        pass
    ctypedef struct wsrec_stream_map:
        wsrec_map_record *records
        uint64_t *published
        uint64_t *released
        uint64_t mask, capacity
        uint32_t flow
        uint16_t conn
        uint8_t lost
    void wsrec_map_append(wsrec_stream_map *map, uint64_t count, uint64_t offset, uint16_t tail) noexcept nogil
