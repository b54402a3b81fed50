"""wsrec.wire.frames: headers read in place, and what RFC 6455 allows to follow what."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode

from tests.effort import examples
from wsrec.ring.bytering import ByteRing
from wsrec.ring.mirror import PAGE
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, MessageRules, parse_header

LENGTHS = [0, 1, 125, 126, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32, 2**63 - 1]


def header(first: int, length: int) -> bytes:
    """The shortest header for a payload of `length` bytes (section 5.2)."""
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def parse(data: bytes) -> tuple[int, int, int] | None:
    return parse_header(memoryview(data), 0, len(data))


class TestParseHeader:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_every_form_of_length(self, length):
        data = header(0x81, length)
        assert parse(data) == (0x81, length, len(data))

    @pytest.mark.parametrize("length", LENGTHS)
    def test_nothing_is_parsed_from_a_header_cut_anywhere(self, length):
        data = header(0x82, length)
        for available in range(len(data)):
            # what is in the ring behind the bytes that arrived is old and must not be looked at
            assert parse_header(memoryview(data[:available] + b"\xff" * 16), 0, available) is None

    @pytest.mark.parametrize(("data", "length"), [(b"\x81\x7e\x00\x05", 5), (b"\x81\x7f" + bytes(7) + b"\x05", 5)])
    def test_a_longer_form_than_needed_is_read(self, data, length):
        assert parse(data) == (0x81, length, len(data))

    @pytest.mark.parametrize("first", range(256))
    def test_the_first_byte_comes_back_as_it_is(self, first):
        assert parse(bytes((first, 7))) == (first, 7, 2)

    @pytest.mark.parametrize("second", range(0x80, 0x100))
    def test_a_masked_frame_is_refused(self, second):
        with pytest.raises(ProtocolError, match="masked") as caught:
            parse(bytes((0x81, second)))
        assert caught.value.code == CloseCode.PROTOCOL_ERROR

    @pytest.mark.parametrize("length", [2**63, 2**63 + 1, 2**64 - 1])
    def test_a_length_with_the_highest_bit_is_refused(self, length):
        with pytest.raises(ProtocolError, match="highest bit") as caught:
            parse(struct.pack("!BBQ", 0x82, 127, length))
        assert caught.value.code == CloseCode.PROTOCOL_ERROR

    @pytest.mark.parametrize("length", [5, 300, 70000])
    def test_at_any_position_of_a_ring(self, length):
        fd = ByteRing.create("t", PAGE)
        ring = ByteRing(fd)
        os.close(fd)
        data = header(0x81, length)
        for position in (0, 1, *range(PAGE - 12, PAGE)):
            ring.view[:PAGE] = bytes(PAGE)
            ring.slice(position, len(data))[:] = data
            assert parse_header(ring.view, position, len(data)) == (0x81, length, len(data))


payloads = st.binary(max_size=130) | st.integers(65530, 65540).map(bytes) | st.integers(120, 300).map(bytes)
data_frames = st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]), payloads, st.booleans())
control_frames = st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))


class TestAgainstWebsockets:
    @given(st.lists(data_frames | control_frames, max_size=8), st.data())
    @settings(deadline=None, max_examples=examples(100))
    def test_what_it_serialises_parses_back_however_it_is_cut(self, sent, data):
        wire = b"".join(frame.serialize(mask=False) for frame in sent)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
        received, view, position = [], memoryview(wire), 0
        for arrived in (*cuts, len(wire)):
            while (found := parse_header(view, position, arrived - position)) is not None:
                first, length, size = found
                if position + size + length > arrived:
                    break
                payload = wire[position + size : position + size + length]
                received.append(Frame(Opcode(first & 15), payload, bool(first & FIN)))
                position += size + length
        assert received == sent
        assert position == len(wire)

    @given(st.binary(max_size=20))
    def test_any_bytes_give_a_header_or_a_protocol_error(self, data):
        try:
            found = parse(data)
        except ProtocolError:
            assert data[1] >= 0x7F
        else:
            if found is None:
                assert len(data) < 10
            else:
                first, length, size = found
                assert first == data[0]
                assert size in (2, 4, 10)
                assert 0 <= length < 1 << 63


# RFC 6455, held against the text. 5.2: MUST be 0 unless an extension is negotiated that defines meanings for RSV bits;
# opcodes 0x3-7 and 0xB-F are reserved. 5.5: control frames MUST NOT be fragmented. 5.4: a fragmented message is one
# frame with FIN clear and an opcode other than 0, then zero or more with FIN clear and opcode 0, then one with FIN set
# and opcode 0; fragments of one message MUST NOT be interleaved with those of another.
DATA, CONTROL = {1, 2}, {8, 9, 10}


def allowed(opcode: int, fin: bool, rsv: int, inside: bool) -> bool:
    if rsv or opcode not in {0} | DATA | CONTROL:
        return False
    if opcode in CONTROL:
        return fin
    return inside if opcode == 0 else not inside


class TestRules:
    @pytest.mark.parametrize("inside", [False, True], ids=["between messages", "inside a message"])
    @pytest.mark.parametrize("opcode", range(16))
    def test_every_first_byte(self, opcode, inside):
        for rsv in range(8):
            for fin in (False, True):
                rules = MessageRules(1000)
                if inside:
                    rules.advance(TEXT, 1)
                first = fin << 7 | rsv << 4 | opcode
                if allowed(opcode, fin, rsv, inside):
                    rules.check(first, 5)
                else:
                    with pytest.raises(ProtocolError) as caught:
                        rules.check(first, 5)
                    assert caught.value.code == CloseCode.PROTOCOL_ERROR

    @pytest.mark.parametrize("opcode", range(16))
    def test_compression_gives_rsv1_of_a_message_s_first_frame_a_meaning(self, opcode):
        for rsv in range(1, 8):
            rules = MessageRules(1000, compression=True)
            if opcode in DATA and rsv == 4:
                rules.check(FIN | rsv << 4 | opcode, 5)
            else:
                with pytest.raises(ProtocolError):
                    rules.check(FIN | rsv << 4 | opcode, 5)

    def test_a_fragmented_message_with_control_frames_between(self):
        rules = MessageRules(100)
        for first in (TEXT, FIN | PING, CONTINUATION, FIN | PONG, FIN | PING, FIN | CONTINUATION, FIN | BINARY):
            rules.check(first, 10)
            rules.advance(first, 10)
            assert rules.open is (first in (TEXT, CONTINUATION) or (rules.open and first >= FIN | CLOSE))
        assert not rules.open

    def test_a_control_frame_does_not_end_a_message(self):
        rules = MessageRules(100)
        rules.advance(TEXT, 1)
        rules.advance(FIN | PING, 1)
        assert rules.open

    @pytest.mark.parametrize("opcode", sorted(CONTROL))
    def test_a_control_frame_has_at_most_125_bytes(self, opcode):
        MessageRules(1000).check(FIN | opcode, 125)
        with pytest.raises(ProtocolError, match="more than 125"):
            MessageRules(1000).check(FIN | opcode, 126)

    def test_checking_changes_nothing(self):
        rules = MessageRules(10)
        for _ in range(3):
            rules.check(TEXT, 10)
        assert not rules.open


class TestSize:
    @pytest.mark.parametrize("fragments", [(), (0,), (1,), (50, 49), (98, 0, 1)])
    @pytest.mark.parametrize(("total", "fits"), [(99, True), (100, True), (101, False)])
    def test_the_limit_holds_for_the_whole_message(self, fragments, total, fits):
        rules = MessageRules(100)
        opcode = TEXT
        for size in fragments:
            rules.check(opcode, size)
            rules.advance(opcode, size)
            rules.check(FIN | PING, 125)  # counts for no message
            rules.advance(FIN | PING, 125)
            opcode = CONTINUATION
        last = total - sum(fragments)
        if fits:
            rules.check(FIN | opcode, last)
        else:
            with pytest.raises(ProtocolError, match=r"more than 100 bytes \(raise --max-message\)") as caught:
                rules.check(FIN | opcode, last)
            assert caught.value.code == CloseCode.MESSAGE_TOO_BIG

    def test_each_message_counts_anew(self):
        rules = MessageRules(100)
        for first, length in ((TEXT, 60), (FIN | CONTINUATION, 40), (FIN | TEXT, 100), (TEXT, 100)):
            rules.check(first, length)
            rules.advance(first, length)
