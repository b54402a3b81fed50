"""wsrec.wire.deflate: what is offered and agreed, and streams that refer to their past."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Frame, Opcode

from tests.wire.test_handshake import URL, Server
from wsrec.wire import deflate
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import CompressionRefused, ProtocolError
from wsrec.wire.handshake import Handshake


def handshake(answer: str | None, *, offered: bool = True) -> Handshake:
    """A handshake whose server answers with this extension header."""
    made = Handshake(URL, {}, deflate.offer(context_takeover=False) if offered else None)
    changed = {} if answer is None else {"Sec_WebSocket_Extensions": answer}
    made.feed(memoryview(Server(made).accept_with(**changed)))
    return made


class TestAgreement:
    def test_each_message_by_itself_is_offered(self):
        request = Handshake(URL, {}, deflate.offer(context_takeover=False)).request()
        assert b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; " in request
        assert b"server_no_context_takeover" not in Handshake(URL, {}, deflate.offer(context_takeover=True)).request()
        assert b"Extensions" not in Handshake(URL, {}).request()

    def test_the_agreed_extension_is_returned_as_in_the_header(self):
        text = "permessage-deflate; server_no_context_takeover; client_max_window_bits=12"
        assert deflate.describe(handshake(text).compression) == text

    def test_a_server_that_declines_sends_as_it_is(self):
        assert deflate.describe(handshake(None).compression) is None

    def test_one_that_compresses_in_another_way_is_turned_down(self):
        with pytest.raises(CompressionRefused, match="permessage-deflate"):
            handshake("permessage-deflate")

    def test_one_that_compresses_unrequested_is_believed(self):
        made = handshake("permessage-deflate", offered=False)
        assert (deflate.describe(made.compression), made.is_unsolicited) == ("permessage-deflate", True)


class TestInflater:
    @given(st.lists(st.binary(max_size=3000) | st.sampled_from([b"abcabc" * 500, b""]), max_size=10))
    def test_a_stream_that_refers_to_its_past(self, messages: list[bytes]):
        server, client = PerMessageDeflate(False, False, 15, 15), Inflater(context_takeover=True)
        for message in messages:
            assert client.inflate(bytes(server.encode(Frame(Opcode.TEXT, message)).data), 1 << 20) == message

    @pytest.mark.parametrize("context_takeover", [True, False])
    @pytest.mark.parametrize("behind", [b"\0", b""])
    def test_a_last_block_may_end_a_message(self, context_takeover, behind):
        whole = zlib.compressobj(wbits=-15)
        data = whole.compress(b"first") + whole.flush(zlib.Z_FINISH) + behind
        assert Inflater(context_takeover=context_takeover).inflate(data, 100) == b"first"

    @pytest.mark.parametrize("context_takeover", [True, False])
    @pytest.mark.parametrize("behind", [b"garbage", zlib.compress(b"second", wbits=-15), b"\0\0"])
    def test_what_lies_behind_a_last_block_is_not_dropped_in_silence(self, context_takeover, behind):
        data = zlib.compress(b"first", wbits=-15) + behind
        with pytest.raises(ProtocolError, match="behind its last block") as raised:
            Inflater(context_takeover=context_takeover).inflate(data, 100)
        assert raised.value.code is CloseCode.INVALID_DATA

    def test_a_last_block_does_not_end_the_connection(self):
        client = Inflater(context_takeover=True)
        stream = zlib.compressobj(wbits=-15)
        assert client.inflate(stream.compress(b"one") + stream.flush() + b"\x00", 100) == b"one"
        server = PerMessageDeflate(False, False, 15, 15)
        assert client.inflate(bytes(server.encode(Frame(Opcode.TEXT, b"two")).data), 100) == b"two"

    @pytest.mark.parametrize("context_takeover", [True, False])
    def test_no_byte_more_than_allowed(self, context_takeover: bool):
        data = bytes(PerMessageDeflate(False, False, 15, 15).encode(Frame(Opcode.TEXT, bytes(1000))).data)
        assert len(Inflater(context_takeover=context_takeover).inflate(data, 1000)) == 1000
        with pytest.raises(ProtocolError) as raised:
            Inflater(context_takeover=context_takeover).inflate(data, 999)
        assert raised.value.code == CloseCode.MESSAGE_TOO_BIG
