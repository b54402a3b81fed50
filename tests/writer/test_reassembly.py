"""wsrec.writer.reassembly: messages whole, each once, whatever the frames were cut into."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import payloads, slot
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.stages import StampSource
from wsrec.wire.frames import BINARY, CONTINUATION, PING, TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.reassembly import Reassembler
from wsrec.writer.segment_slots import with_segments

FIN = int(Flag.FIN)
PART = 0
SENT = int(Flag.SENT)
EVENT = int(Flag.EVENT)
RSV1 = int(Flag.RSV1)


class Frame(NamedTuple):
    payload: bytes
    opcode: int = TEXT
    flags: int = FIN
    conn: int = 0
    handoff: int = 0


def batch(*frames: Frame) -> Batch:
    slots = np.array(
        [slot(length=len(f.payload), opcode=f.opcode, flags=f.flags, conn=f.conn, handoff=f.handoff) for f in frames],
        SLOT_DTYPE,
    )
    return Batch(slots, pa.array([f.payload for f in frames], pa.large_binary()), 0)


def joined(reassembler: Reassembler, *frames: Frame) -> list[bytes]:
    slots, payload = reassembler.join(batch(*frames))
    assert len(slots) == len(payload)
    return payloads(Batch(slots, payload, 0))


class TestJoin:
    def test_whole_messages_pass(self):
        assert joined(Reassembler(), Frame(b"a"), Frame(b""), Frame(b"b", BINARY)) == [b"a", b"", b"b"]

    def test_fragments_become_one_message_with_the_beginnings_opcode_and_the_ends_stamps(self):
        frames = (
            Frame(b"a", BINARY, PART | RSV1, handoff=1),
            Frame(b"b", CONTINUATION, PART, handoff=2),
            Frame(b"c", CONTINUATION, FIN, handoff=3),
        )
        slots, payload = Reassembler().join(batch(*frames))
        assert payload.to_pylist() == [b"abc"]
        assert (slots["opcode"][0], slots["flags"][0], slots["handoff"][0]) == (BINARY, FIN | RSV1, 3)

    def test_control_frames_between_fragments_keep_their_place(self):
        reassembler = Reassembler()
        frames = (Frame(b"a", TEXT, PART), Frame(b"ping", PING), Frame(b"b", CONTINUATION), Frame(b"c"))
        assert joined(reassembler, *frames) == [b"ping", b"ab", b"c"]
        assert not reassembler.pending

    def test_across_batches(self):
        reassembler = Reassembler()
        assert joined(reassembler, Frame(b"a", TEXT, PART)) == []
        assert reassembler.pending
        assert joined(reassembler, Frame(b"ping", PING)) == [b"ping"]
        assert joined(reassembler, Frame(b"b", CONTINUATION), Frame(b"c")) == [b"ab", b"c"]
        assert not reassembler.pending

    def test_connections_do_not_mix(self):
        frames = (
            Frame(b"a", TEXT, PART, conn=0),
            Frame(b"x", BINARY, PART, conn=1),
            Frame(b"b", CONTINUATION, FIN, conn=0),
            Frame(b"y", CONTINUATION, FIN, conn=1),
        )
        assert joined(Reassembler(), *frames) == [b"ab", b"xy"]

    def test_what_we_send_in_parts_does_not_mix_with_what_arrives(self):
        frames = (
            Frame(b"r", TEXT, PART),
            Frame(b"s", TEXT, SENT),
            Frame(b"t", CONTINUATION, SENT | FIN),
            Frame(b"q", CONTINUATION, FIN),
        )
        assert joined(Reassembler(), *frames) == [b"st", b"rq"]

    def test_an_event_is_whole_though_its_opcode_is_that_of_a_continuation(self):
        event = Event(EventKind.STALL, 0).encode()
        frames = (Frame(b"a", TEXT, PART), Frame(event, 0, EVENT | FIN), Frame(b"b", CONTINUATION))
        assert joined(Reassembler(), *frames) == [event, b"ab"]

    def test_an_event_in_parts(self):
        event = Event(EventKind.REFUSED, 0, detail={"message": "long"}).encode()
        assert joined(Reassembler(), Frame(event[:5], 0, EVENT), Frame(event[5:], 0, EVENT | FIN)) == [event]

    def test_a_lost_connections_beginning_is_not_joined_with_the_next_connections_message(self):
        reassembler = Reassembler()
        assert joined(reassembler, Frame(b"lost", TEXT, PART)) == []
        assert joined(reassembler, Frame(b"new", TEXT)) == [b"new"]
        assert joined(
            reassembler, Frame(b"lost", TEXT, PART), Frame(b"n", BINARY, PART), Frame(b"ew", CONTINUATION)
        ) == [b"new"]
        assert not reassembler.pending


@st.composite
def _messages(draw: st.DrawFn, conn: int) -> list[Frame]:
    """A connection's frames: messages in fragments with pings between, some lost with the connection."""
    frames: list[Frame] = []
    for _ in range(draw(st.integers(0, 5))):
        parts = draw(st.lists(st.binary(max_size=15), min_size=1, max_size=4))
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        ends = draw(st.booleans()) or draw(st.booleans())
        for index, part in enumerate(parts):
            last = ends and index == len(parts) - 1
            frames.append(Frame(part, CONTINUATION if index else opcode, FIN if last else PART, conn))
            if draw(st.booleans()):
                frames.append(Frame(b"ping", PING, FIN, conn))
    return frames


def _model(frames: list[Frame]) -> list[tuple[int, int, bytes]]:
    """The messages in the order of their ends, joined in the most simple way."""
    begun: dict[int, tuple[int, bytes]] = {}
    whole = []
    for frame in frames:
        if frame.opcode == PING:
            whole.append((frame.conn, PING, frame.payload))
            continue
        opcode, before = (frame.opcode, b"") if frame.opcode else begun[frame.conn]
        begun[frame.conn] = (opcode, before + frame.payload)
        if frame.flags & FIN:
            whole.append((frame.conn, *begun.pop(frame.conn)))
    return whole


class TestAgainstTheModel:
    @settings(max_examples=examples(150), deadline=None)
    @given(st.data())
    def test_any_frames_in_any_batches(self, data):
        queues = [deque(data.draw(_messages(conn))) for conn in range(3)]
        frames: list[Frame] = []
        while left := [queue for queue in queues if queue]:
            frames.append(left[data.draw(st.integers(0, len(left) - 1))].popleft())
        reassembler, got = Reassembler(), []
        rest = frames
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            slots, payload = reassembler.join(batch(*rest[:size]))
            got += zip(slots["conn"].tolist(), slots["opcode"].tolist(), payload.to_pylist(), strict=True)
            rest = rest[size:]
        assert got == _model(frames)


class TestReceiverDied:
    def test_an_event_that_never_ended_does_not_spoil_the_next(self):
        reassembler = Reassembler()
        assert joined(reassembler, Frame(b'{"kind":"subscr', CONTINUATION, EVENT)) == []
        assert reassembler.pending
        restart = Event(EventKind.RESTART).encode()
        assert joined(reassembler, Frame(restart, TEXT, EVENT | FIN)) == [restart]
        assert not reassembler.pending


@pytest.mark.parametrize("clock", [StampSource.SEGMENT, StampSource.SEGMENT_NIC])
def test_the_first_segment_is_not_of_another_clock_than_stage_1(clock):
    parts = batch(Frame(b"a", TEXT, PART), Frame(b"b", CONTINUATION))
    slots = with_segments(parts.slots)
    slots["first_segment"], slots["source"] = [500, 900], [StampSource.SEGMENT, clock]
    found, _ = Reassembler().join(parts._replace(slots=slots))
    assert found["first_segment"].tolist() == [500 if clock is StampSource.SEGMENT else 0]
