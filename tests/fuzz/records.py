"""Fuzzing of the TLS record readers: the ciphertext of one connection, cut anywhere, into them and into Python's `ssl`.

    python -m tests.fuzz.records --cuts 10000000 --seed 7

Every connection is a handshake of Python's `ssl` with itself, and what its server writes. Behind that come records that
are sealed here with the server's keys, as no server of Python's can be made to send them: padded and empty ones,
tickets in parts, KeyUpdates, and records that TLS forbids. Some streams are changed afterwards: bits, lengths, order.
After each cut both must have handed out the same, and at the end both refuse, or neither does.
"""

from __future__ import annotations

import _ssl
import argparse
import ctypes
import itertools
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import trustme

from tests.tls.sealed import Sealing
from wsrec.tls.key_log import KeyLog
from wsrec.tls.keys import SUITES, hello_random
from wsrec.tls.post_handshake import Meaning, PostHandshake
from wsrec.tls.records import ALERT, APPLICATION_DATA, EMPTY_MAX, HANDSHAKE, PLAINTEXT_MAX, ROOM, TLS13_MAX, RecordError
from wsrec.tls.records_implementation import CompiledRecordReader, PythonRecordReader
from wsrec.tls.sealing import count_records

SUITE_NAMES = [name for name, suite in SUITES.items() if suite.version == "TLSv1.3" or name.startswith("ECDHE-ECDSA")]
# bytes of content: a lone message, few, any, full records
PROFILES: list[Callable[[random.Random], int]] = [
    lambda choose: 253,
    lambda choose: choose.randrange(1, 40),
    lambda choose: choose.randrange(1, 1500),
    lambda choose: choose.choice([1, 2, 15, 16, 17, 4096, 8192, PLAINTEXT_MAX - 1, PLAINTEXT_MAX]),
]
STEPS = [2, 8, 64, 64, 300, 300, 1500, 70_000]
CLOSE_NOTIFY, USER_CANCELED = b"\1\0", b"\1\x5a"


class Contexts:
    """The two sides' contexts for one cipher suite."""

    def __init__(self, suite: str, authority: trustme.CA, tickets: int) -> None:
        self.suite = SUITES[suite]
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA).configure_cert(self.server)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)
        self.client.options |= ssl.OP_NO_RENEGOTIATION
        self.key_log = KeyLog(self.client)
        if self.suite.version == "TLSv1.3":
            _set_tls13_suite(self.server, suite)
            self.server.num_tickets = tickets
        else:
            self.server.maximum_version = ssl.TLSVersion.TLSv1_2
            self.server.set_ciphers(suite)


class Connection:
    """A handshake's two ends.

    Attributes:
        client, incoming: OpenSSL's receiving end, after the handshake.
        sent: what the server has sent after it.

    """

    def __init__(self, contexts: Contexts) -> None:
        self.suite = contexts.suite
        self.incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        received, self._sending = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = contexts.client.wrap_bio(self.incoming, outgoing, server_hostname="localhost")
        self._server = contexts.server.wrap_bio(received, self._sending, server_side=True)
        hellos = []
        while True:
            done = [_step(self.client)]
            data = outgoing.read()
            received.write(data)
            done.append(_step(self._server))
            answer = self._sending.read()
            hellos += [data, answer]
            if all(done):
                break
            self.incoming.write(answer)
        self.sent = bytearray(answer)
        found = contexts.key_log.keys(self.suite, hello_random(hellos[0]), hello_random(hellos[1]))
        assert found is not None
        self.keys = found[1]
        if self.suite.version == "TLSv1.2":
            # the Finished came with the ticket and change_cipher_spec
            self.incoming.write(answer)
            assert _step(self.client)
            self.sent = bytearray()

    def write(self, content: bytes) -> None:
        """Application data of the server."""
        self._server.write(content)
        self.sent += self._sending.read()

    def sealing(self) -> Sealing:
        """The server's sealing from here on, which it has no part in any more."""
        self.keys.sequence += count_records(self.sent)
        return Sealing(self.keys)


class Streams:
    """Streams without end; a seed says which ones come, but for their keys."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._contexts = [
            Contexts(suite, authority, tickets) for suite, tickets in itertools.product(SUITE_NAMES, (0, 2, 40))
        ]
        self._content = self._random.randbytes(PLAINTEXT_MAX + 1)

    def connection(self) -> Connection:
        """Another connection."""
        return Connection(self._random.choice(self._contexts))

    def valid(self, connection: Connection, *, most: int) -> bytes:
        """What a server may send, of about `most` bytes or less."""
        choose = self._random
        size, until = choose.choice(PROFILES), choose.randrange(most // 4, most)
        while len(connection.sent) < until:
            connection.write(self._content[: size(choose)])
        sent, sealing = bytes(connection.sent), connection.sealing()
        records = [self._record(connection, sealing, size) for _ in range(choose.choice([0, 10, 30]))]
        if choose.random() < 0.3:
            records.append(sealing.seal(CLOSE_NOTIFY, ALERT))
            # nothing behind it counts
            records.append(choose.choice([b"", sealing.seal(b"late"), choose.randbytes(30)]))
        return sent + b"".join(records)

    def forbidden(self, connection: Connection, *, most: int) -> bytes:
        """The same, with an authentic record or two that TLS forbids."""
        choose = self._random
        while len(connection.sent) < most // 4:
            connection.write(self._content[:253])
        sent, sealing = bytes(connection.sent), connection.sealing()
        tls13 = connection.suite.version == "TLSv1.3"
        seal = sealing.seal
        before = [self._record(connection, sealing, PROFILES[1]) for _ in range(choose.randrange(3))]
        # a ticket (4) is skipped here, whatever it says; OpenSSL reads it
        kinds = [bytes((kind,)) for kind in range(30) if kind != 4]
        bad: list[Callable[[], bytes]] = [
            lambda: b"".join(seal(b"") for _ in range(EMPTY_MAX + choose.randrange(2))),
            # an empty handshake record of TLS 1.2 is ignored by OpenSSL and refused here (RFC 5246 6.2.1)
            lambda: seal(b"", choose.choice([ALERT, HANDSHAKE if tls13 else ALERT])),
            lambda: seal(self._content[: PLAINTEXT_MAX + choose.randrange(2)]),
            lambda: seal(bytes((choose.choice([0, 1, 2, 3]), choose.choice([0, 10, 40, 90, 100, 110, 255]))), ALERT),
            lambda: b"".join(seal(USER_CANCELED, ALERT) for _ in range(choose.randrange(3, 7))),
            lambda: seal(choose.randbytes(choose.randrange(1, 5)), ALERT),
            lambda: seal(choose.choice(kinds) + choose.choice([b"\0\0\0", b"\0\0\1\0", b"\0\0\4abcd"]), HANDSHAKE),
            lambda: seal(b"x", choose.choice([0, 20, 24, 25, 255])),
            lambda: seal(b"x", version=choose.choice([b"\3\1", b"\3\4", b"\2\3"])),
            lambda: b"\x14\x03\x03\0\1\1",
            lambda: b"\x15\x03\x03\0\2\1\0",
        ]
        if tls13:
            bad += [
                lambda: seal(inner=bytes(choose.choice([1, 5, 300, TLS13_MAX - 16]))),
                lambda: seal(b"x", padding=TLS13_MAX - 18 + choose.randrange(2)),
                lambda: seal(b"x", padding=choose.choice([PLAINTEXT_MAX - 1, PLAINTEXT_MAX, PLAINTEXT_MAX + 1])),
                lambda: seal(b"\x18\0\0\1" + choose.choice([b"\2", b"\0\x18", b"\1\4\0"]), HANDSHAKE),
                lambda: seal(b"\x18\0\0\1\0", HANDSHAKE),
                lambda: b"".join(_update(sealing) for _ in range(choose.choice([31, 32, 33, 70]))),
                lambda: seal(_ticket(9)[: choose.randrange(1, 20)], HANDSHAKE) + seal(b"between"),
                lambda: seal(b"x", outer=choose.choice([20, 21, 22, 24])),
            ]
        records = [make() for make in choose.choices(bad, k=choose.choice([1, 1, 2]))]
        after = [seal(self._content[:20]) for _ in range(3)]
        return sent + b"".join(before + records + after)

    def changed(self, connection: Connection, *, most: int) -> bytes:
        """A valid stream, changed on its way."""
        choose = self._random
        data = bytearray(self.valid(connection, most=most))
        for _ in range(choose.choice([1, 1, 1, 2, 3])):
            edges = [0, *_edges(data)]
            if len(edges) < 4:
                break
            at = choose.randrange(1, len(edges) - 2)
            start, middle, end = edges[at : at + 3]
            match choose.randrange(8):
                case 0 | 1:
                    data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
                case 2:
                    # in a header
                    data[start + choose.randrange(5)] ^= 1 << choose.randrange(8)
                case 3:
                    del data[start:middle]
                case 4:
                    data[start:end] = data[middle:end] + data[start:middle]
                case 5:
                    data[middle:middle] = data[start:middle]
                case 6:
                    place = choose.randrange(start, len(data))
                    del data[place : place + choose.choice([1, 5, 16, 300])]
                case 7:
                    place = choose.choice([start, choose.randrange(len(data))])
                    data[place:place] = choose.choice(
                        [b"\x14\x03\x03\0\1\1", b"\x15\x03\x03\0\2\2\x28", b"\0", data[:40]]
                    )
        return bytes(data)

    def cuts(self, data: bytes) -> list[int]:
        """Where to cut: the ends of the parts, in order."""
        choose, size = self._random, len(data)
        step = choose.choice(STEPS)
        if step == 1500 and size:
            # about where records end and headers are
            found = {edge + choose.randrange(-6, 7) for edge in _edges(data)}
            return [*sorted(place for place in found if 0 < place < size), size]
        # as many as there would be steps, anywhere
        places = {choose.randrange(1, size) for _ in range(size // step)} if size > 1 else set()
        return [*sorted(places), size]

    def _record(self, connection: Connection, sealing: Sealing, size: Callable[[random.Random], int]) -> bytes:
        choose = self._random
        content = self._content[: size(choose)]
        tls13 = connection.suite.version == "TLSv1.3"
        match choose.randrange(10):
            case 0:
                return b"".join(sealing.seal(b"") for _ in range(choose.randrange(1, EMPTY_MAX + 1))) + sealing.seal(
                    b"x"
                )
            case 1 if tls13:
                return sealing.seal(content, padding=choose.randrange(PLAINTEXT_MAX + 1 - len(content)))
            case 2 if tls13:
                return _update(sealing, choose.choice([0, 1]))
            case 3 if tls13:
                # a message and a half
                ticket = _ticket(choose.randrange(1, 300)) * 2
                cut = choose.randrange(1, len(ticket))
                return sealing.seal(ticket[:cut], HANDSHAKE) + sealing.seal(ticket[cut:], HANDSHAKE, padding=3)
            case 3:
                return sealing.seal(b"\0\0\0\0", HANDSHAKE) + sealing.seal(content)
            case 4:
                # OpenSSL accepts four in succession
                return sealing.seal(USER_CANCELED, ALERT) + sealing.seal(content)
            case _:
                return sealing.seal(content)


class Reading:
    """One connection's plaintext, by OpenSSL and by a reader, part after part.

    Args:
        exact: whether each part lies in memory of its own, of which a sanitizer knows the end.

    """

    def __init__(
        self, connection: Connection, keys: Any, implementation: type[PythonRecordReader], room: int, *, exact: bool
    ) -> None:
        self._incoming, self._client = connection.incoming, connection.client
        self._version = connection.suite.version
        self._reader = implementation(keys)
        self._keys = keys
        self._post = PostHandshake(self._version)
        self._exact = exact
        self._expected, self._found = bytearray(room + ROOM), bytearray(room + ROOM)
        self.expected_size = self.found_size = 0
        # how each of them ended, if it did
        self.expected_end = self.found_end = ""

    def run(self, data: bytes, cuts: list[int]) -> int:
        """Feed both; returns the number of parts."""
        view = memoryview(data)
        start = at = 0
        for end in cuts:
            self._by_openssl(view[start:end])
            at = self._by_reader(view, at, end)
            assert self.expected_size == self.found_size, (start, end, self.found_end, self.expected_end)
            start = end
        assert self._expected[: self.expected_size] == self._found[: self.found_size]
        # whatever was written and not handed out was wiped
        assert not any(self._found[self.found_size :])
        self._incoming.write_eof()
        self._by_openssl(b"")
        match self.found_end:
            case "":
                assert self.expected_end == "cut off", self.expected_end
            case "closed":
                assert self.expected_end == "closed", self.expected_end
            case _:
                # by a header, before the rest of its record was there
                assert self.expected_end not in ("", "closed"), (self.found_end, self.expected_end)
        return len(cuts)

    def _by_openssl(self, part: memoryview | bytes) -> None:
        if self.expected_end:
            return
        if part:
            self._incoming.write(part)
        into, size = memoryview(self._expected), self.expected_size
        read = self._client.read
        try:
            while True:
                got = read(PLAINTEXT_MAX, into[size:])
                if not got:
                    self.expected_end = "closed"
                    break
                size += got  # type: ignore[operator]  # with a buffer it is a number
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.expected_end = "closed"
        except ssl.SSLEOFError:
            self.expected_end = "cut off"
        except ssl.SSLError as error:
            self.expected_end = f"refused: {error}"
        self.expected_size = size

    def _by_reader(self, view: memoryview, at: int, end: int) -> int:
        """Open what is complete of `view[at:end]`; returns where the next record begins."""
        if self.found_end:
            return at
        into = memoryview(self._found)
        data = view[at:end]
        if self._exact:
            data = memoryview(np.frombuffer(data, np.uint8).copy())
        place = 0
        try:
            while (opened := self._reader.open(data[place:], into[self.found_size :])) is not None:
                place += opened.consumed
                handed_out = self.found_size + opened.size
                if opened.content_type != APPLICATION_DATA or self._post.forbids_data:
                    meaning = self._post.take(opened.content_type, into[self.found_size : handed_out])
                    handed_out = self.found_size
                    if meaning in (Meaning.KEYS_CHANGED, Meaning.KEYS_CHANGED_BOTH):
                        self._keys = self._keys.next()
                        self._reader.change_keys(self._keys)
                    elif meaning is Meaning.END:
                        self.found_end = "closed"
                # what lies behind the content of a record that was opened
                self._found[handed_out : self.found_size + opened.consumed] = bytes(
                    self.found_size + opened.consumed - handed_out
                )
                self.found_size = handed_out
                if self.found_end:
                    break
        except (RecordError, ssl.SSLError) as error:
            if not isinstance(error, RecordError):
                self._found[self.found_size :] = bytes(len(self._found) - self.found_size)
            self.found_end = f"refused: {error}"
        return at + place


class Run:
    """Connections into one reader, with what was counted.

    Args:
        most: bytes of the longest stream, about.
        exact: see `Reading`.

    """

    def __init__(
        self, seed: int, implementation: type[PythonRecordReader], *, most: int = 150_000, exact: bool = False
    ) -> None:
        self._streams = Streams(seed)
        self._implementation = implementation
        self._most = most
        self._exact = exact
        self.counts: Counter[str] = Counter()

    def kinds(self) -> Iterator[str]:
        """Which streams come, in their order."""
        return itertools.cycle(["valid", "valid", "changed", "valid", "forbidden"])

    def one(self, kind: str) -> None:
        """One stream of a kind."""
        connection = self._streams.connection()
        keys = type(connection.keys)(
            connection.keys.suite,
            bytearray(connection.keys.key),
            bytearray(connection.keys.iv),
            connection.keys.sequence,
            None if connection.keys.secret is None else bytearray(connection.keys.secret),
        )
        data: bytes = getattr(self._streams, kind)(connection, most=self._most)
        cuts = self._streams.cuts(data)
        reading = Reading(connection, keys, self._implementation, len(data), exact=self._exact)
        try:
            self.counts["cuts"] += reading.run(data, cuts)
        except AssertionError as error:
            raise AssertionError(f"{kind}, {connection.suite.name}, {len(data)} bytes: {error}") from error
        self.counts["streams"] += 1
        self.counts[kind] += 1
        self.counts["bytes"] += reading.found_size
        self.counts["refused"] += reading.found_end.startswith("refused")


def _step(tls: ssl.SSLObject) -> bool:
    """Whether the handshake is done on this side."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _edges(data: bytes | bytearray) -> list[int]:
    """Where records end, as far as the lengths in the headers say so."""
    found, at = [], 0
    while at + 5 <= len(data):
        at += 5 + int.from_bytes(data[at + 3 : at + 5])
        if at <= len(data):
            found.append(at)
    return found


def _update(sealing: Sealing, request: int = 0) -> bytes:
    """A KeyUpdate (RFC 8446 4.6.3), behind which the next keys are used."""
    update = sealing.seal(bytes((24, 0, 0, 1, request)), HANDSHAKE)
    sealing.change_keys()
    return update


def _ticket(size: int) -> bytes:
    """A NewSessionTicket (RFC 8446 4.6.1)."""
    body = (7200).to_bytes(4) + bytes(4) + b"\x08" + bytes(8) + size.to_bytes(2) + bytes(size) + b"\0\0"
    return b"\4" + len(body).to_bytes(3) + body


def _set_tls13_suite(context: ssl.SSLContext, suite: str) -> None:
    """Leave one cipher suite of TLS 1.3, for which Python has no function before 3.15."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    # the first field of CPython's context object
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    assert library.SSL_CTX_set_ciphersuites(pointer, suite.encode()) == 1


def main() -> int:
    """Run until there were enough cuts, the time is over or something is found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=float("inf"))
    options.add_argument("--cuts", type=int, default=sys.maxsize)
    options.add_argument("--seed", type=int, default=time.time_ns())
    options.add_argument("--python", action="store_true", help="the Python reader, not the compiled one")
    options.add_argument("--exact", action="store_true", help="each part in memory of its own, for sanitizers")
    chosen = options.parse_args()
    implementation = PythonRecordReader if chosen.python or CompiledRecordReader is None else CompiledRecordReader
    run = Run(chosen.seed, implementation, exact=chosen.exact)
    began = time.monotonic()
    kinds = run.kinds()
    try:
        while time.monotonic() - began < chosen.seconds and run.counts["cuts"] < chosen.cuts:
            run.one(next(kinds))
    except Exception:
        print(f"stream {run.counts['streams']} after {run.counts['cuts']} cuts, --seed {chosen.seed}:", file=sys.stderr)
        raise
    counts = run.counts
    print(
        f"{counts['cuts']} executions: cuts of {counts['streams']} streams ({counts['changed']} changed, "
        f"{counts['forbidden']} with forbidden records, {counts['refused']} refused), {counts['bytes']} bytes alike, "
        f"in {time.monotonic() - began:.0f} s, --seed {chosen.seed}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
