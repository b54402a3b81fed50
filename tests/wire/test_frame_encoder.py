"""wsrec.wire.frame_encoder: the answers that RFC 6455 asks for, as a real server understands them."""

from __future__ import annotations

import struct

import pytest
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from wsrec.wire.errors import ProtocolError
from wsrec.wire.frame_encoder import FrameEncoder, Sent
from wsrec.wire.frames import CLOSE, PING, PONG, TEXT


class Talk:
    """A conversation, and the `websockets` server it is held with."""

    def __init__(self) -> None:
        client, self.server = ClientProtocol(parse_uri("ws://localhost/")), ServerProtocol()
        client.send_request(client.connect())
        self.server.receive_data(b"".join(client.data_to_send()))
        self.server.send_response(self.server.accept(self.server.events_received()[0]))
        client.receive_data(b"".join(self.server.data_to_send()))
        client.events_received()
        self.client = FrameEncoder(client)

    def hear(self, sent: Sent) -> Frame:
        """What the server makes of a frame; it refuses one that is not masked."""
        assert sent.wire[1] & 0x80
        self.server.receive_data(sent.wire)
        (frame,) = self.server.events_received()
        assert isinstance(frame, Frame)
        assert (frame.opcode, frame.data, frame.fin) == (sent.opcode, sent.payload, True)
        return frame


@pytest.fixture
def talk() -> Talk:
    return Talk()


class TestFramesThatWeSend:
    @pytest.mark.parametrize("text", ["", '{"op":"subscribe"}', "größer €", "x" * 126, "y" * 70_000])
    def test_a_text_arrives_as_it_was_sent(self, talk, text):
        frame = talk.hear(talk.client.text(text))
        assert (frame.opcode, frame.data.decode()) == (TEXT, text)

    def test_the_mask_is_another_each_time(self, talk):
        masks = {talk.client.text("x").wire[2:6] for _ in range(20)}
        assert len(masks) > 15

    def test_ping(self, talk):
        assert talk.hear(talk.client.ping(b"hello")).opcode == PING


class TestPing:
    @pytest.mark.parametrize("payload", [b"", b"1", bytes(range(125)), b"\xff" * 125])
    def test_the_pong_echoes_the_payload(self, talk, payload):
        frame = talk.hear(talk.client.on_control(PING, payload))
        assert (frame.opcode, frame.data) == (PONG, payload)

    def test_a_pong_wants_no_answer(self, talk):
        assert talk.client.on_control(PONG, b"x") is None

    def test_no_pong_after_our_close(self, talk):
        talk.client.close(1000, "")
        assert talk.client.on_control(PING, b"x") is None


class TestClose:
    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
    def test_the_code_is_echoed(self, talk, code):
        frame = talk.hear(talk.client.on_control(CLOSE, struct.pack("!H", code) + b"bye"))
        assert frame.data == struct.pack("!H", code)
        assert (talk.client.close_received.code, talk.client.close_received.reason) == (code, "bye")

    def test_an_empty_close_is_answered_by_an_empty_close(self, talk):
        assert talk.hear(talk.client.on_control(CLOSE, b"")).data == b""
        assert talk.client.close_received.code == CloseCode.NO_STATUS_RCVD

    def test_no_second_close(self, talk):
        assert talk.client.close(1000, "") is not None
        assert talk.client.close(1000, "") is None
        assert talk.client.on_control(CLOSE, b"\x03\xe8") is None

    def test_nothing_is_sent_after_it(self, talk):
        client = talk.client
        client.close(1000, "")
        assert [client.text("x"), client.binary(b"x"), client.ping(b"x"), client.pong(b"x")] == [None] * 4

    def test_nor_after_the_echo_of_theirs(self, talk):
        talk.client.on_control(CLOSE, b"\x03\xe8")
        assert [talk.client.text("x"), talk.client.ping(b"x")] == [None] * 2

    def test_ours_carries_code_and_reason(self, talk):
        assert talk.hear(talk.client.close(1009, "too big")).data == b"\x03\xf1too big"

    def test_codes_that_must_not_be_sent_are_refused(self):
        # RFC 6455 section 7.4.2: 0-999 not used; 7.4.1: 1004-1006 and 1015 reserved; 1016-2999 not assigned
        for code in (*range(1000), 1004, 1005, 1006, 1015, *range(1016, 3000), *range(5000, 65536, 97), 5000, 65535):
            conversation = CONVERSATION
            with pytest.raises(ProtocolError) as caught:
                conversation.on_control(CLOSE, struct.pack("!H", code))
            assert caught.value.code == CloseCode.PROTOCOL_ERROR, code
            assert conversation.close_received is None

    @pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80"])
    def test_a_reason_that_is_not_utf8(self, talk, reason):
        with pytest.raises(ProtocolError, match="UTF-8") as caught:
            talk.client.on_control(CLOSE, b"\x03\xe8" + reason)
        assert caught.value.code == CloseCode.INVALID_DATA

    def test_a_payload_of_one_byte(self, talk):
        with pytest.raises(ProtocolError) as caught:
            talk.client.on_control(CLOSE, b"\x03")
        assert caught.value.code == CloseCode.PROTOCOL_ERROR

    def test_after_a_bad_close_ours_says_why(self, talk):
        with pytest.raises(ProtocolError) as caught:
            talk.client.on_control(CLOSE, b"\x03\xed")
        sent = talk.client.close(caught.value.code, "why")
        assert talk.hear(sent).data == b"\x03\xeawhy"


CONVERSATION = Talk().client
