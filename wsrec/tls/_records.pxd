from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef extern from "_records.h":
    ctypedef struct Records "wsrec_records":
        void *cipher
        uint64_t sequence
        uint8_t tls13
        signed char refused

    # what `open_record` returns besides a size and the numbers of `wsrec.tls.records.Refusal`
    cdef enum:
        INCOMPLETE "WSREC_INCOMPLETE"
        NO_ROOM "WSREC_NO_ROOM"


cdef class RecordReader:
    cdef Records _records

    # the size of the content in `into`, INCOMPLETE, NO_ROOM, or a refusal, from which `error` makes an exception
    cdef int64_t open_record(
        self, const uint8_t *data, size_t size, uint8_t *into, size_t room, size_t *consumed, uint8_t *content_type
    ) noexcept nogil
    cdef int _take(self, keys) except -1
