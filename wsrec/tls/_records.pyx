# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled record layer of received TLS records: the same behaviour as `wsrec.tls.records`, in `_records.h`.

`open_record` is what the hot path calls. libcrypto's functions are called by their addresses in the library that
Python's `ssl` uses, so this compiles without OpenSSL's headers, and loads where there is no such library.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t

from wsrec.tls.libcrypto import CIPHER_FUNCTIONS, LibcryptoError, address
from wsrec.tls.records import ROOM, Opened, RecordError, Refusal


cdef extern from "_records.h":
    ctypedef struct Libcrypto "wsrec_libcrypto":
        void *(*cipher_ctx_new)() noexcept nogil
        void (*cipher_ctx_free)(void *) noexcept nogil
        int (*cipher_ctx_ctrl)(void *, int, int, void *) noexcept nogil
        int (*decrypt_init)(void *, const void *, void *, const uint8_t *, const uint8_t *) noexcept nogil
        int (*decrypt_update)(void *, uint8_t *, int *, const uint8_t *, int) noexcept nogil
        int (*decrypt_final)(void *, uint8_t *, int *) noexcept nogil
        void (*cleanse)(void *, size_t) noexcept nogil
        void (*clear_error)() noexcept nogil

    bint wsrec_records_set_key(
        Records *records, const Libcrypto *libcrypto, const void *cipher, const uint8_t *key, const uint8_t *iv,
        size_t iv_size, bint tls13, uint64_t sequence,
    ) noexcept nogil
    void wsrec_records_wipe(Records *records) noexcept nogil
    int64_t wsrec_records_open(
        Records *records, const uint8_t *data, size_t size, uint8_t *into, size_t room, size_t *consumed,
        uint8_t *content_type,
    ) noexcept nogil
    uint64_t wsrec_records_time(
        Records *records, const uint8_t *data, size_t size, uint8_t *into, size_t room, uint64_t count, bint alone
    ) noexcept nogil


ctypedef const void *(*CipherFunction)() noexcept nogil

cdef Libcrypto _libcrypto
_libcrypto.cipher_ctx_new = NULL


cdef int _load() except -1:
    """Find libcrypto's functions, once."""
    if _libcrypto.cipher_ctx_new is NULL:
        _libcrypto.cipher_ctx_free = <void (*)(void *) noexcept nogil><uintptr_t>address("EVP_CIPHER_CTX_free")
        _libcrypto.cipher_ctx_ctrl = <int (*)(void *, int, int, void *) noexcept nogil><uintptr_t>address(
            "EVP_CIPHER_CTX_ctrl"
        )
        _libcrypto.decrypt_init = <int (*)(
            void *, const void *, void *, const uint8_t *, const uint8_t *
        ) noexcept nogil><uintptr_t>address("EVP_DecryptInit_ex")
        _libcrypto.decrypt_update = <int (*)(
            void *, uint8_t *, int *, const uint8_t *, int
        ) noexcept nogil><uintptr_t>address("EVP_DecryptUpdate")
        _libcrypto.decrypt_final = <int (*)(void *, uint8_t *, int *) noexcept nogil><uintptr_t>address(
            "EVP_DecryptFinal_ex"
        )
        _libcrypto.cleanse = <void (*)(void *, size_t) noexcept nogil><uintptr_t>address("OPENSSL_cleanse")
        _libcrypto.clear_error = <void (*)() noexcept nogil><uintptr_t>address("ERR_clear_error")
        # last: it says that all are there
        _libcrypto.cipher_ctx_new = <void *(*)() noexcept nogil><uintptr_t>address("EVP_CIPHER_CTX_new")
    return 0


cdef class RecordReader:
    """Opens the records of one direction, in their order; its interface is that of the Python class."""

    def __cinit__(self, *_):
        # refuses everything until there are keys
        wsrec_records_wipe(&self._records)

    def __init__(self, keys):
        self._take(keys)

    def __dealloc__(self):
        wsrec_records_wipe(&self._records)

    @property
    def sequence(self):
        """Number of the next record."""
        return self._records.sequence

    def open(self, const uint8_t[::1] data not None, uint8_t[::1] into not None):
        """See the Python class."""
        cdef size_t consumed = 0
        cdef uint8_t content_type = 0, nothing = 0
        # an empty view has no first byte to point at
        cdef const uint8_t *start = &data[0] if data.shape[0] else &nothing
        cdef uint8_t *target = &into[0] if into.shape[0] else &nothing
        cdef int64_t size = self.open_record(
            start, <size_t>data.shape[0], target, <size_t>into.shape[0], &consumed, &content_type
        )
        if size >= 0:
            return Opened(consumed, size, content_type)
        if size == INCOMPLETE:
            return None
        if size == NO_ROOM:
            raise ValueError(f"a TLS record has no room in {into.shape[0]} bytes")
        raise self.error(size)

    cdef int64_t open_record(
        self, const uint8_t *data, size_t size, uint8_t *into, size_t room, size_t *consumed, uint8_t *content_type
    ) noexcept nogil:
        return wsrec_records_open(&self._records, data, size, into, room, consumed, content_type)

    def error(self, code):
        """The exception for a refusal that `open_record` returned."""
        return RecordError(Refusal(code), "TLSv1.3" if self._records.tls13 else "TLSv1.2")

    def change_keys(self, keys):
        """See the Python class."""
        if self._records.refused:
            raise self.error(self._records.refused)
        self._take(keys)

    def wipe(self):
        """See the Python class."""
        wsrec_records_wipe(&self._records)

    cdef int _take(self, keys) except -1:
        _load()
        cdef const uint8_t[::1] key = keys.key, iv = keys.iv
        cipher_name = keys.suite.cipher
        if (key.shape[0], iv.shape[0]) != (keys.suite.key_size, keys.suite.iv_size):
            raise ValueError(f"a key of {cipher_name} has another size than {key.shape[0]} and {iv.shape[0]} bytes")
        cdef CipherFunction cipher = <CipherFunction><uintptr_t>address(CIPHER_FUNCTIONS[cipher_name])
        if not wsrec_records_set_key(
            &self._records, &_libcrypto, cipher(), &key[0], &iv[0], <size_t>iv.shape[0],
            keys.version == "TLSv1.3", keys.sequence,
        ):
            raise LibcryptoError(f"libcrypto refuses {cipher_name}")
        return 0


def open_ns(RecordReader reader not None, const uint8_t[::1] record not None, uint64_t count):
    """CPU time (ns) that opening the reader's next record `count` times takes; the reader stays before it."""
    return _time(reader, record, count, False)


def aead_ns(RecordReader reader not None, const uint8_t[::1] record not None, uint64_t count):
    """The same of libcrypto's functions alone: nonce, additional data, decryption and tag."""
    return _time(reader, record, count, True)


cdef _time(RecordReader reader, const uint8_t[::1] record, uint64_t count, bint alone):
    cdef uint8_t[::1] into = bytearray(ROOM)
    cdef uint64_t taken = 0
    if record.shape[0]:
        with nogil:
            taken = wsrec_records_time(
                &reader._records, &record[0], <size_t>record.shape[0], &into[0], <size_t>into.shape[0], count, alone
            )
    if not taken:
        raise ValueError("not the reader's next record")
    return taken
