"""wsrec.wire.handshake: what a real server answers, and what is no answer."""

from __future__ import annotations

import email.utils
import http
from datetime import UTC, datetime, timedelta

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.server import ServerProtocol

from wsrec.wire import deflate
from wsrec.wire.errors import HandshakeError, HandshakeRefused
from wsrec.wire.handshake import MAX_BODY, MAX_HEAD, Handshake

URL = "wss://exchange.test:9443/stream?streams=btcusdt@trade&token=x"


class Server:
    """The `websockets` server's side of one handshake."""

    def __init__(self, handshake: Handshake) -> None:
        self.protocol = ServerProtocol()
        self.protocol.receive_data(handshake.request())
        (self.request,) = self.protocol.events_received()

    def accept(self) -> bytes:
        self.protocol.send_response(self.protocol.accept(self.request))
        return b"".join(self.protocol.data_to_send())

    def reject(self, status: int, text: str) -> bytes:
        self.protocol.send_response(self.protocol.reject(http.HTTPStatus(status), text))
        return b"".join(self.protocol.data_to_send())

    def accept_with(self, **changed: str) -> bytes:
        response = self.protocol.accept(self.request)
        for name, value in changed.items():
            response.headers.pop(name.replace("_", "-"), None)
            response.headers[name.replace("_", "-")] = value
        return response.serialize()


@pytest.fixture
def handshake() -> Handshake:
    return Handshake(URL, {})


@pytest.fixture
def server(handshake) -> Server:
    return Server(handshake)


def answer(status: str, body: bytes = b"", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class TestRequest:
    def test_path_query_and_host_are_the_url_s(self, server):
        assert server.request.path == "/stream?streams=btcusdt@trade&token=x"
        assert server.request.headers["Host"] == "exchange.test:9443"

    def test_no_extension_is_offered(self, server):
        assert "Sec-WebSocket-Extensions" not in server.request.headers

    def test_further_headers_replace_those_of_the_same_name(self):
        request = Server(Handshake(URL, {"User-Agent": "wsrec/1", "Origin": "https://x", "host": "other"})).request
        assert request.headers.get_all("User-Agent") == ["wsrec/1"]
        assert request.headers.get_all("Host") == ["other"]
        assert request.headers["Origin"] == "https://x"

    def test_the_key_is_another_each_time(self):
        assert len({Server(Handshake(URL, {})).request.headers["Sec-WebSocket-Key"] for _ in range(5)}) == 5


class TestAccepted:
    def test_at_once(self, handshake, server):
        data = server.accept()
        assert handshake.feed(memoryview(data)) == len(data)
        assert handshake.complete

    def test_byte_by_byte(self, handshake, server):
        data = memoryview(server.accept())
        for at in range(len(data)):
            assert not handshake.complete
            assert handshake.feed(data[at : at + 1]) == 1
        assert handshake.complete

    def test_cut_anywhere_the_frames_behind_it_stay(self):
        for cut in range(1, len(Server(Handshake(URL, {})).accept()) + 1):
            handshake = Handshake(URL, {})
            data = Server(handshake).accept()
            frames = b"\x81\x02hi\r\n\r\n\x81"
            assert handshake.feed(memoryview(data[:cut])) == cut
            if cut < len(data):
                assert handshake.feed(memoryview(data[cut:] + frames)) == len(data) - cut
            assert handshake.complete

    def test_frames_in_the_same_read_are_not_the_handshake_s(self, handshake, server):
        data = server.accept()
        assert handshake.feed(memoryview(data + b"\x81\x02hi")) == len(data)


def agreed() -> PerMessageDeflate:
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=False,
        remote_max_window_bits=10,
        local_max_window_bits=15,
    )


class TestAcceptedInOtherShapes:
    """What proxies and load balancers put around the answer."""

    @pytest.mark.parametrize(
        "before",
        [
            answer("103 Early Hints", Link="</x>"),
            answer("100 Continue"),
            answer("102 ") + answer("103 Early Hints", Link="</a>") + answer("103 Early Hints"),
            b"HTTP/1.1 100\r\n\r\n",
        ],
        ids=["103", "100", "several", "no reason"],
    )
    @pytest.mark.parametrize("size", [1, 7, 10_000])
    def test_behind_answers_that_only_announce_it(self, handshake, server, before, size):
        accepted = before + server.accept()
        data, fed = memoryview(accepted + b"\x81\x02hi"), 0
        while not handshake.complete:
            fed += handshake.feed(data[fed : fed + size])
        assert fed == len(accepted)

    @pytest.mark.parametrize(
        "more",
        [
            b"Content-Security-Policy: " + b"x" * 9_000 + b"\r\n",
            b"X: " + b"x" * 60_000 + b"\r\n",
            b"".join(b"X-%d: 1\r\n" % number for number in range(150)),
            b"X-Many: 1\r\n" * 5_000,
            b"X-Edge: S\xe3o Paulo\r\n",
        ],
        ids=["a long line", "one of 60 kB", "150 lines", "5,000 lines", "Latin-1"],
    )
    @pytest.mark.parametrize("first", [True, False])
    def test_with_64_kib_of_headers_in_any_shape(self, handshake, server, more, first):
        status, lines = server.accept().split(b"\r\n", 1)
        data = status + b"\r\n" + (more + lines if first else lines[:-2] + more + b"\r\n")
        assert handshake.feed(memoryview(data)) == len(data)
        assert handshake.complete

    @pytest.mark.parametrize("line", [b"HTTP/1.1 101", b"HTTP/1.1 101 ", b"HTTP/1.1 101 " + b"so " * 4_000])
    def test_whatever_the_reason(self, handshake, server, line):
        data = line + server.accept()[len(b"HTTP/1.1 101 Switching Protocols") :]
        assert handshake.feed(memoryview(data)) == len(data)
        assert handshake.complete

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"HTTP/1.1 101", b"HTTP/1.0 101"),
            (b"Connection: Upgrade", b"Connection: keep-alive,\r\n\t Upgrade"),
            (b"Connection: Upgrade", b"X-Folded: a\r\n b: c\r\nConnection: keep-alive\r\nConnection: Upgrade"),
            (b"Upgrade: websocket", b"Upgrade: websocket\r\nUpgrade: WebSocket"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: \r\nSec-WebSocket-Protocol:\r\n\r\n"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: v1\r\n\r\n"),
            (b"\r\n", b"\n"),
        ],
        ids=["1.0", "folded", "two lines", "twice", "empty", "a subprotocol that was not requested", "bare LF"],
    )
    @pytest.mark.parametrize("size", [1, 10_000])
    def test_whatever_a_server_makes_of_its_lines(self, handshake, server, old, new, size):
        accepted = server.accept()
        assert old in accepted
        accepted = accepted.replace(old, new)
        data, fed = memoryview(accepted + b"\x81\x02\n\n"), 0
        while not handshake.complete:
            assert fed < len(data)
            fed += handshake.feed(data[fed : fed + size])
        assert fed == len(accepted)

    def test_the_same_key_twice(self, handshake, server):
        accepted = server.accept()
        (line,) = (line for line in accepted.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Accept"))
        data = accepted.replace(line, line + b"\r\n" + line)
        assert handshake.feed(memoryview(data)) == len(data)
        assert handshake.complete

    def test_with_the_subprotocol_that_a_header_asks_for(self):
        for chosen in ("v2.json", "v1.json"):
            handshake = Handshake(URL, {"sec-websocket-protocol": "v1.json, v2.json"})
            server = Server(handshake)
            assert server.request.headers.get_all("Sec-WebSocket-Protocol") == ["v1.json, v2.json"]
            handshake.feed(memoryview(server.accept_with(Sec_WebSocket_Protocol=chosen)))
            assert handshake.complete

    @pytest.mark.parametrize(
        "chosen", ["permessage-deflate", "permessage-deflate; client_max_window_bits=12; server_max_window_bits=10"]
    )
    def test_by_who_compresses_although_nothing_was_offered(self, handshake, server, chosen):
        handshake.feed(memoryview(server.accept_with(Sec_WebSocket_Extensions=chosen)))
        assert handshake.complete
        assert handshake.compression is not None
        assert handshake.is_unsolicited
        # who does not keep to what was agreed may not read what is compressed
        handshake.protocol.send_text(b"hello hello hello")
        ((first, *_), *_) = handshake.protocol.data_to_send()
        assert first == 0x81

    def test_who_compresses_as_offered_was_asked(self):
        handshake = Handshake(URL, {}, deflate.offer(context_takeover=False))
        server = Server(handshake)
        handshake.feed(memoryview(server.accept_with(Sec_WebSocket_Extensions=deflate.describe(agreed()))))
        assert handshake.complete
        assert handshake.compression is not None
        assert not handshake.is_unsolicited


class TestRefused:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 502, 503])
    def test_by_a_real_server(self, handshake, server, status):
        with pytest.raises(HandshakeRefused, match=f"^HTTP {status} ") as caught:
            handshake.feed(memoryview(server.reject(status, "not for you")))
        assert (caught.value.status, caught.value.body) == (status, "not for you")
        assert caught.value.retry_after is None

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_a_body_that_comes_in_pieces(self, handshake, server, size):
        data = memoryview(server.reject(403, "restricted location " * 10))
        last = (len(data) - 1) // size * size
        for at in range(0, last, size):
            assert handshake.feed(data[at : at + size]) == size
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(data[last:])
        assert caught.value.body == "restricted location " * 10

    @pytest.mark.parametrize("length", [{"Content_Length": 0}, {"Content_Length": 2}])
    def test_a_body_by_its_length(self, handshake, server, length):
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(answer("429 Too Many", b"no" * (length["Content_Length"] > 0), **length)))
        assert len(caught.value.body) == length["Content_Length"]

    def test_a_body_that_ends_with_the_stream(self, handshake, server):
        data = answer("403 Forbidden", b"go ")
        assert handshake.feed(memoryview(data)) == len(data)
        assert handshake.feed(memoryview(b"away")) == 4
        with pytest.raises(HandshakeRefused) as caught:
            handshake.eof()
        assert (caught.value.status, caught.value.body) == (403, "go away")

    def test_a_chunked_body(self, handshake, server):
        data = answer("503 Unavailable", b"5\r\nsorry\r\n0\r\n\r\n", Transfer_Encoding="chunked")
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(data))
        assert (caught.value.status, caught.value.body) == (503, "sorry")

    def test_a_body_is_there_as_a_whole_line_by_line_and_as_text(self, handshake, server):
        body = b"\xff\r\n\x1b[31m\tx\n" + b"y" * 5000
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(answer("500 X", body, Content_Length=len(body))))
        assert caught.value.body == "\ufffd\n\ufffd[31m x\n" + "y" * 5000

    def test_lines_with_a_secret_or_its_beginning_are_left_out(self):
        refused = HandshakeRefused(403, "No s3cr3t-key", None, "fine\nno s3cr3t-kxx\nfine too", "s3cr3t-k.test")
        refused.mask_secrets({"s3cr3t-key", "other"})
        assert (str(refused), refused.body, refused.location) == ("HTTP 403", "fine\n***\nfine too", None)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("0", None), ("120", 120.0), ("Wed, 21 Oct 2020 07:28:00 GMT", None), ("-5", None), ("1.5", 1.5)],
    )
    def test_retry_after(self, handshake, server, value, seconds):
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(answer("429 Slow Down", Content_Length=0, Retry_After=value)))
        assert caught.value.retry_after == seconds

    def test_retry_after_by_a_date(self, handshake):
        date = email.utils.format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(answer("503 Down", Content_Length=0, Retry_After=date)))
        assert 500 < caught.value.retry_after <= 600

    @pytest.mark.parametrize(
        ("location", "host"),
        [
            ("https://other.test/path?token=s3cr3t", "other.test"),
            ("//u:s3cr3t@other.test:8443/", "other.test"),
            ("/login?s3cr3t", "another path of the same host"),
            ("https://[broken", "another path of the same host"),
        ],
    )
    def test_a_redirect_shows_the_host_and_nothing_else(self, handshake, location, host):
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(answer("302 Found", Content_Length=0, Location=location)))
        assert caught.value.location == host

    def test_nothing_of_it_reaches_a_terminal_as_an_escape(self, handshake):
        data = "HTTP/1.1 302 Fo\x1b[31mund\r\nLocation: https://a\x1b[2Jb.test/\r\nContent-Length: 4\r\n\r\n\x1b]0;"
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(data.encode()))
        assert caught.value.location
        assert f"{caught.value}{caught.value.body}{caught.value.location}".isprintable()

    @pytest.mark.parametrize("how", [{"Transfer_Encoding": "chunked"}, {"Content_Length": 900_000}, {}])
    def test_an_endless_body_is_read_up_to_a_bound(self, handshake, how):
        handshake.feed(memoryview(answer("429 Slow Down", Retry_After="7", **how)))
        part, fed = b"fff\r\n" + b"x" * 0xFFF + b"\r\n", 0
        while fed + len(part) <= MAX_BODY:
            fed += handshake.feed(memoryview(part))
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(part * 2))
        assert (caught.value.status, caught.value.retry_after) == (429, 7.0)

    def test_what_never_ends_can_be_given_up(self, handshake):
        handshake.give_up()
        handshake.feed(memoryview(answer("429 Slow Down", b"some", Content_Length=100, Retry_After="7")))
        with pytest.raises(HandshakeRefused) as caught:
            handshake.give_up()
        assert (caught.value.status, caught.value.retry_after, caught.value.body) == (429, 7.0, "some")

    @pytest.mark.parametrize("line", ["HTTP/1.1 403 Forb\x1b[31midden", "HTTP/1.0 403 Forb\x07[31midden"])
    def test_one_that_the_library_does_not_take_keeps_its_status(self, handshake, server, line):
        data = f"{line}\r\nContent-Length: 100\r\n\r\nrestricted".encode()
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(data))
        assert str(caught.value) == "HTTP 403 Forb\N{REPLACEMENT CHARACTER}[31midden"
        assert (caught.value.status, caught.value.body, caught.value.retry_after) == (403, "restricted", None)

    @pytest.mark.parametrize("size", [1, 10_000])
    def test_by_http_1_0_with_its_whole_body(self, handshake, size):
        data = memoryview(b"HTTP/1.0 503 Busy\r\nRetry-After: 7\r\n\r\n" + b"wait " * 20)
        for at in range(0, len(data), size):
            handshake.feed(data[at : at + size])
        with pytest.raises(HandshakeRefused) as caught:
            handshake.eof()
        assert (caught.value.status, caught.value.retry_after, caught.value.body) == (503, 7.0, "wait " * 20)

    @pytest.mark.parametrize("line", ["403", "403 ", "403 No\r\nno colon"])
    def test_by_a_head_that_is_odd_elsewhere(self, handshake, server, line):
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode()))
        assert caught.value.status == 403

    @pytest.mark.parametrize("more", [b"X: " + b"x" * 30_000 + b"\r\n", b"X: 1\r\n" * 4_000])
    def test_with_many_headers(self, handshake, server, more):
        data = b"HTTP/1.1 429 Slow Down\r\n" + more + b"Retry-After: 7\r\nContent-Length: 4\r\n\r\nwait"
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(data))
        assert (caught.value.status, caught.value.retry_after, caught.value.body) == (429, 7.0, "wait")

    def test_a_redirection_is_a_refusal(self, handshake, server):
        with pytest.raises(HandshakeRefused) as caught:
            handshake.feed(memoryview(answer("301 Moved", Content_Length=0, Location="wss://elsewhere/")))
        assert caught.value.status == 301


class TestNoValidAnswer:
    @pytest.mark.parametrize(
        "data", [b"SSH-2.0-OpenSSH\r\n", b"\x00\x03\x01\x00\x02\x02\x46", b"H", b"HTTP/2 200 OK\r\n"]
    )
    def test_what_is_no_http_1_1_is_refused_at_once(self, handshake, server, data):
        if b"HTTP/1.1 ".startswith(data):
            assert handshake.feed(memoryview(data)) == len(data)
            data = b"i there"
        with pytest.raises(HandshakeError, match="not HTTP"):
            handshake.feed(memoryview(data))

    @pytest.mark.parametrize("size", [1, 7])
    def test_a_port_that_speaks_tls_is_reported(self, handshake, size):
        with pytest.raises(HandshakeError, match="the port speaks TLS") as caught:
            handshake.feed(memoryview(b"\x15\x03\x01\x00\x02\x02\x46"[:size]))
        assert "wss://" in caught.value.hint

    def test_a_head_without_end_is_bounded(self, handshake, server):
        handshake.feed(memoryview(b"HTTP/1.1 101 Switching Protocols\r\n"))
        for _ in range(MAX_HEAD // 1024 - 1):
            handshake.feed(memoryview(b"X: " + b"y" * 1019 + b"\r\n"))
        with pytest.raises(HandshakeError, match=f"larger than {MAX_HEAD}"):
            handshake.feed(memoryview(b"X: " + b"y" * 1019 + b"\r\n"))

    def test_a_head_that_comes_at_once_has_the_same_bound(self, handshake, server):
        with pytest.raises(HandshakeError, match=f"larger than {MAX_HEAD}"):
            handshake.feed(memoryview(server.accept_with(X="y" * MAX_HEAD)))

    def test_answers_that_announce_another_for_ever_are_bounded(self, handshake, server):
        with pytest.raises(HandshakeError, match=f"larger than {MAX_HEAD}"):
            handshake.feed(memoryview(answer("100 Continue") * 10_000 + server.accept()))

    @pytest.mark.parametrize(
        "data", [b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 101 OK\r\nno colon\r\n\r\n", b"HTTP/1.1 \r\n\r\n"]
    )
    def test_a_head_that_is_no_http(self, handshake, server, data):
        with pytest.raises(HandshakeError):
            handshake.feed(memoryview(data))

    def test_a_wrong_accept_key(self, handshake, server):
        with pytest.raises(HandshakeError, match="Sec-WebSocket-Accept"):
            handshake.feed(memoryview(server.accept_with(Sec_WebSocket_Accept="AAAA")))

    @pytest.mark.parametrize("name", ["Upgrade", "Connection"])
    def test_an_upgrade_to_something_else(self, handshake, server, name):
        with pytest.raises(HandshakeError, match=name):
            handshake.feed(memoryview(server.accept_with(**{name: "h2c"})))

    @pytest.mark.parametrize("name", ["x-webkit-deflate-frame", "permessage-deflate; no_such", "permessage-deflate, x"])
    def test_an_extension_that_we_did_not_offer(self, handshake, server, name):
        with pytest.raises(HandshakeError, match="extension"):
            handshake.feed(memoryview(server.accept_with(Sec_WebSocket_Extensions=name)))
        assert not handshake.complete

    def test_another_subprotocol_than_those_that_a_header_asks_for(self):
        handshake = Handshake(URL, {"Sec-WebSocket-Protocol": "v1"})
        with pytest.raises(HandshakeError, match="subprotocol"):
            handshake.feed(memoryview(Server(handshake).accept_with(Sec_WebSocket_Protocol="chat")))


class TestClosedEarly:
    def test_without_a_word(self, handshake, server):
        with pytest.raises(HandshakeError, match="without an answer"):
            handshake.eof()

    def test_in_every_place_of_the_head(self):
        for cut in range(1, len(Server(Handshake(URL, {})).accept())):
            handshake = Handshake(URL, {})
            handshake.feed(memoryview(Server(handshake).accept()[:cut]))
            with pytest.raises(HandshakeError) as caught:
                handshake.eof()
            assert not isinstance(caught.value, HandshakeRefused)

    def test_in_the_middle_of_a_body_by_its_length(self, handshake, server):
        handshake.feed(memoryview(answer("403 Forbidden", b"half", Content_Length=8)))
        with pytest.raises(HandshakeError):
            handshake.eof()
