from libc.stdint cimport uint64_t


# Compiled access to a counter's word, with acquire and release order
cdef extern from *:
    """
    #include <stdint.h>

    static inline uint64_t wsrec_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void wsrec_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    """
    uint64_t wsrec_load(const uint64_t *word) noexcept nogil
    void wsrec_store(uint64_t *word, uint64_t value) noexcept nogil
