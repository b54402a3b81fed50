# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The operations that `wsrec.bench.limits` times, in `_limits.h`, without the interpreter's lock.

libcrypto's functions are called by their addresses in the library that Python's `ssl` uses (`wsrec.tls.libcrypto`).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

from wsrec.host._clock cimport Mapping, mapping

from wsrec.tls.libcrypto import CIPHER_FUNCTIONS, LibcryptoError, address


ctypedef int (*Init)(void *, const void *, void *, const uint8_t *, const uint8_t *) noexcept nogil
ctypedef int (*Update)(void *, uint8_t *, int *, const uint8_t *, int) noexcept nogil
ctypedef int (*Ctrl)(void *, int, int, void *) noexcept nogil
ctypedef int (*Final)(void *, uint8_t *, int *) noexcept nogil

cdef extern from "_limits.h":
    ctypedef struct Evp "wsrec_evp":
        Init init
        Update update
        Ctrl ctrl
        Final final

    enum:
        AAD "WSREC_AAD"
        SEAL "WSREC_SEAL"
        MOMENTS "WSREC_MOMENTS"

    bint wsrec_evp_open(
        const Evp *evp, void *context, const uint8_t *nonce, const uint8_t *record, size_t plain, uint8_t *into
    ) noexcept nogil
    void wsrec_copies(uint8_t *into, const uint8_t *source, size_t size, int64_t count) noexcept nogil
    void wsrec_tick_reads(int64_t count) noexcept nogil
    void wsrec_stage_clock_reads(const Mapping *clock, int64_t count) noexcept nogil
    void wsrec_clock_reads(int64_t count) noexcept nogil
    void wsrec_getppids(int64_t count) noexcept nogil
    void wsrec_polls(int epoll, int64_t count) noexcept nogil
    int64_t wsrec_receives(int fd, uint8_t *into, size_t size, int64_t count) noexcept nogil
    int64_t wsrec_sends(int fd, const uint8_t *source, size_t size, int64_t count) noexcept nogil
    uint64_t wsrec_chase(const uint64_t *following, uint64_t at, int64_t count) noexcept nogil
    bint wsrec_wake(
        const Mapping *clock, int descriptor, uint32_t *word, const uint32_t *answer, int64_t *sent, int64_t count,
        uint64_t asleep
    ) noexcept nogil
    bint wsrec_woken(
        const Mapping *clock, int descriptor, uint32_t *word, uint32_t *answer, int64_t *woke, int64_t count
    ) noexcept nogil
    void wsrec_by_watching(
        const Mapping *clock, uint32_t *word, bint first, int64_t *took, int64_t count
    ) noexcept nogil
    bint wsrec_send_paced(
        const Mapping *clock, int fd, const uint8_t *record, size_t size, int64_t *sent, int64_t count, double gap
    ) noexcept nogil
    int64_t wsrec_floor(
        const Mapping *clock, int fd, int epoll, const Evp *evp, void *context, const uint8_t *nonce, size_t size,
        uint8_t *ciphertext, size_t room, uint8_t *ring, uint64_t *slots, size_t slot_count, uint64_t *published,
        int64_t *moments, int64_t count
    ) noexcept nogil


ctypedef void *(*New)() noexcept nogil
ctypedef void (*Free)(void *) noexcept nogil
ctypedef const void *(*CipherFunction)() noexcept nogil


cdef const Mapping *CLOCK = mapping()


def copies(uint8_t[::1] into not None, const uint8_t[::1] source not None, int64_t count):
    """Copy `source` into `into`, which is as long, `count` times."""
    cdef size_t size = <size_t>source.shape[0]
    if into.shape[0] < source.shape[0] or not size:
        raise ValueError("there is no room")
    with nogil:
        wsrec_copies(&into[0], &source[0], size, count)


def tick_reads(int64_t count):
    """Read the time stamp counter; on a processor without one nothing."""
    with nogil:
        wsrec_tick_reads(count)


def stage_clock_reads(int64_t count):
    """Read the clock of the stages."""
    with nogil:
        wsrec_stage_clock_reads(CLOCK, count)


def clock_reads(int64_t count):
    """Read CLOCK_MONOTONIC."""
    with nogil:
        wsrec_clock_reads(count)


def getppids(int64_t count):
    """Make the shortest of system calls."""
    with nogil:
        wsrec_getppids(count)


def polls(int epoll, int64_t count):
    """Poll an epoll descriptor, without waiting."""
    with nogil:
        wsrec_polls(epoll, count)


def receives(int fd, uint8_t[::1] into not None, int64_t count):
    """Receive as many bytes as `into` holds from a socket, without waiting; returns how many times they were there."""
    cdef int64_t full
    cdef size_t size = <size_t>into.shape[0]
    with nogil:
        full = wsrec_receives(fd, &into[0], size, count)
    return full


def sends(int fd, const uint8_t[::1] source not None, int64_t count):
    """Send `source` to a socket, without waiting; returns how many bytes were taken."""
    cdef int64_t taken
    with nogil:
        taken = wsrec_sends(fd, &source[0], <size_t>source.shape[0], count)
    return taken


def chase(const uint64_t[::1] following not None, uint64_t at, int64_t count):
    """Follow indices through memory, from `at`; returns where that led."""
    with nogil:
        at = wsrec_chase(&following[0], at, count)
    return at


def wake(int descriptor, uint32_t[::1] word not None, uint32_t[::1] answer not None, int64_t[::1] sent not None,
         uint64_t asleep_ns):
    """Wake another thread as often as `sent` has places, by a descriptor or (-1) by a futex, after it slept for a while.

    Args:
        descriptor: of an eventfd or a pipe.
        word, answer: shared with the other thread, 0 at first.
        sent: gets the moments just before (ns).
        asleep_ns: how long the other thread may fall asleep before each.

    """
    cdef bint done
    with nogil:
        done = wsrec_wake(CLOCK, descriptor, &word[0], &answer[0], &sent[0], sent.shape[0], asleep_ns)
    if not done:
        raise OSError("the descriptor failed")


def woken(int descriptor, uint32_t[::1] word not None, uint32_t[::1] answer not None, int64_t[::1] woke not None):
    """The other thread: `woke` gets the moments at which it runs again (ns)."""
    cdef bint done
    with nogil:
        done = wsrec_woken(CLOCK, descriptor, &word[0], &answer[0], &woke[0], woke.shape[0])
    if not done:
        raise OSError("the descriptor failed")


def by_watching(uint32_t[::1] word not None, bint first, int64_t[::1] took not None):
    """One of two threads that change a word in turn, without sleeping; the first notes each round trip (ns) in `took`."""
    with nogil:
        wsrec_by_watching(CLOCK, &word[0], first, &took[0], took.shape[0])


def send_paced(int fd, const uint8_t[::1] record not None, int64_t[::1] sent not None, double gap_ns):
    """Send `record` as often as `sent` has places, every `gap_ns`; the moments just before are noted (ns)."""
    cdef bint done
    with nogil:
        done = wsrec_send_paced(CLOCK, fd, &record[0], <size_t>record.shape[0], &sent[0], sent.shape[0], gap_ns)
    if not done:
        raise OSError("the receiving thread failed")


cdef class Opener:
    """Opens the records of TLS 1.3 by EVP and does nothing else: what no record layer can be faster than.

    Args:
        cipher: by OpenSSL's name (`wsrec.tls.libcrypto.Cipher`).
        key, iv: of the direction.

    """

    cdef Evp _evp
    cdef void *_context
    cdef uint8_t _iv[12]
    cdef uint64_t _sequence

    def __cinit__(self, cipher, const uint8_t[::1] key not None, const uint8_t[::1] iv not None):
        self._evp.init = <Init><uintptr_t>address("EVP_DecryptInit_ex")
        self._evp.update = <Update><uintptr_t>address("EVP_DecryptUpdate")
        self._evp.ctrl = <Ctrl><uintptr_t>address("EVP_CIPHER_CTX_ctrl")
        self._evp.final = <Final><uintptr_t>address("EVP_DecryptFinal_ex")
        cdef CipherFunction function = <CipherFunction><uintptr_t>address(CIPHER_FUNCTIONS[cipher])
        if iv.shape[0] != 12:
            raise ValueError("a nonce has 12 bytes")
        for i in range(12):
            self._iv[i] = iv[i]
        self._sequence = 0
        self._context = (<New><uintptr_t>address("EVP_CIPHER_CTX_new"))()
        if self._context is NULL or self._evp.init(self._context, function(), NULL, &key[0], NULL) != 1:
            raise LibcryptoError(f"libcrypto refuses {cipher}")

    def __dealloc__(self):
        if self._context is not NULL:
            (<Free><uintptr_t>address("EVP_CIPHER_CTX_free"))(self._context)

    def open_all(self, const uint8_t[::1] data not None, size_t size, uint8_t[::1] into not None):
        """Open the whole records among the first `size` bytes of `data`, each into the beginning of `into`.

        Returns:
            How many bytes they were, how many records, and the size of the last one's plaintext, its type included.

        Raises:
            ValueError: a record is not what was sealed, or has no room.

        """
        cdef size_t at = 0, length, plain = 0
        cdef uint64_t before = self._sequence
        cdef uint8_t nonce[12]
        cdef int i
        cdef bint right = True
        if <size_t>data.shape[0] < size or into.shape[0] < 0x10000:
            raise ValueError("a buffer is too short")
        with nogil:
            while size - at >= AAD:
                length = <size_t>data[at + 3] << 8 | data[at + 4]
                if size - at - AAD < length:
                    break
                for i in range(12):
                    nonce[i] = self._iv[i]
                for i in range(8):
                    nonce[4 + i] ^= <uint8_t>(self._sequence >> (56 - 8 * i))
                right = length >= SEAL and wsrec_evp_open(
                    &self._evp, self._context, nonce, &data[at], length - SEAL, &into[0]
                )
                if not right:
                    break
                plain = length - SEAL
                self._sequence += 1
                at += AAD + length
        if not right:
            raise ValueError("a record is not what was sealed")
        return at, self._sequence - before, plain

    def floor(
        self, int fd, int epoll, size_t size, uint8_t[::1] ciphertext not None, uint8_t[::1] ring not None,
        uint64_t[::1] slots not None, uint64_t[::1] published not None, int64_t[:, ::1] moments not None,
    ):
        """Receive records of `size` bytes each, and note the moment (ns) of each step in a row of `moments`.

        Args:
            fd: the socket.
            epoll: an epoll descriptor that waits for it; -1: it is read without waiting.
            size: bytes of a record, which is always the same.
            ciphertext: buffer for what is read.
            ring, slots, published: where a payload, a slot of 64 bytes and the count of slots go.
            moments: the columns are those of `wsrec.bench.limits.MOMENTS`.

        Returns:
            How many records came.

        """
        cdef int64_t done
        if moments.shape[1] != MOMENTS or <size_t>ring.shape[0] < size or <size_t>ciphertext.shape[0] < size:
            raise ValueError("a buffer is too short")
        with nogil:
            done = wsrec_floor(
                CLOCK, fd, epoll, &self._evp, self._context, self._iv, size, &ciphertext[0],
                <size_t>ciphertext.shape[0], &ring[0], &slots[0], <size_t>slots.shape[0] // 8, &published[0],
                &moments[0, 0], moments.shape[0],
            )
        if done < 0:
            raise ValueError("the record is not what was sealed")
        return done
