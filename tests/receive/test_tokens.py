"""The token's server hangs or refuses: what is reported, and which connections wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.http.drip import POINTS, Drip
from tests.receive.test_receiver import Receiver, forever, plan
from wsrec import ipc
from wsrec.net.trust import tls_context
from wsrec.plan.connections import ConnectionPlan, Pace, TokenRequest
from wsrec.receive import token
from wsrec.ring.events import EventKind

GIVEN = json.dumps({"token": "abcdef"}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GIVEN) + GIVEN
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n%s\r\n"
# A request that hangs has this long (s), and an end that does not wait for it less than half
TIMEOUT = 120.0
WITH_TIMEOUT = [
    "-c",
    f"from wsrec.receive import process, token; token._TIMEOUT = {TIMEOUT}; raise SystemExit(process.main())",
]
QUICK = Pace(attempts=100, interval=1.0)


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    running: list[Receiver] = []

    def start(*plans: ConnectionPlan, **options: Any) -> Receiver:
        running.append(Receiver(*plans, **options))
        return running[-1]

    yield start
    for receiver in running:
        if receiver.process.poll() is None:
            receiver.process.kill()
            receiver.process.communicate()


@pytest.fixture
def tokens(authority) -> Iterator[Callable[..., Drip]]:
    """Starts token servers that do not answer as they should."""
    servers: list[Drip] = []

    def start(*what: bytes, **options: Any) -> Drip:
        servers.append(Drip(*what, authority=authority, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def planned(socket_url: str, server: Drip, conn: int = 0, **options: Any) -> ConnectionPlan:
    """A connection to a socket that is on another host than its token's server."""
    url = f"{socket_url.replace('localhost', '127.0.0.1')}?token={{token}}"
    request = TokenRequest(url=server.url, method="GET", token="token")
    return plan(url, **{"conn": conn, "token": request, "pace": QUICK, **options})


def failed(receiver: Receiver) -> str:
    (line,) = [line for line in receiver.lines() if isinstance(line, ipc.FailedLine)]
    return line.message


class TestStuck:
    @pytest.mark.parametrize("point", ["chunk size", "100 Continue"])
    def test_the_end_does_not_wait_and_the_message_names_the_host_that_hangs(self, receive, tokens, ca_file, point):
        server = tokens(*POINTS[point][:2])
        plans = [planned("ws://127.0.0.1:9/", server, conn) for conn in range(6)]
        receiver = receive(*plans, ca_file=str(ca_file), command=WITH_TIMEOUT)
        receiver.until(lambda: len(server.requested) == 6)
        began = time.monotonic()
        assert receiver.stop() == 1
        assert time.monotonic() - began < TIMEOUT / 2
        assert f"localhost:{server.port}" in failed(receiver)
        assert "127.0.0.1" not in failed(receiver)

    def test_others_get_their_tokens_meanwhile(self, receive, tokens, exchange, ca_file):
        server = tokens(*POINTS["chunk size"][:2], good=ANSWER, after=12)
        socket = exchange(forever)
        plans = [planned(socket.url, server, conn) for conn in range(13)]
        receiver = receive(*plans, ca_file=str(ca_file), command=WITH_TIMEOUT)
        receiver.event(EventKind.CONNECT)
        receiver.stop()
        assert receiver.events(EventKind.CONNECT_FAILED) == []

    def test_however_many_have_hung_the_next_one_is_answered(self, tokens, ca_file, monkeypatch):
        monkeypatch.setattr(token, "_TIMEOUT", 0.4)
        server = tokens(*POINTS["header"][:2])
        wanted = planned("ws://localhost:9/", server)
        context = tls_context(str(ca_file))

        async def run() -> str:
            stuck = await asyncio.gather(*(token.address(wanted, context) for _ in range(40)), return_exceptions=True)
            assert all(isinstance(one, token.TokenError) for one in stuck), stuck
            assert {f"localhost:{server.port}" in str(one) for one in stuck} == {True}
            monkeypatch.setattr(token, "_TIMEOUT", 30.0)
            works = tokens(*POINTS["header"][:2], good=ANSWER, after=0)
            return (await token.address(planned("ws://localhost:9/", works), context))[0]

        assert asyncio.run(run()) == "ws://127.0.0.1:9/?token=abcdef"


class TestTooOften:
    @pytest.mark.parametrize(
        ("header", "least", "most"),
        [
            (b"", 60, 120),
            (b"Retry-After: 77\r\n", 77, 78),
            (b"Retry-After: 0\r\n", 60, 120),
            (b"Retry-After: Fri, 27 Nov 2020 07:00:00 GMT\r\n", 60, 120),
        ],
        ids=["without", "seconds", "at once", "past"],
    )
    def test_it_is_not_asked_again_within_minutes(self, receive, tokens, ca_file, header, least, most):
        server = tokens(TOO_MANY % header)
        receiver = receive(planned("ws://127.0.0.1:9/", server), ca_file=str(ca_file))
        failure = receiver.event(EventKind.CONNECT_FAILED)
        assert failure["cause"] == "limited"
        assert failure["message"] == f"no token: localhost:{server.port} answered HTTP 429 Too Many Requests"
        assert least <= failure["retry_s"] <= most
        receiver.stop()

    def test_the_other_connections_of_that_host_wait_too_and_those_of_others_do_not(
        self, receive, tokens, exchange, ca_file
    ):
        server = tokens(TOO_MANY % b"")
        pace = Pace(attempts=1, interval=0.3)
        held = [planned("ws://127.0.0.1:9/", server, conn, pace=pace) for conn in range(4)]
        free = plan(exchange(forever).url.replace("localhost", "127.0.0.1"), conn=4, pace=pace, start_after=1.5)
        receiver = receive(*held, free, ca_file=str(ca_file))
        receiver.event(EventKind.CONNECT_FAILED)
        receiver.event(EventKind.CONNECT)
        assert len(server.requested) == 1
        receiver.stop()
