"""What this machine can do at best: single operations, and opening a TLS record.

Each is repeated until it takes some ms, and that some times; the shortest is the limit. What two processors do together
is a median, because there the shortest is luck.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wsrec.bench.results import Operation, RecordCost
from wsrec.bench.threads import together
from wsrec.host.clock import StageClock
from wsrec.net.trust import tls_context
from wsrec.tls.keys import SUITES, TrafficKeys
from wsrec.tls.libcrypto import Aead, unavailable

if TYPE_CHECKING:
    from wsrec.bench.setup import Placement

    compiled: Any
    records_compiled: Any
else:
    try:
        from wsrec.bench import _limits as compiled
        from wsrec.tls import _records as records_compiled
    except ImportError:
        compiled = None

SUITE = SUITES["TLS_AES_256_GCM_SHA384"]
RECORD_SIZES = (64, 274, 1024, 16384)
_COPIES = (64, 274, 1024, 16384)
_TAG, _DATA = 16, 23
_TRIES = 15
_TRY_NS = 2_000_000
_TIMES = 1000
# as between two messages of `paced`
_ASLEEP_NS = 100_000
# the first ones find threads that still start
_SETTLED = 100
_LINE = 64
_CHASES = {"16 KiB": 16 << 10, "512 KiB": 512 << 10, "8 MiB": 8 << 20, "256 MiB": 256 << 20}
CLOCK, COPY_SLOT = "read the clock of the stages", "copy 64 bytes"
SEND, RECEIVE = "system call: send 300 bytes over tcp", "system call: recvmsg of 300 bytes"
WAKE_UP, WATCHING = "wake-up by a futex", "another processor sees a word"
# of the records that are opened in one try
_STREAM_BYTES = 1 << 20


def unavailable_reason() -> str | None:
    """Why limits cannot be measured on this machine; None if they can."""
    if compiled is None:
        return "its operations are not compiled: install a C compiler and reinstall wsrec"
    return unavailable()


def operations(placement: Placement) -> list[Operation]:
    """Time single operations on the receiver's processor, and between it and the sender's."""
    # maps the counter, as a receiver process does
    with StageClock():
        found = together((placement.receiver, _single))[0]
    if placement.receiver is not None and placement.receiver != placement.sender:
        found += _between(placement)
    return [Operation(name, ns) for name, ns in found]


def _single() -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    source, target = bytearray(max(_COPIES)), bytearray(max(_COPIES))
    for size in _COPIES:
        found.append((f"copy {size:,} bytes", best(partial(compiled.copies, target, memoryview(source)[:size]))))
    found.append(("read the time stamp counter", best(compiled.tick_reads)))
    found.append((CLOCK, best(compiled.stage_clock_reads)))
    found.append(("read CLOCK_MONOTONIC", best(compiled.clock_reads)))
    found.append(("system call: getppid", best(compiled.getppids)))
    with connected() as (sender, receiver), select.epoll() as epoll:
        epoll.register(receiver, select.EPOLLIN)
        found.append(("system call: epoll_wait, nothing there", best(partial(compiled.polls, epoll.fileno()))))
        buffer = bytearray(300)
        receive = partial(compiled.receives, receiver.fileno(), buffer)
        found.append(("system call: recvmsg, nothing there", best(receive)))
        sent, received = _transfers(sender, receive)
        found += [(SEND, sent), (RECEIVE, received)]
    for place, size in _CHASES.items():
        found.append((f"read memory, {place}", best(_Chase(size))))
    return found


def _transfers(sender: socket.socket, receive: Callable[[int], int]) -> tuple[float, float]:
    """Sending 300 bytes, and receiving 300 that are there already."""
    count, sends, receives = 100, [], []
    send = partial(compiled.sends, sender.fileno(), bytes(300))
    for _ in range(_TRIES):
        sends.append(_took(partial(send, count)) / count)
        time.sleep(0.002)
        receives.append(_took(partial(receive, count)) / count)
    return min(sends), min(receives)


class _Chase:
    """Reads one cache line of `size` bytes after the other, in an order that no processor foresees."""

    def __init__(self, size: int) -> None:
        lines = np.random.default_rng(1).permutation(size // _LINE)
        words = _LINE // 8
        self._following = np.zeros(size // 8, np.uint64)
        self._following[lines * words] = np.roll(lines, -1) * words
        self._at = 0

    def __call__(self, count: int) -> None:
        # each try goes on where the last one ended: what was read before is in a cache
        self._at = compiled.chase(self._following, self._at, count)


def _between(placement: Placement) -> list[tuple[str, float]]:
    """From the sender's processor to the receiver's, one way."""
    word, took, unused = np.zeros(16, np.uint32), np.zeros(_TIMES, np.int64), np.zeros(_TIMES, np.int64)
    together(
        (placement.receiver, partial(compiled.by_watching, word, True, took)),
        (placement.sender, partial(compiled.by_watching, word, False, unused)),
    )
    found = [(WATCHING, float(np.median(took[_SETTLED:])) / 2), (WAKE_UP, _wake_up(placement, -1, -1))]
    eventfd = os.eventfd(0)
    reading, writing = os.pipe()
    found.append(("wake-up by an eventfd", _wake_up(placement, eventfd, eventfd)))
    found.append(("wake-up by a pipe", _wake_up(placement, writing, reading)))
    for fd in (eventfd, reading, writing):
        os.close(fd)
    return found


def _wake_up(placement: Placement, writing: int, reading: int) -> float:
    # cache lines of their own
    word, answer = np.zeros(16, np.uint32), np.zeros(16, np.uint32)
    sent, woke = np.zeros(_TIMES, np.int64), np.zeros(_TIMES, np.int64)
    together(
        (placement.sender, partial(compiled.wake, writing, word, answer, sent, _ASLEEP_NS)),
        (placement.receiver, partial(compiled.woken, reading, word, answer, woke)),
    )
    return float(np.median((woke - sent)[_SETTLED:]))


def records(placement: Placement, certificate: tuple[str, str], ca_file: str) -> list[RecordCost]:
    """Time opening TLS records: by EVP alone, by wsrec's record layer, by Python's `ssl`.

    Args:
        placement: the processors.
        certificate: PEM files of a server's chain and key.
        ca_file: PEM file of its CA.

    """
    costs: list[RecordCost] = together(
        (placement.receiver, lambda: [_record_cost(size, certificate, ca_file) for size in RECORD_SIZES])
    )[0]
    return costs


def _record_cost(size: int, certificate: tuple[str, str], ca_file: str) -> RecordCost:
    keys = TrafficKeys(SUITE, bytearray(SUITE.key_size), bytearray(SUITE.iv_size))
    record = sealed(keys.key, keys.iv, 0, bytes(size))
    reader = records_compiled.RecordReader(keys)
    # about as long as a try of an operation
    count = max(_STREAM_BYTES // size, 16) if size > 256 else 4096
    alone, opened = [], []
    for _ in range(_TRIES):
        alone.append(records_compiled.aead_ns(reader, record, count) / count)
        opened.append(records_compiled.open_ns(reader, record, count) / count)
    return RecordCost(size, min(alone), min(opened), _by_ssl(size, count, certificate, ca_file))


def sealed(key: bytes | bytearray, iv: bytes | bytearray, sequence: int, content: bytes) -> bytes:
    """A record of TLS 1.3 with application data (RFC 8446 5.2 and 5.3)."""
    nonce = (int.from_bytes(iv) ^ sequence).to_bytes(len(iv))
    header = bytes((_DATA, 3, 3)) + (len(content) + 1 + _TAG).to_bytes(2)
    return header + Aead(SUITE.cipher, key).seal(nonce, header, content + bytes((_DATA,)))


def _by_ssl(size: int, count: int, certificate: tuple[str, str], ca_file: str) -> float:
    """Records through a memory BIO and `SSLObject.read`, one after the other, as many to a write as a read brings."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(*certificate)
    client = tls_context(ca_file).wrap_bio(incoming, outgoing, server_hostname="localhost")
    server = served.wrap_bio(outgoing, incoming, server_side=True)
    for one in (client, server, client, server):
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            continue
    # the session's tickets
    with suppress(ssl.SSLWantReadError):
        client.read(1)
    into = memoryview(bytearray(1 << 16))
    shortest = float("inf")
    for _ in range(_TRIES):
        for _ in range(count):
            server.write(bytes(size))
        data = incoming.read()
        began = time.perf_counter_ns()
        for start in range(0, len(data), 1 << 16):
            incoming.write(memoryview(data)[start : start + (1 << 16)])
            with suppress(ssl.SSLWantReadError):
                while incoming.pending:
                    client.read(len(into), into)
        shortest = min(shortest, (time.perf_counter_ns() - began) / count)
    return shortest


def _took(function: Callable[[], Any]) -> int:
    began = time.perf_counter_ns()
    function()
    return time.perf_counter_ns() - began


def best(repeated: Callable[[int], Any]) -> float:
    """Time of an operation (ns) that a function repeats as often as it is told: the shortest of several tries."""
    count = 16
    while (took := _took(partial(repeated, count))) < _TRY_NS:
        count *= 2 if took * 8 > _TRY_NS else 8
    return min(_took(partial(repeated, count)) / count for _ in range(_TRIES))


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection over tcp on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    with one, other:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield one, other
