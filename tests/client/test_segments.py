"""`wsrec.connect(segments=True)`: `message.arrival()` is the arrival of the message's own segments, by libpcap."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

import wsrec
from tests.segments import libpcap
from tests.segments.bursts import send_bursts
from wsrec.client import arrivals
from wsrec.receive import ktls
from wsrec.segments.capture import CaptureRefused, Unavailable, unavailable
from wsrec.segments.segment_store import SegmentStore

pytestmark = pytest.mark.usefixtures("core")
captured = pytest.mark.skipif(
    (refusal := unavailable()) is not None, reason=f"no segments can be captured here: {refusal and refusal.reason}"
)

# each has a segment of its own, and no other message has its length
ALONE = [1000 + 37 * number for number in range(5)]
BURSTS, BURST = 5, 20
# RFC 8446 5.2: header, content type and tag; the last two lie behind the content
OVERHEAD, TAIL = 22, 17


class Message(NamedTuple):
    size: int
    stamps: wsrec.Stamps
    arrival: wsrec.Arrival


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(limited())


async def arrived(received: list[tuple[wsrec.Message, int]]) -> list[Message]:
    found = await asyncio.gather(*(message.arrival() for message, _ in received))
    return [Message(size, message.stamps, arrival) for (message, size), arrival in zip(received, found, strict=True)]


def captures() -> list[threading.Thread]:
    """The threads of captures that do not end."""
    found = [thread for thread in threading.enumerate() if thread.name == "segments"]
    for thread in found:
        thread.join(10)
    return [thread for thread in found if thread.is_alive()]


def keeping(received: list[tuple[wsrec.Message, int]]) -> Callable[[wsrec.Message], None]:
    return lambda message: received.append((message, len(message)))


async def messages_of(url: str, **options: Any) -> list[Message]:
    """All that a server sends until it closes; their arrivals are asked for after the end."""
    received: list[tuple[wsrec.Message, int]] = []
    async with wsrec.connect(url, on_message=keeping(received), segments=True, **options) as connection:
        await connection.wait_closed()
        return await arrived(received[:])


async def bursts(connection: ServerConnection) -> None:
    await send_bursts(connection, ALONE, BURSTS, BURST)


@captured
@pytest.mark.parametrize("tls", [None, "direct", "stamped", "openssl", "ktls"])
def test_each_message_has_the_arrival_of_its_own_segments(exchange, ca_file, tmp_path, tls):
    if tls == "ktls" and (why := ktls.unable()) is not None:
        pytest.skip(why.reason)
    server = exchange(bursts, tls=tls is not None)
    port = int(server.url.split(":")[2].split("/")[0])
    file = tmp_path / "lo.pcap"
    with libpcap.recording(file, "lo", f"tcp port {port}"):
        clock = wsrec.anchor()
        messages = run(messages_of(server.url, ca_file=ca_file, **({} if tls is None else {"tls": tls})))
    packets = list(libpcap.read(file))
    (local,) = {packet.target for packet in packets if packet.source == port}
    reference = libpcap.Reference(packets, local)
    overhead, tail = (0, 0) if tls is None else (OVERHEAD, TAIL)
    sizes = [4 + message.size for message in messages]
    assert len(messages) == len(ALONE) + BURSTS * BURST
    # where the first message lies in the stream: its packet has its length
    first = next(packet for packet in packets if packet.target == local and packet.length == sizes[0] + overhead)
    start = next(packet.sequence + 1 for packet in packets if packet.target == local and packet.flags & libpcap.SYN)
    ends = itertools.accumulate((size + overhead for size in sizes), initial=(first.sequence - start) & 0xFFFFFFFF)
    _, *ends = ends
    # a busy machine acknowledges late, and is sent some again: which of both TCP took is not known
    again = {byte for byte, arrived in reference.arrivals.items() if len(arrived) > 1}
    bounds = [(end - tail - size, end - 1) for end, size in zip(ends, sizes, strict=True)]
    certain = [number for number, ends in enumerate(bounds) if again.isdisjoint(ends)]
    messages, bounds = [messages[number] for number in certain], [bounds[number] for number in certain]
    assert len(messages) > BURST
    found = [message.arrival for message in messages]
    assert {arrival.source for arrival in found} == {wsrec.StampSource.SEGMENT}
    assert {arrival.order for arrival in found} == {"in_order"}
    firsts = {first: arrival.first for (first, _), arrival in zip(bounds, found, strict=True)}
    lasts = {last: arrival.last for (_, last), arrival in zip(bounds, found, strict=True)}
    assert None not in {*lasts.values(), *firsts.values()}
    assert reference.differences(lasts) == []
    assert reference.differences(firsts) == []
    slack = 1_000_000
    assert all(message.arrival.last <= message.stamps.recv_end + clock.offset + slack for message in messages)
    if tls in (None, "stamped", "direct"):
        late = [message.stamps.nic - message.arrival.last for message in messages]
        # the read has the stamp of its last segment
        assert min(late) >= 0
        assert max(late) > 0


@captured
@pytest.mark.parametrize("wrong", ["later than the read", "again before the read"])
def test_what_cannot_be_or_may_have_been_refused_is_none(exchange, monkeypatch, wrong):
    class Wrong(SegmentStore):
        def find(self, flow, byte):
            found = super().find(flow, byte)
            if wrong == "later than the read":
                return found._replace(stamp=found.stamp + np.uint64(10**10))
            return found._replace(again=found.stamp + np.uint64(1), stamp=found.stamp - np.uint64(1))

    monkeypatch.setattr(arrivals, "SegmentStore", Wrong)
    (message,) = run(messages_of(exchange(sending_one).url))
    assert message.arrival == (None, None, None, wsrec.StampSource.NONE_CONTRADICTED)


@captured
def test_a_message_in_many_segments_and_fragments(exchange):
    """Its first byte came first, also where its parts are assembled."""

    async def handler(connection: ServerConnection) -> None:
        async def slowly():
            for part in ("a" * 300, "b" * 70_000, "c"):
                yield part
                await asyncio.sleep(0.05)

        await connection.send(slowly())
        await connection.send("d" * 400_000)

    fragmented, large = run(messages_of(exchange(handler).url, ring_size=1 << 20))
    assert (fragmented.size, large.size) == (70_301, 400_000)
    assert fragmented.arrival.last - fragmented.arrival.first >= 100_000_000
    # None where TCP sent its first bytes again before they were read, as it does on a busy machine
    if large.arrival.first is not None:
        assert large.arrival.first >= fragmented.arrival.last
        assert large.arrival.last > large.arrival.first


@captured
def test_it_can_be_awaited_from_a_task_of_the_callback_and_in_several_connections(exchange):
    async def handler(connection: ServerConnection) -> None:
        await connection.send("a" * 100)
        await connection.wait_closed()

    async def main() -> list[wsrec.Arrival]:
        tasks: list[asyncio.Task[wsrec.Arrival]] = []

        def on_message(message: wsrec.Message) -> None:
            tasks.append(asyncio.create_task(message.arrival()))

        url = exchange(handler).url
        async with (
            wsrec.connect(url, on_message=on_message, segments=True) as one,
            wsrec.connect(url, on_message=on_message, segments=True) as other,
        ):
            assert one._captured is not None
            assert other._captured is not None
            assert one._captured._follower is other._captured._follower
            while len(tasks) < 2:
                await asyncio.sleep(0.001)
            return await asyncio.gather(*tasks)

    assert None not in [arrival.last for arrival in run(main())]


@captured
def test_each_connection_of_a_reconnection_has_its_own(exchange):
    async def handler(connection: ServerConnection) -> None:
        await connection.send("a" * 100)

    async def main() -> list[Message]:
        received: list[tuple[wsrec.Message, int]] = []
        number = 0
        async for _ in wsrec.connect(exchange(handler).url, on_message=keeping(received), segments=True):
            number += 1
            if number == 3:
                break
        return await arrived(received[:])

    messages = run(main())
    assert len(messages) >= 2
    assert all(message.arrival.last <= message.stamps.nic for message in messages)
    # none is of the connection before
    assert all(one.stamps.nic < other.arrival.first for one, other in itertools.pairwise(messages))


@captured
def test_what_was_forgotten_says_so(exchange, monkeypatch):
    monkeypatch.setattr(arrivals, "KEEP_NS", 0)
    (message,) = run(messages_of(exchange(sending_one).url))
    assert message.arrival == (None, None, None, wsrec.StampSource.NONE_FORGOTTEN)


@captured
def test_nothing_grows_and_nothing_is_left(exchange, monkeypatch):
    """What is older than it may be is forgotten, and the capture's thread ends."""
    monkeypatch.setattr(arrivals, "_KEEP_SEGMENTS_NS", 200_000_000)
    monkeypatch.setattr(arrivals, "_IDLE", 0.01)

    async def main() -> None:
        received: list[tuple[wsrec.Message, int]] = []
        async with wsrec.connect(exchange(bursts).url, on_message=keeping(received), segments=True) as connection:
            follower = connection._captured._follower
            await connection.wait_closed()
            await arrived(received)
        assert len(follower._store)
        while len(follower._store) or len(follower._map) > 1 or follower._idling:
            await asyncio.sleep(0.01)
        assert not follower._marks or len(follower._marks) < 100
        assert follower._free == [0]
        assert not follower._finalize.alive

    run(main())
    assert not captures()


@captured
def test_a_loop_that_is_closed_leaves_no_thread(exchange):
    async def main() -> None:
        # never closed
        await wsrec.connect(exchange(sending_one).url, on_message=lambda message: None, segments=True)

    run(main())
    run(messages_of(exchange(sending_one).url))
    assert not captures()


async def sending_one(connection: ServerConnection) -> None:
    await connection.send("a" * 100)


def test_what_was_not_asked_for_is_refused(exchange):
    async def main() -> None:
        received: list[wsrec.Message] = []
        async with wsrec.connect(exchange(sending_one).url, on_message=received.append) as connection:
            await connection.wait_closed()
        with pytest.raises(ValueError, match="segments=True"):
            received[0].arrival()

    run(main())


def test_where_it_is_not_possible_all_goes_on_without(exchange, caplog, monkeypatch):
    def refuse(*args: object) -> None:
        raise CaptureRefused(Unavailable("a packet socket: Operation not permitted", "give CAP_NET_RAW"))

    monkeypatch.setattr(arrivals, "Capture", refuse)

    async def main() -> list[Message]:
        url = exchange(sending_one).url
        return [*await messages_of(url), *await messages_of(url)]

    messages = run(main())
    assert [message.arrival for message in messages] == [(None, None, None, wsrec.StampSource.NONE_REFUSED)] * 2
    assert [message for message in caplog.messages if "segments" in message] == [
        "capturing segments was refused: a packet socket: Operation not permitted; give CAP_NET_RAW"
    ]
