"""wsrec.receive.direct: records into slots through both hot paths; keys that change; fallbacks."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import random
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.utils import accept_key

import wsrec
from tests.effort import examples
from tests.exchange import sends
from tests.receive.conftest import Rig, frame, readable, text
from tests.receive.test_connection import Life
from tests.receive.test_receiver import RawExchange, answer, plan, receive
from tests.receive.test_tls import make
from tests.tls.records import OpensslServer, opened, split
from tests.tls.sealed import TLS12, TLS13, Sealed
from wsrec import ipc
from wsrec.net.trust import tls_context
from wsrec.options.record import TlsMode
from wsrec.receive import direct
from wsrec.receive.direct import KEY_UPDATES_MAX, DirectTransport, UnknownToDirectError
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import CompiledHotPath
from wsrec.ring.bytering import MIN_RING
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.tls.key_log import KeyLog
from wsrec.tls.keys import TrafficKeys
from wsrec.tls.libcrypto import LibcryptoError
from wsrec.tls.records import ALERT, APPLICATION_DATA, HANDSHAKE, RECORD_MAX, RecordError, Refusal
from wsrec.tls.records_implementation import CompiledRecordReader, PythonRecordReader
from wsrec.tls.sealing import Sending
from wsrec.tls.violation import TlsViolationError

__all__ = ["receive"]

TEXT = 1
TICKET = b"\x04" + (60).to_bytes(3) + bytes(60)
KEY_UPDATE, KEY_UPDATE_BOTH = b"\x18\0\0\x01\0", b"\x18\0\0\x01\x01"
CLOSE_NOTIFY = b"\x01\0"
CORES: dict[str, tuple[Any, Any]] = {"python": (HotPath, PythonRecordReader)}
if CompiledHotPath is not None and CompiledRecordReader is not None:
    CORES["compiled"] = (CompiledHotPath, CompiledRecordReader)


@functools.cache
def key_log() -> tuple[ssl.SSLContext, KeyLog]:
    """One for all rigs: no handshake of theirs takes place."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return context, KeyLog(context)


class DirectRig(Rig):
    """A hot path behind a TLS handshake, as it were: the test has the server's keys.

    Attributes:
        sealed: seals what the server sends.
        ours: the client's keys.

    """

    def __init__(self, core: str, suite: str = TLS13[0], *, early: bytes = b"", **options: Any) -> None:
        self.sealed, self.ours = Sealed(suite), Sealed(suite, fill=9).receiving()
        self._reader, self._early = CORES[core][1], early
        super().__init__(CORES[core][0], **options)

    def remake(self) -> None:
        if not isinstance(self.transport, DirectTransport):
            self.transport = self._loop.run_until_complete(self._direct())
        super().remake()

    async def _direct(self) -> DirectTransport:
        context, log = key_log()
        transport: Any = DirectTransport(self.client, stamped=False, context=context, host="localhost", key_log=log)
        ours = Sealed(self.sealed.keys.suite.name, fill=9).receiving()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(direct, "RecordReader", self._reader)
            transport._incoming.write(self._early)
            transport.begin(self.sealed.receiving(), Sending(transport._tls, transport._outgoing, ours))
        return transport


@pytest.fixture(params=["python", "compiled"])
def core(request) -> str:
    if request.param not in CORES:
        pytest.skip("the compiled hot path was not built here: no compiler, or no Cython")
    return request.param


@pytest.fixture
def make_rig(core) -> Callable[..., DirectRig]:
    return lambda *args, **options: DirectRig(core, *args, **options)


class TestRecords:
    @pytest.mark.parametrize("suite", TLS13 + TLS12)
    def test_each_is_stamped_and_handed_off_by_itself(self, make_rig, suite):
        with make_rig(suite) as rig:
            wire = b"".join(rig.sealed.seal(text(f"message {n}")) for n in range(5))
            rig.server.sendall(wire)
            slots = rig.read()
            assert [slot.payload for slot in slots] == [b"message %d" % n for n in range(5)]
            assert [slot.frame_in_read for slot in slots] == [0, 1, 2, 3, 4]
            assert {(slot.frames_in_read, slot.read_bytes) for slot in slots} == {(5, len(wire))}
            for one, two in itertools.pairwise(slots):
                assert one.recv_end <= one.handoff <= two.recv_end
            assert len({slot.recv_end for slot in slots}) == 5
            assert (rig.hot.reads, rig.hot.received) == (1, 5 * 11)

    def test_a_lone_one_is_marked_as_the_last_at_once(self, make_rig):
        with make_rig() as rig:
            rig.server.sendall(rig.sealed.seal(text("a")) + rig.sealed.seal(text("b")) + b"\x17")
            one, two = rig.read()
            assert (bool(one.flags & Flag.LAST), bool(two.flags & Flag.LAST)) == (False, True)

    def test_what_came_with_the_handshake_is_the_beginning(self, core):
        sealed = Sealed(TLS13[0])
        early = sealed.seal(TICKET, HANDSHAKE) + sealed.seal(text("early"))
        late = sealed.seal(text("late"))
        with DirectRig(core, early=early + late[:7]) as rig:
            rig.server.sendall(late[7:])
            assert [slot.payload for slot in rig.read()] == [b"early", b"late"]

    @pytest.mark.parametrize("closed", [True, False], ids=["and then the end", "and nothing else"])
    def test_records_that_came_in_full_with_the_handshake_need_no_others(self, core, closed):
        sealed = Sealed(TLS13[0])
        early = sealed.seal(TICKET, HANDSHAKE) + sealed.seal(text("early")) + sealed.seal(text("too"))
        with DirectRig(core, early=early + sealed.seal(text("cut off"))[:9]) as rig:
            if closed:
                rig.server.close()
            assert rig.hot.on_readable()
            assert [(slot.payload, slot.frames_in_read) for slot in rig.reader.take()] == [(b"early", 2), (b"too", 2)]
            assert (rig.ends, rig.transport.undecrypted) == ([], 9)
            assert not rig.hot.on_readable()
            assert (rig.ends, rig.transport.undecrypted) == ([None] * closed, 9)

    def test_an_alert_that_came_with_the_handshake_is_the_reason_of_the_end(self, core):
        with DirectRig(core, early=Sealed(TLS13[0]).seal(b"\x02\x28", ALERT)) as rig:
            rig.server.close()
            rig.hot.on_readable()
            (end,) = rig.ends
            assert "handshake_failure" in str(end)

    @pytest.mark.parametrize("size", [16_384, 12_345])
    def test_the_largest_into_a_ring_that_is_nearly_full(self, make_rig, size):
        data = b"".join(text(random.Random(n).randbytes(size - 4)) for n in range(40))
        with make_rig(ring=MIN_RING) as rig:
            wire = memoryview(b"".join(rig.sealed.seal(data[at : at + size]) for at in range(0, len(data), size)))
            rig.server.setblocking(False)
            while wire or rig.readable():
                if wire:
                    with suppress(BlockingIOError):
                        wire = wire[rig.server.send(wire[:5000]) :]
                full = rig.full
                rig.pump(release=False)
                if rig.full > full:
                    rig.reader.release()
            assert rig.ends == []
            assert b"".join(text(payload) for _, payload in rig.reader.received()) == data


def nothing_left(rig: DirectRig) -> bool:
    """Whether the memory that the writer sees has nothing that was decrypted and not handed off, but content types."""
    head = rig.ring.head.read() & rig.ring.mask
    return set(rig.ring.view[head : head + 1000]) <= {0, ALERT, HANDSHAKE, APPLICATION_DATA}


def told(rig: DirectRig) -> list[tuple[int, bytes]]:
    """The content of what the server is sent in the end."""
    rig.transport.close()
    try:
        data = rig.server.recv(1000)
    except ConnectionResetError:
        # it had sent more than was read
        data = b""
    return [opened(rig.ours, record) for record in split(data)]


class TestEnds:
    """What was whole before the end is recorded, and nothing behind it; what is not decrypted is counted."""

    @pytest.fixture(autouse=True, params=["behind data", "first of its read"])
    def _place(self, request) -> None:
        self.first = request.param == "first of its read"

    def check(self, rig: DirectRig, wire: bytes, left: int) -> Any:
        good = rig.sealed.seal(text("good"))
        slots = []
        if self.first:
            rig.server.sendall(good)
            slots, good = rig.read(), b""
        rig.server.sendall(good + wire)
        slots += rig.read()
        assert [(slot.payload, slot.frames_in_read) for slot in slots] == [(b"good", 1)]
        (end,) = rig.ends
        assert rig.transport.undecrypted == left
        assert nothing_left(rig)
        # it stays the end, whatever comes
        rig.server.sendall(rig.sealed.seal(text("behind the end")))
        rig.transport.ciphertext[:] = bytes(len(rig.transport.ciphertext))
        assert rig.hot.on_readable() is False
        assert rig.ends == [end, end]
        assert rig.reader.take() == []
        # nothing was copied or received to be decrypted
        assert not any(rig.transport.ciphertext)
        assert rig.transport.undecrypted == left
        if not rig.sealed.keys.suite.explicit_nonce:
            # only OpenSSL knows that nonce, which has no part in this
            assert told(rig) == ([(ALERT, bytes((2, end.alert)))] if isinstance(end, TlsViolationError) else [])
        return end

    @pytest.mark.parametrize("suite", TLS13 + TLS12)
    def test_a_changed_record(self, make_rig, suite):
        with make_rig(suite) as rig:
            good = rig.sealed
            first = good.seal(text("good"))
            bad, behind = good.seal(text("never")), good.seal(text("never"))
            rig.sealed = Sealed(suite)
            changed = bad[:-1] + bytes((bad[-1] ^ 1,))
            end = self.check(rig, changed + behind, len(changed + behind))
            assert first
            assert isinstance(end, RecordError)

    def test_a_repeated_record(self, make_rig):
        with make_rig() as rig:
            again = Sealed(TLS13[0]).seal(text("good"))
            assert isinstance(self.check(rig, again, len(again)), RecordError)

    def test_records_out_of_order(self, make_rig):
        with make_rig() as rig:
            other = Sealed(TLS13[0], sequence=1)
            two, three = other.seal(text("two")), other.seal(text("three"))
            assert isinstance(self.check(rig, three + two, len(three + two)), RecordError)

    def test_plaintext(self, make_rig):
        with make_rig() as rig:
            assert isinstance(self.check(rig, b"\x15\x03\x03\x00\x02\x02\x28", 7), RecordError)

    @pytest.mark.parametrize("suite", [TLS13[0], TLS12[0]])
    def test_close_notify(self, make_rig, suite):
        with make_rig(suite) as rig:
            sealed = Sealed(suite, sequence=rig.sealed.keys.sequence + 1)
            assert self.check(rig, sealed.seal(CLOSE_NOTIFY, ALERT) + b"behind", 6) is None

    def test_more_behind_it_than_a_record(self, make_rig):
        with make_rig() as rig:
            rig.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            behind = random.Random(1).randbytes(40_000)
            wire = Sealed(TLS13[0], sequence=1).seal(CLOSE_NOTIFY, ALERT) + behind
            assert self.check(rig, wire, len(behind)) is None

    def test_another_alert(self, make_rig):
        with make_rig() as rig:
            end = self.check(rig, Sealed(TLS13[0], sequence=1).seal(b"\x02\x50", ALERT), 0)
            assert type(end) is ssl.SSLError
            assert "internal_error" in str(end)

    @pytest.mark.parametrize(
        "message", [b"\x0d" + (9).to_bytes(3) + bytes(9), b"\x01\0\0\0", KEY_UPDATE + KEY_UPDATE, b"\x18\0\0\x01\x07"]
    )
    def test_a_handshake_message_that_is_not_known(self, make_rig, message):
        with make_rig() as rig:
            end = self.check(rig, Sealed(TLS13[0], sequence=1).seal(message, HANDSHAKE), 0)
            assert isinstance(end, UnknownToDirectError)

    def test_data_within_a_handshake_message(self, make_rig):
        with make_rig() as rig:
            sealed = Sealed(TLS13[0], sequence=1)
            wire = sealed.seal(TICKET[:20], HANDSHAKE) + sealed.seal(text("never"))
            assert isinstance(self.check(rig, wire, 0), ssl.SSLError)

    def test_the_end_of_the_stream_within_a_record(self, make_rig):
        with make_rig() as rig:
            rig.server.sendall(rig.sealed.seal(text("good")) + rig.sealed.seal(text("cut off"))[:20])
            rig.server.close()
            assert [slot.payload for slot in rig.pump()] == [b"good"]
            assert rig.ends == [None]
            assert rig.transport.undecrypted == 20


class TestBrokenOff:
    def test_what_a_consumer_raises_in_the_middle_of_a_read_is_the_reason_of_the_end(self, make_rig):
        def interrupt(first: int, end: int) -> None:
            raise KeyboardInterrupt

        with make_rig() as rig:
            rig.on_batch = interrupt
            rig.remake()
            one = rig.sealed.seal(text("one"))
            left = rig.sealed.seal(text("two")) + rig.sealed.seal(text("three"))[:7]
            rig.server.sendall(one + left)
            with pytest.raises(KeyboardInterrupt):
                rig.hot.on_readable()
            (end,) = rig.ends
            assert str(end) == "a read was broken off by KeyboardInterrupt"
            assert rig.transport.undecrypted == len(left)
            rig.server.sendall(rig.sealed.seal(text("four")))
            rig.hot.on_readable()
            assert rig.ends == [end, end]


class TestOtherRecords:
    def test_tickets_and_empty_records_are_passed_over(self, make_rig):
        with make_rig() as rig:
            rig.server.sendall(
                rig.sealed.seal(TICKET[:30], HANDSHAKE)
                + rig.sealed.seal(TICKET[30:] + TICKET, HANDSHAKE, padding=100)
                + rig.sealed.seal(b"", padding=50)
                + rig.sealed.seal(text("data"), padding=3)
                + rig.sealed.seal(TICKET, HANDSHAKE)
            )
            assert [(slot.payload, slot.frames_in_read) for slot in rig.read()] == [(b"data", 1)]
            assert nothing_left(rig)

    def test_hello_requests_are_declined_by_silence(self, make_rig):
        with make_rig(TLS12[0]) as rig:
            rig.server.sendall(rig.sealed.seal(bytes(4), HANDSHAKE) + rig.sealed.seal(text("data")))
            assert [slot.payload for slot in rig.read()] == [b"data"]
            assert not rig.ends

    def test_data_within_a_hello_request_is_not_lost(self, make_rig):
        """It may begin at any time, and come in any records (RFC 5246 6.2.1, 7.4.1.1)."""
        with make_rig(TLS12[0]) as rig:
            wire = rig.sealed.seal(bytes(3), HANDSHAKE) + rig.sealed.seal(text("one"))
            rig.server.sendall(wire + rig.sealed.seal(bytes(1), HANDSHAKE) + rig.sealed.seal(text("two")))
            assert [slot.payload for slot in rig.read()] == [b"one", b"two"]
            assert not rig.ends

    def test_reads_of_nothing_else_are_no_reads(self, make_rig):
        with make_rig() as rig:
            rig.server.sendall(rig.sealed.seal(TICKET, HANDSHAKE))
            assert rig.read() == []
            assert (rig.hot.reads, rig.ends) == (0, [])

    @pytest.mark.parametrize("suite", TLS13)
    def test_new_keys_are_followed_and_answered(self, make_rig, suite):
        with make_rig(suite) as rig:
            sent = b""
            for n in range(3):
                wire = rig.sealed.seal(text(f"old {n}")) + rig.sealed.seal(KEY_UPDATE_BOTH, HANDSHAKE)
                rig.sealed.change_keys()
                rig.server.sendall(wire + rig.sealed.seal(text(f"new {n}")))
                assert [slot.payload for slot in rig.read()] == [b"old %d" % n, b"new %d" % n]
                rig.transport.send(b"sent")
                sent = rig.server.recv(1000)
                update, data = split(sent)
                assert opened(rig.ours, update) == (HANDSHAKE, KEY_UPDATE)
                rig.ours = rig.ours.next()
                assert opened(rig.ours, data) == (APPLICATION_DATA, b"sent")

    def test_new_keys_without_end_are_refused(self, make_rig):
        with make_rig() as rig:
            for n in range(40):
                wire = rig.sealed.seal(KEY_UPDATE, HANDSHAKE)
                rig.sealed.change_keys()
                rig.server.sendall(wire + rig.sealed.seal(text(f"{n}")))
                assert [slot.payload for slot in rig.read()] == [b"%d" % n]
            wire = b""
            for _ in range(KEY_UPDATES_MAX + 1):
                wire += rig.sealed.seal(KEY_UPDATE, HANDSHAKE)
                rig.sealed.change_keys()
            rig.server.sendall(wire + rig.sealed.seal(text("never")))
            assert rig.read() == []
            assert f"more than {KEY_UPDATES_MAX} TLS KeyUpdates" in str(rig.ends[0])

    def test_new_keys_that_ask_for_none_of_ours(self, make_rig):
        with make_rig() as rig:
            wire = rig.sealed.seal(KEY_UPDATE, HANDSHAKE)
            rig.sealed.change_keys()
            rig.server.sendall(wire + rig.sealed.seal(text("new")))
            assert [slot.payload for slot in rig.read()] == [b"new"]
            rig.server.setblocking(False)
            with pytest.raises(BlockingIOError):
                rig.server.recv(1)

    def test_without_the_new_keys_it_ends(self, make_rig):
        with make_rig() as rig:
            rig.server.sendall(rig.sealed.seal(KEY_UPDATE, HANDSHAKE) + rig.sealed.seal(text("old keys")))
            assert rig.read() == []
            assert isinstance(rig.ends[0], RecordError)


others = st.sampled_from(["ticket", "split ticket", "empty", "update", "update both"])
parts = st.lists(st.integers(1, 400) | st.just(16_384) | others, min_size=1, max_size=8)


def wire_of(sealed: Sealed, data: bytes, parts: list[int | str]) -> bytes:
    """`data` in records of these sizes in turn, with records of other content between."""
    wire, at = b"", 0
    for part in itertools.cycle([*parts, 16_384]):
        if isinstance(part, int):
            wire += sealed.seal(data[at : at + part], padding=part % 7 if sealed.keys.version == "TLSv1.3" else 0)
            at += part
            if at >= len(data):
                return wire
        elif part == "empty":
            wire += sealed.seal()
        elif sealed.keys.version == "TLSv1.2":
            wire += sealed.seal(bytes(4), HANDSHAKE)
        elif part == "ticket":
            wire += sealed.seal(TICKET, HANDSHAKE)
        elif part == "split ticket":
            wire += sealed.seal(TICKET[:3], HANDSHAKE) + sealed.seal(TICKET[3:], HANDSHAKE)
        else:
            wire += sealed.seal(KEY_UPDATE_BOTH if part == "update both" else KEY_UPDATE, HANDSHAKE)
            sealed.change_keys()
    raise AssertionError


frames = st.lists(
    st.builds(frame, st.sampled_from([0, 1, 2]), st.binary(max_size=300), fin=st.booleans())
    | st.builds(frame, st.sampled_from([8, 9, 10]), st.binary(max_size=125))
    | st.builds(frame, st.just(1), st.integers(0, 30_000).map(bytes)),
    max_size=10,
).map(b"".join)


@pytest.mark.skipif("compiled" not in CORES, reason="the compiled hot path was not built here")
class TestBothAlike:
    @given(
        frames,
        parts,
        st.sampled_from(TLS13 + TLS12),
        st.lists(st.floats(0, 1), max_size=6),
        st.sampled_from(["", "close", "changed", "cut", "plaintext"]),
        st.integers(0, 1 << 20),
    )
    @settings(max_examples=examples(100), deadline=None)
    def test_any_frames_in_any_records_however_cut(self, data, parts, suite, cuts, end, place):
        sealed = Sealed(suite)
        wire = bytearray(wire_of(sealed, data, parts))
        if end == "close":
            wire += sealed.seal(CLOSE_NOTIFY, ALERT) + b"behind"
        elif end == "changed":
            wire[place % len(wire)] ^= 1 << place % 8
        elif end == "cut":
            del wire[place % len(wire) :]
        elif end == "plaintext":
            wire += b"\x15\x03\x03\x00\x02\x02\x28"
        edges = [0, *sorted(int(cut * len(wire)) for cut in cuts), len(wire)]
        python, compiled = (self.seen(core, suite, bytes(wire), edges) for core in CORES)
        assert compiled == python
        if not end:
            # and as without TLS
            assert python[0] == self.seen_plain(data)

    def seen(self, core: str, suite: str, wire: bytes, edges: list[int]) -> Any:
        with DirectRig(core, suite, ring=1 << 18) as rig:
            slots = []
            rig.server.setblocking(False)
            for first, last in itertools.pairwise(edges):
                view = memoryview(wire)[first:last]
                while (view or rig.readable()) and not rig.ends:
                    if view:
                        with suppress(BlockingIOError):
                            view = view[rig.server.send(view) :]
                    slots += rig.pump()
            rig.server.setblocking(True)
            if not rig.ends:
                rig.server.shutdown(socket.SHUT_WR)
                rig.pump()
            rig.server.setblocking(False)
            try:
                answers = len(split(rig.server.recv(1 << 16)))
            except OSError:
                answers = 0
            return (
                [(slot.opcode, slot.flags & ~Flag.LAST, slot.payload) for slot in slots],
                [(slot.offset, slot.flags, slot.frame_in_read, slot.frames_in_read, slot.read_bytes) for slot in slots],
                [reported[:2] for reported in rig.controls],
                [(type(found), str(found)) for found in rig.ends],
                (rig.hot.unparsed, rig.transport.undecrypted, rig.hot.reads, rig.hot.frames, rig.hot.received),
                answers,
            )

    def seen_plain(self, data: bytes) -> Any:
        with Rig(HotPath, ring=1 << 18) as rig:
            return [(slot.opcode, slot.flags & ~Flag.LAST, slot.payload) for slot in rig.feed(data)]


class TestOpensslServer:
    """OpenSSL as the server: it changes keys when told to."""

    @pytest.mark.parametrize("suite", TLS13 + TLS12)
    def test_talks_with_it(self, authority, ca_file, tmp_path, suite):
        with OpensslServer(suite, authority, tmp_path) as server:

            async def run() -> None:
                transport = await connected(server, ca_file)
                reading = Reading(transport)
                for n in range(3):
                    server.say(b"message %d\n" % n)
                    assert await reading.line() == b"message %d" % n
                    transport.send(b"answer %d\n" % n)
                    assert server.line(b"answer") == b"answer %d" % n
                    if suite in TLS13:
                        # it asks for our keys, changes its own, and asks again
                        for command in (b"K\n", b"k\n", b"K\n"):
                            keys = transport._keys
                            server.say(command)
                            while transport._keys is keys:
                                assert await reading.read() is None
                        server.say(b"new keys\n")
                        assert await reading.line() == b"new keys"
                # a server that has not read all ends by a reset
                transport.send(b"last\n")
                server.line(b"last")
                server.say(b"Q\n")
                while await reading.read() != 0:
                    pass
                transport.close()

            asyncio.run(run())

    def test_a_websocket_over_changing_keys(self, authority, ca_file, tmp_path):
        """Pings are answered with our new keys: with the old ones, the server would end the connection."""
        with OpensslServer(TLS13[0], authority, tmp_path) as server:

            async def run() -> list[str]:
                got: list[str] = []
                opening = asyncio.ensure_future(
                    wsrec.connect(
                        f"wss://localhost:{server.port}/",
                        on_message=lambda message: got.append(message.text),
                        ca_file=ca_file,
                        tls="direct",
                        proxy=None,
                    )
                )
                loop = asyncio.get_running_loop()
                line = await loop.run_in_executor(None, server.line, b"Sec-WebSocket-Key: ")
                key = line.rpartition(b" ")[2].strip().decode()
                server.say(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
                )
                connection = await opening
                for n in range(5):
                    transport: Any = connection._transport
                    keys = transport._keys
                    server.say(b"K\n")
                    async with asyncio.timeout(30):
                        while transport._keys is keys:
                            await asyncio.sleep(0.001)
                        server.say(frame(9, b"ping\n") + frame(TEXT, b"message %d\n" % n))
                        while len(got) <= n and not connection.closed:
                            await asyncio.sleep(0.01)
                assert not connection.closed
                await connection.close()
                return got

            assert asyncio.run(run()) == [f"message {n}\n" for n in range(5)]


async def connected(server: OpensslServer, ca_file: Any) -> DirectTransport:
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.setblocking(False)
    context = tls_context(str(ca_file))
    transport: Any = make("direct", sock, context, "localhost")
    await transport.handshake()
    assert transport.refusal is None
    return transport


class Reading:
    def __init__(self, transport: DirectTransport) -> None:
        self._transport = transport
        self._data = b""

    async def line(self) -> bytes:
        while b"\n" not in self._data:
            assert await self.read() != 0
        line, _, self._data = self._data.partition(b"\n")
        return line

    async def read(self) -> int | None:
        await readable(self._transport)
        into = memoryview(bytearray(1 << 17))
        size = self._transport.read(into)
        while size:
            self._data += into[:size]
            size = self._transport.more(into)
        return size


HELLO = text("hello") + frame(8, b"\x03\xe8")


def record(exchange: RawExchange, ca_file: Any, tls: TlsMode | None) -> Life:
    async def run() -> Life:
        life = Life(exchange.url.replace("ws:", "wss:"), str(ca_file), tls=tls)
        await asyncio.wait_for(life.task, 60)
        life.reader.take()
        return life

    return asyncio.run(run())


class TestFallback:
    def serve(self, authority, *, ciphers: str | None = None) -> RawExchange:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        if ciphers is not None:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(ciphers)

        def handler(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as wrapped:
                answer(wrapped, HELLO)
                wrapped.recv(100)

        return RawExchange(handler)

    def test_none_where_it_can(self, authority, ca_file):
        with self.serve(authority) as server:
            life = record(server, ca_file, TlsMode.DIRECT)
            (detail,) = life.events(EventKind.TLS)
            assert (detail["mode"], detail["fallback"]) == ("direct", None)
            assert life.reader.received()[0] == (TEXT, b"hello")

    @pytest.mark.parametrize(("tls", "warnings"), [(TlsMode.DIRECT, 1), (None, 0), (TlsMode.AUTO, 0)])
    def test_a_cipher_that_is_not_known_is_read_by_stamped_on_the_same_connection(
        self, authority, ca_file, capfd, tls, warnings
    ):
        with self.serve(authority, ciphers="ECDHE+AES256+SHA384:!AESGCM") as server:
            life = record(server, ca_file, tls)
            (detail,) = life.events(EventKind.TLS)
            assert detail["mode"] == "stamped"
            assert re.fullmatch(r"the server chose TLSv1.2 ECDHE-\w+-AES256-SHA384, .*", detail["fallback"])
            assert life.reader.received()[0] == (TEXT, b"hello")
            assert server.accepted == 1
            said = capfd.readouterr().err
            # of whom asked for it by name
            assert said.count(f"--tls direct is not possible, using stamped: {detail['fallback']}") == warnings
            assert said.upper().count("WARNING") == warnings

    @pytest.mark.parametrize("tls", [TlsMode.DIRECT, TlsMode.AUTO, None])
    def test_a_machine_that_cannot_uses_stamped_and_says_why(self, authority, ca_file, monkeypatch, capfd, tls):
        """The receiver warns once, not each connection."""
        monkeypatch.setattr("wsrec.tls.libcrypto.unavailable", lambda: "no libcrypto here")
        with self.serve(authority) as server:
            life = record(server, ca_file, tls)
            (detail,) = life.events(EventKind.TLS)
            assert (detail["mode"], detail["fallback"]) == ("stamped", "no libcrypto here")
            assert "WARNING" not in capfd.readouterr().err.upper()

    @pytest.mark.parametrize(("tls", "level"), [(TlsMode.DIRECT, "warning"), (None, "info")])
    def test_a_receiver_of_that_machine_says_so_as_loudly_as_it_was_asked(
        self, receive, exchange, ca_file, tmp_path, monkeypatch, tls, level
    ):
        (tmp_path / "sitecustomize.py").write_text("import _ssl\n_ssl.__file__ = '/nowhere.so'\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        receiver = receive(plan(exchange(sends(["a"]), tls=True).url), until_close=True, ca_file=str(ca_file), tls=tls)
        assert receiver.ended() == 0
        said = [line for line in receiver.lines() if isinstance(line, ipc.LogLine) and "--tls direct" in line.message]
        assert [line.level for line in said] == [level]
        assert "is not possible here, using stamped: the library of OpenSSL" in said[0].message

    @pytest.mark.parametrize(
        ("error", "modes"),
        [
            (
                UnknownToDirectError("the server sent a TLS message 13", None),
                ["direct", "stamped", "stamped"],
            ),
            (RecordError(Refusal.EMPTY_MESSAGE, "TLSv1.2"), ["direct", "stamped", "stamped"]),
            (RecordError(Refusal.TAG, "TLSv1.3"), ["direct", "stamped", "direct"]),
            (ConnectionResetError(104, "Connection reset by peer"), ["direct", "direct", "direct"]),
        ],
    )
    def test_what_openssl_may_know_better_comes_in_stamped(self, authority, ca_file, error, modes):
        async def run() -> None:
            with self.serve_on(authority) as server:
                life = Life(server.url.replace("ws:", "wss:"), str(ca_file), tls=TlsMode.DIRECT)
                for count, end in ((1, error), (2, ConnectionResetError(104, "Connection reset by peer"))):
                    await life.until(lambda count=count: len(life.events(EventKind.TLS)) == count)
                    active = await life.until(lambda: life.connection.sides.active)
                    active.end(end)
                await life.until(lambda: len(life.events(EventKind.TLS)) == 3)
                await life.stop()
                assert [detail["mode"] for detail in life.events(EventKind.TLS)][:3] == modes
                assert error.strerror in life.events(EventKind.DISCONNECT)[0]["message"]

        asyncio.run(run())

    def test_a_stream_that_is_cut_off_within_a_record_says_how_much_of_it_came(self, authority, ca_file):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        def handler(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as wrapped:
                answer(wrapped, text("hello") + text("cut off")[:4])
                os.write(wrapped.fileno(), b"\x17\x03\x03\0\x50" + bytes(20))

        async def run() -> None:
            with RawExchange(handler) as server:
                life = Life(server.url.replace("ws:", "wss:"), str(ca_file), tls=TlsMode.DIRECT)
                await life.until(lambda: life.events(EventKind.DISCONNECT))
                await life.stop()
                detail = life.events(EventKind.DISCONNECT)[0]
                assert detail["discarded_bytes"] == 4 + 25
                assert detail["received_bytes"] >= len(text("hello")) + 4 + 25
                # the verifier's sum: what was received and not discarded is in the ring
                _, _, received, discarded, _ = life.connection.sides.all[0].totals
                assert received - discarded == life.ring.head.read()

        asyncio.run(run())

    def serve_on(self, authority) -> RawExchange:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        def handler(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as wrapped:
                answer(wrapped, text("hello"))
                wrapped.recv(100)
                wrapped.recv(100)

        return RawExchange(handler)

    def test_keys_that_libcrypto_does_not_take_are_wiped(self, make_rig, monkeypatch):
        def refuses(keys: TrafficKeys) -> None:
            raise LibcryptoError("libcrypto refuses")

        with make_rig() as rig:
            theirs, ours = Sealed(TLS13[0]).receiving(), Sealed(TLS13[0]).receiving()
            parts = [part for keys in (theirs, ours) for part in (keys.key, keys.iv, keys.secret)]
            monkeypatch.setattr(direct, "RecordReader", refuses)
            with pytest.raises(LibcryptoError):
                rig.transport.begin(theirs, Sending(rig.transport._tls, rig.transport._outgoing, ours))
            assert not any(any(part) for part in parts)

    def test_more_behind_the_handshake_than_it_keeps_is_left_to_openssl(self, make_rig):
        with make_rig() as rig:
            transport: Any = rig.transport
            transport._incoming.write(bytes(RECORD_MAX + 1))
            with pytest.raises(ValueError, match=f"{RECORD_MAX + 1} bytes together with its handshake"):
                transport.begin(Sealed(TLS13[0]).receiving(), transport._sending)
            assert transport._incoming.pending == RECORD_MAX + 1
