"""A hot path between a socket that the test writes to and rings that the test reads, and the implementations of it."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

import pytest
from websockets.frames import Frame, Opcode

from wsrec.host import timestamping
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import CompiledHotPath
from wsrec.receive.producer import Producer
from wsrec.receive.transport import PlainTransport, Transport
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import Event
from wsrec.ring.slot_flags import CONTROL_RECORD, FLAG_COARSE, Flag
from wsrec.ring.slot_layout import COARSE_SHIFT
from wsrec.ring.slotring import SlotRing, count_reads
from wsrec.stages import StampSource
from wsrec.wire.frames import MessageRules

OWN_RECORDS = Flag.SENT | Flag.EVENT
# plain integers, and lookups instead of calls: tests read hundreds of thousands of slots
FLAGS = [Flag(bits) for bits in range(1 << 8)]
SOURCES = {source.value: source for source in StampSource}
SLOT_FIELDS = [
    "opcode",
    "flags",
    "length",
    "conn",
    "offset",
    "nic",
    "source",
    "event",
    "recv_start",
    "recv_end",
    "parsed",
    "handoff",
    "read_bytes",
    "frame_in_read",
    "frames_in_read",
]


class Slot(NamedTuple):
    """A published slot, read as the writer reads it: absolute stamps, and the payload where the slot says it is."""

    opcode: int
    flags: Flag
    payload: bytes
    conn: int
    offset: int
    nic: int
    source: StampSource
    event: int
    recv_start: int
    recv_end: int
    parsed: int
    handoff: int
    read_bytes: int
    frame_in_read: int
    frames_in_read: int

    @property
    def fin(self) -> bool:
        return bool(self.flags & Flag.FIN)


class Reader:
    """The writer's end of the rings, as plain as can be.

    Attributes:
        taken: every slot taken so far.
    """

    def __init__(self, slots: SlotRing, control_ring: ByteRing, rings: dict[int, ByteRing]) -> None:
        self.slots = slots
        self.control_ring = control_ring
        self.rings = rings
        self.taken: list[Slot] = []
        self._count = slots.released.read()
        self._released = 0

    def take(self, *, release: bool = True) -> list[Slot]:
        """The slots of whole reads published since the last time; afterwards their space is the producer's again."""
        records = self.slots.run(self._count, self.slots.published.read()).copy()
        # a read of many frames is handed off in parts; one whose last frame does not say so never arrives here
        records = records[: count_reads(records)]
        columns = (records[name].tolist() for name in SLOT_FIELDS)
        slots = [self._slot(*values) for values in zip(*columns, strict=True)]
        self._count += len(records)
        self.taken += slots
        if release:
            self.release()
        return slots

    def release(self) -> None:
        """Give back the space of all that was taken."""
        for slot in self.taken[self._released :]:
            self.ring_of(slot).tail.publish(slot.offset + len(slot.payload))
        self._released = len(self.taken)
        self.slots.released.publish(self._count)

    def ring_of(self, slot: Slot) -> ByteRing:
        return self.control_ring if slot.flags & OWN_RECORDS else self.rings[slot.conn]

    def events(self) -> list[Event]:
        """Every event taken so far, each joined from its parts."""
        found, data = [], b""
        for slot in self.taken:
            if slot.flags & Flag.EVENT:
                data += slot.payload
                if slot.fin:
                    found.append(Event.decode(data))
                    data = b""
        return found

    def sent(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of every frame that we sent."""
        return messages([slot for slot in self.taken if slot.flags & Flag.SENT])

    def received(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of every message and control frame received."""
        return messages([slot for slot in self.taken if not slot.flags & OWN_RECORDS])

    def _slot(
        self,
        opcode: int,
        flag_bits: int,
        length: int,
        conn: int,
        offset: int,
        nic: int,
        source: int,
        event: int,
        waited: int,
        took: int,
        parsed: int,
        *rest: int,
    ) -> Slot:
        flags = FLAGS[flag_bits]
        shift = COARSE_SHIFT if flag_bits & FLAG_COARSE else 0
        recv_start = event + (waited << shift)
        recv_end = recv_start + (took << shift)
        ring = self.control_ring if flag_bits & CONTROL_RECORD else self.rings[conn]
        assert ring.tail.read() <= offset <= offset + length <= ring.head.read()
        payload, parsed = bytes(ring.slice(offset, length)), recv_end + (parsed << shift)
        return Slot(
            opcode, flags, payload, conn, offset, nic, SOURCES[source], event, recv_start, recv_end, parsed, *rest
        )


def messages(slots: list[Slot]) -> list[tuple[int, bytes]]:
    """Whole messages and control frames out of the slots of one connection, in order of completion."""
    whole: list[tuple[int, bytes]] = []
    opcode, data = 0, b""
    for slot in slots:
        if slot.opcode >= 8:
            whole.append((slot.opcode, slot.payload))
            continue
        assert bool(slot.opcode) is not bool(opcode), "a message begins inside another, or goes on without one"
        opcode, data = slot.opcode or opcode, data + slot.payload
        if slot.fin:
            whole.append((opcode, data))
            opcode, data = 0, b""
    return whole


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server, client


@pytest.fixture(scope="session")
def kernel_stamps() -> Iterator[None]:
    """The kernel stamps all that it receives.

    It begins a moment after the first socket of the machine has enabled timestamps (net_enable_timestamp), and ends
    with the last one: this one stays open.
    """
    server, client = tcp_pair()
    with server, client:
        stamped, deadline = not timestamping.enable(client), time.monotonic() + 60
        while not stamped:
            server.sendall(b"x")
            _, ancillary, _, _ = client.recvmsg(1, timestamping.ANCILLARY_SIZE)
            stamped = timestamping.Stamps().read(ancillary)[1] is StampSource.KERNEL
            assert time.monotonic() < deadline, "the kernel does not stamp what it receives"
        yield


async def readable(transport: Transport) -> None:
    """Wait until a transport's socket has something to read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(transport.fileno, ready.set)
    try:
        async with asyncio.timeout(60):
            await ready.wait()
    finally:
        loop.remove_reader(transport.fileno)


class RecordTransport(PlainTransport):
    """Delivers a read record by record, as a transport that decrypts by itself does; made by `record` and `END`."""

    by_record = True

    def __init__(self, sock: socket.socket, *, stamped: bool) -> None:
        super().__init__(sock, stamped=stamped)
        self._taken = b""

    @property
    def undecrypted(self) -> int:
        return len(self._taken)

    def read(self, into: memoryview) -> int | None:
        data = bytearray(len(into) - len(self._taken))
        size = self._receive(memoryview(data))
        if not size:
            return size
        self._taken += data[:size]
        return self.more(into)

    def more(self, into: memoryview) -> int | None:
        while len(self._taken) >= 4:
            size = int.from_bytes(self._taken[:4])
            if size == _END:
                return 0
            if size == _BAD:
                raise OSError("a bad record")
            if len(self._taken) < 4 + size:
                break
            into[:size] = self._taken[4 : 4 + size]
            self._taken = self._taken[4 + size :]
            # one without content is passed over, as a transport passes over what is not data
            if size:
                return size
        return None


_END, _BAD = (1 << 32) - 1, (1 << 32) - 2
END_RECORD, BAD_RECORD = _END.to_bytes(4), _BAD.to_bytes(4)


def record(data: bytes) -> bytes:
    """A record for `RecordTransport`."""
    return len(data).to_bytes(4) + data


class Rig:
    """One hot path: the test is its server (`server`, `feed`) and its writer (`reader`).

    Attributes:
        controls: opcode, payload and how many slots were published when `on_control` was called.
        ends: the arguments of `on_end`, in order.
        full: how often `on_full` was called.
        on_batch: given to the hot path by `remake`, as the `rules` are.
        opening: takes what arrives before the WebSocket is open; without it it is open from the beginning.
    """

    def __init__(
        self,
        hot_path: type[HotPath],
        *,
        ring: int = 1 << 20,
        slots: int = 1 << 15,
        start: int = 0,
        max_message: int = 64 << 20,
        validate_text: bool = False,
        tcp: bool = False,
        by_record: bool = False,
        conn: int = 3,
        opening: Callable[[Rig, memoryview], int] | None = None,
    ) -> None:
        self.controls: list[tuple[int, bytes, int]] = []
        self.ends: list[Exception | None] = []
        self.full = 0
        self.on_batch: Callable[[int, int], None] | None = None
        self.server, self.client = tcp_pair() if tcp else socket.socketpair()
        self.client.setblocking(False)
        stamped = tcp and timestamping.enable(self.client)
        self.ring = _ring(ring)
        self.ring.head.publish(start)
        self.ring.tail.publish(start)
        fd = SlotRing.create("t", slots)
        self.slots = SlotRing(fd)
        os.close(fd)
        control_ring = _ring(1 << 16)
        self.producer = Producer(self.slots, control_ring)
        self.reader = Reader(self.slots, control_ring, {conn: self.ring})
        self._loop = asyncio.new_event_loop()
        kind = RecordTransport if by_record else PlainTransport
        self.transport: Any = self._loop.run_until_complete(_transport(kind, self.client, stamped))
        self.rules = MessageRules(max_message, validate_text=validate_text)
        self._make = lambda: hot_path(
            conn,
            self.ring,
            self.producer,
            self.transport,
            self.rules,
            on_opening=lambda data: opening(self, data) if opening else 0,
            on_control=lambda opcode, payload: self.controls.append((opcode, payload, self.slots.published.read())),
            on_end=self.ends.append,
            on_full=self._on_full,
            on_batch=self.on_batch,
        )
        self._is_open = opening is None
        self.remake()

    def remake(self) -> None:
        """Make the hot path anew, for another `transport`."""
        self.hot = self._make()
        self.hot.open = self._is_open

    def _on_full(self) -> None:
        self.full += 1

    def readable(self, timeout: float = 0) -> bool:
        return bool(select.select([self.client], [], [], timeout)[0])

    def read(self) -> list[Slot]:
        """Wait until there is something to read, let the hot path read once, and take what it published."""
        assert self.readable(5)
        self.hot.on_readable()
        return self.reader.take()

    def pump(self, *, release: bool = True) -> list[Slot]:
        """Let the hot path read as often as there is something, until it ends or finds a ring full."""
        slots: list[Slot] = []
        full = self.full
        while not self.ends and self.full == full and self.readable():
            self.hot.on_readable()
            slots += self.reader.take(release=release)
        return slots

    def feed(self, data: bytes, *, release: bool = True) -> list[Slot]:
        """Send all of `data` while the hot path reads it."""
        slots: list[Slot] = []
        self.server.setblocking(False)
        view = memoryview(data)
        while view and not self.ends:
            with suppress(BlockingIOError):
                view = view[self.server.send(view) :]
            slots += self.pump(release=release)
        self.server.setblocking(True)
        return slots

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.transport.close()
        self.server.close()
        self._loop.close()


def _ring(capacity: int) -> ByteRing:
    fd = ByteRing.create("t", capacity)
    try:
        return ByteRing(fd)
    finally:
        os.close(fd)


async def _transport(kind: type[PlainTransport], sock: socket.socket, stamped: bool) -> PlainTransport:
    return kind(sock, stamped=stamped)


@pytest.fixture(scope="session", params=["python", "compiled"])
def hot_path(request: pytest.FixtureRequest) -> type[HotPath]:
    """Every implementation of the hot path."""
    if request.param == "python":
        return HotPath
    if CompiledHotPath is None:
        pytest.skip("the compiled hot path was not built here: no compiler, or no Cython")
    return CompiledHotPath


@pytest.fixture(scope="session")
def make_rig(hot_path: type[HotPath]) -> Callable[..., Rig]:
    """Makes a `Rig`, to be used with `with`."""
    return lambda **options: Rig(hot_path, **options)


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Iterator[Rig]:
    with make_rig() as rig:
        yield rig


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch, hot_path: type[HotPath]) -> Callable[[Callable[[], int]], None]:
    """Puts another monotonic clock under the hot path."""
    module = sys.modules[hot_path.__module__]
    if not hasattr(module, "now"):
        pytest.skip("the compiled core reads its clock itself")
    return lambda clock: monkeypatch.setattr(module, "now", clock)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A frame as a server sends it."""
    data = Frame(Opcode(opcode), payload, fin).serialize(mask=False)
    return bytes((data[0] | rsv1 << 6,)) + data[1:]


def text(payload: bytes | str) -> bytes:
    """A whole text message as a server sends it."""
    return frame(Opcode.TEXT, payload.encode() if isinstance(payload, str) else payload)
