"""The receiver with `--segments`: each message's stamps are those that libpcap has for its own packets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.receive.conftest import OWN_RECORDS, Slot
from tests.receive.test_receiver import Receiver, plan
from tests.segments import libpcap
from tests.segments.joined import Joined
from wsrec.options.record import TlsMode
from wsrec.receive import ktls
from wsrec.ring.events import EventKind
from wsrec.segments.capture import unavailable
from wsrec.segments.segment_ring import CaptureState

pytestmark = pytest.mark.skipif(
    (refusal := unavailable()) is not None, reason=f"no segments can be captured here: {refusal and refusal.reason}"
)

TEXT = 1
MODES = [
    pytest.param(mode, marks=pytest.mark.skipif(unable is not None, reason=f"{unable and unable.reason}"))
    for mode in TlsMode
    if mode is not TlsMode.AUTO
    for unable in [ktls.unable() if mode is TlsMode.KTLS else None]
]


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    running: list[Receiver] = []

    def start(*plans: Any, **options: Any) -> Receiver:
        running.append(Receiver(*plans, segments=True, **options))
        return running[-1]

    yield start
    for receiver in running:
        if receiver.process.poll() is None:
            receiver.process.kill()
            receiver.process.communicate()


def paced(sizes: list[int]) -> Any:
    """A handler that sends messages of these sizes, each in a segment of its own, then some that share one."""

    async def handler(connection) -> None:
        for size in sizes:
            await connection.send("x" * size)
            await asyncio.sleep(0.002)
        for size in sizes:
            await connection.send("y" * size)
        await connection.wait_closed()

    return handler


def texts(receiver: Receiver) -> list[Slot]:
    return [slot for slot in receiver.reader.taken if not slot.flags & OWN_RECORDS and slot.opcode == TEXT]


def header(slot: Slot) -> int:
    """Size of the header of a server's frame."""
    return 2 if len(slot.payload) < 126 else 4 if len(slot.payload) < 1 << 16 else 10


SIZES = [200, 201, 5000, 203, 100, 70_000, 205, 206]


@pytest.mark.parametrize("tls", [None, *MODES])
def test_each_message_has_the_stamps_of_its_own_packets(receive, exchange, ca_file, tmp_path, tls):
    server = exchange(paced(SIZES), tls=tls is not None)
    port = int(server.url.split(":")[2].split("/")[0])
    file = tmp_path / "lo.pcap"
    with libpcap.recording(file, "lo", f"tcp port {port}"):
        receiver = receive(plan(server.url), ca_file=str(ca_file), tls=tls or TlsMode.STAMPED)
        receiver.until(lambda: len(receiver.reader.received()) >= 2 * len(SIZES))
        assert receiver.stop() == 0, (receiver.output, receiver.errors)
    assert receiver.segments.state.read() == CaptureState.ENDED
    joined = Joined(receiver.segments, receiver.stream_map)
    packets = list(libpcap.read(file))
    (local,) = {packet.target for packet in packets if packet.source == port}
    reference = libpcap.Reference(packets, local)
    wanted: dict[int, int] = {}
    found: dict[int, int] = {}
    slots = texts(receiver)
    assert [len(slot.payload) for slot in slots] == SIZES * 2
    for slot in slots:
        end = slot.offset + len(slot.payload)
        place, first = joined.offset(slot.conn, end), joined.place(slot.conn, slot.offset - header(slot))
        last = joined.place(slot.conn, end - 1)
        assert place is not None
        assert first is not None
        assert last is not None
        # one frame a record, and the record's tag behind it
        assert last[1] - first[1] == header(slot) + len(slot.payload) - 1 or len(slot.payload) > 16_000
        assert 1 <= place[1] - last[1] <= 18
        for byte, stamp in (
            (place[1] - 1, joined.stamp(slot.conn, end)),
            (first[1], joined.first(slot.conn, slot.offset - header(slot))),
        ):
            assert stamp is not None
            found[byte] = stamp
        wanted[place[1] - 1] = len(slot.payload)
    assert reference.differences(found) == []
    # and independently of the map: a lone message ends where its packet does
    ends = {places[0] for byte, places in reference.arrivals.items() if byte in wanted}
    assert len(ends) >= len(SIZES)
    for slot in slots[: len(SIZES)]:
        byte = joined.offset(slot.conn, slot.offset + len(slot.payload))[1] - 1
        after = reference.arrivals.get(byte + 1)
        assert after is None or after[0] != reference.arrivals[byte][0]
    (ended,) = receiver.events(EventKind.SEGMENTS)
    assert ended["segments"] > 0
    assert (ended["dropped"], ended["unmapped"]) == (0, 0)
    assert receiver.errors == b""


def test_each_time_that_it_is_connected_is_a_flow_of_its_own(receive, exchange):
    async def handler(connection) -> None:
        await connection.send("a" * 300)
        await asyncio.sleep(0.05)
        connection.transport.abort()

    server = exchange(handler)
    receiver = receive(plan(server.url))
    receiver.until(lambda: len(texts(receiver)) >= 3)
    assert receiver.stop() == 0, (receiver.output, receiver.errors)
    joined = Joined(receiver.segments, receiver.stream_map)
    slots = texts(receiver)
    places = [joined.offset(slot.conn, slot.offset + 300) for slot in slots]
    assert [place and place[0] for place in places] == list(range(1, len(slots) + 1))
    # as each stream is the same
    assert len({place and place[1] for place in places}) == 1
    assert None not in [joined.stamp(slot.conn, slot.offset + 300) for slot in slots]


@pytest.mark.parametrize("tls", [None, *MODES])
def test_through_a_proxy_what_the_proxy_says_first_is_not_counted_as_the_exchanges(
    receive, exchange, ca_file, scripted_proxy, tls
):
    from msgspec.structs import replace

    from tests.proxies import HOST
    from wsrec.net.proxy import ProxyRules

    server = exchange(paced(SIZES), tls=tls is not None)
    url = server.url.replace("localhost", HOST)
    proxy = scripted_proxy()
    receiver = receive(
        replace(plan(url), proxies=ProxyRules(given=proxy.url)), ca_file=str(ca_file), tls=tls or TlsMode.STAMPED
    )
    receiver.until(lambda: len(receiver.reader.received()) >= 2 * len(SIZES))
    assert receiver.stop() == 0, (receiver.output, receiver.errors)
    joined = Joined(receiver.segments, receiver.stream_map)
    slots = texts(receiver)
    for slot in slots:
        end = slot.offset + len(slot.payload)
        stamp = joined.stamp(slot.conn, end)
        assert stamp is not None
        assert stamp >= (joined.first(slot.conn, slot.offset - header(slot)) or 0) > 0
    # the last message is the last that the exchange sent: nothing of its flow comes behind it
    rows = receiver.segments.run(0, receiver.segments.published.read())
    place = joined.offset(slots[-1].conn, slots[-1].offset + len(slots[-1].payload))
    assert place is not None
    last = rows[(rows["kind"] == 2) & (rows["flow"] == place[0])]
    closing = 60
    assert place[1] <= int((last["offset"] + last["length"]).max()) <= place[1] + closing


def test_a_refusal_is_told_and_recording_goes_on(receive, exchange):
    """As without CAP_NET_RAW: the receiver here is one whose packet sockets are refused."""
    server = exchange(paced(SIZES))
    code = (
        "import socket, runpy; real = socket.socket.__init__\n"
        "def refuse(self, family=-1, *rest, **named):\n"
        "    if family == socket.AF_PACKET: raise PermissionError(1, 'Operation not permitted')\n"
        "    real(self, family, *rest, **named)\n"
        "socket.socket.__init__ = refuse; runpy.run_module('wsrec.receive', run_name='__main__')"
    )
    receiver = receive(plan(server.url), command=["-c", code])
    receiver.until(lambda: len(texts(receiver)) >= len(SIZES))
    assert receiver.stop() == 0, (receiver.output, receiver.errors)
    assert receiver.segments.state.read() == CaptureState.REFUSED
    (event,) = [one for one in receiver.events(EventKind.PRIVILEGE) if "--segments" in one["what"]]
    assert event["reason"] == "a packet socket: Operation not permitted"
    assert "CAP_NET_RAW" in event["hint"]
    warning = next(line for line in receiver.lines() if "--segments" in getattr(line, "message", ""))
    assert warning.level == "warning"
    assert receiver.stream_map.published.read() == 0


def test_time_passes_for_the_writer_while_nothing_arrives(receive, exchange):
    server = exchange(paced([]))
    receiver = receive(plan(server.url))
    receiver.event(EventKind.CONNECT)
    now = time.monotonic_ns()
    receiver.until(lambda: receiver.segments.covered_until.read() > now)
