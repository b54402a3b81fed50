"""wsrec.client.consumer: the readable consumer and the compiled one hand on the same messages of the same slots."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from tests.effort import examples
from tests.receive.conftest import Rig, frame, record
from wsrec.client.consumer import Consumer
from wsrec.client.implementation import CompiledConsumer
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import CompiledHotPath
from wsrec.ring.bytering import MIN_RING
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError

part = st.binary(max_size=300) | st.text(max_size=100).map(str.encode) | st.integers(0, 70_000).map(bytes)
frames = st.lists(
    st.builds(frame, st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY]), part, fin=st.booleans())
    | st.builds(frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), part, rsv1=st.booleans())
    | st.builds(frame, st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]), st.binary(max_size=125)),
    max_size=12,
)


@pytest.mark.skipif(CompiledConsumer is None, reason="the compiled consumer was not built here")
class TestBothAlike:
    @given(frames, st.lists(st.floats(0, 1), max_size=6), st.integers(1, 1000), st.booleans())
    @settings(max_examples=examples(200), deadline=None)
    def test_any_frames_however_cut(self, parts: list[bytes], cuts: list[float], fails_at: int, by_record: bool):
        data = b"".join(parts)
        if by_record:
            data = b"".join(record(data[at : at + 1000]) for at in range(0, len(data), 1000))
        edges = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
        python = seen(HotPath, Consumer, data, edges, fails_at, by_record=by_record)
        assert seen(CompiledHotPath, CompiledConsumer, data, edges, fails_at, by_record=by_record) == python


def seen(
    hot_path: Any, consumer_class: Any, data: bytes, edges: list[int], fails_at: int, *, by_record: bool
) -> list[Any]:
    """All calls of a consumer, in order; it is stopped at an error, as a connection stops it."""
    reported: list[Any] = []

    def on_message(message: Any) -> None:
        assert (bytes(message), len(message)) == (bytes(message.data), len(message.data))
        stamps = message.stamps
        assert list(stamps[1:]) == sorted(stamps[1:])
        place = message.frame_in_read, message.frames_in_read
        assert place[0] < place[1]
        reported.append((message.opcode, bytes(message), *place, message.connection, message.source))
        with suppress(UnicodeDecodeError):
            reported.append(message.text)
        if len(reported) > fails_at:
            raise LookupError

    def on_error(error: Exception) -> None:
        reported.append((type(error), getattr(error, "code", None)))
        consumer.stopped = True

    with Rig(hot_path, ring=MIN_RING, max_message=60_000, by_record=by_record) as rig:
        consumer = consumer_class(
            *(rig.slots, rig.ring, "connection", 60_000),
            on_message=on_message,
            on_control=lambda opcode, payload: reported.append((opcode, payload)),
            on_error=on_error,
        )
        consumer.assembler.inflater = Inflater(context_takeover=True)
        rig.rules.compression = True
        rig.on_batch = consumer.on_batch
        rig.remake()
        rig.server.setblocking(False)
        for first, last in itertools.pairwise(edges):
            view = memoryview(data)[first:last]
            while (view or rig.readable()) and not rig.ends:
                if view:
                    with suppress(BlockingIOError):
                        view = view[rig.server.send(view) :]
                if rig.readable():
                    rig.hot.on_readable()
                # all of a batch is given back when it was handed on
                assert rig.slots.free(rig.producer.count) == rig.slots.capacity
                assert rig.ring.head.read() - rig.ring.tail.read() <= rig.hot.unparsed + 14
        assert rig.full == 0
        reported.append([(type(end), end.code) for end in rig.ends if isinstance(end, ProtocolError)])
    return reported
