"""A connection through a proxy, in both ways of waiting: it opens, and what ends it is reported with its cause."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from msgspec.structs import replace

from tests.proxies import HOST
from tests.receive.hosts import names
from tests.receive.test_receiver import plan
from tests.receive.test_reconnector import Kept, run
from tests.supervise.test_proxies import counts, port_of
from wsrec.net.proxy import ProxyRules
from wsrec.receive import opening
from wsrec.receive.waiting import Epoll, Spin
from wsrec.ring.events import EventKind


@pytest.fixture(autouse=True, params=[Epoll, Spin], ids=lambda kind: kind.name)
def waiting(request, monkeypatch) -> None:
    monkeypatch.setattr(Kept, "waiting", request.param)


def kept_through(proxy: str, port: int, scheme: str = "ws") -> Kept:
    return Kept(replace(plan(f"{scheme}://{HOST}:{port}/x"), proxies=ProxyRules(given=proxy)))


def of(kept: Kept, kind: EventKind) -> dict[str, Any]:
    return kept.events(kind)[0]


class TestThroughAProxy:
    def test_it_opens_and_says_so(self, scripted_proxy, exchange):
        proxy, server = scripted_proxy(), exchange(counts)

        async def test() -> None:
            kept = kept_through(proxy.url, port_of(server))
            connected = await kept.event(EventKind.CONNECT)
            await kept.until(lambda: len(kept.reader.taken) > 8)
            await kept.stop()
            assert connected["proxy"] == proxy.url
            assert (connected["address"], connected["port"]) == ("127.0.0.1", proxy.port)
            assert of(kept, EventKind.STAMPING)["segments_of"] == "proxy"

        run(test())
        assert proxy.hosts == [HOST]

    def test_one_that_drips_has_the_time_of_an_attempt(self, scripted_proxy, monkeypatch):
        monkeypatch.setattr(opening, "CONNECT_TIMEOUT", 0.5)
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 200 " + b"a%" * 1000)

        async def test() -> None:
            kept = kept_through(proxy.url, 99)
            failed = await kept.event(EventKind.CONNECT_FAILED)
            await asyncio.wait_for(kept.stop(), 60)
            assert failed["cause"] == "proxy"
            assert failed["message"] == f"the proxy {proxy.url} did not answer in time"

        run(test())

    def test_a_refusal_is_for_good_where_nothing_else_is_recorded(self, scripted_proxy):
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 407 No\r\n\r\n")

        async def test() -> None:
            kept = kept_through(proxy.url, 99)
            failed = await kept.event(EventKind.CONNECT_FAILED)
            await asyncio.wait_for(kept.task, 60)
            assert failed["retry_s"] is None
            assert failed["message"] == f"the proxy {proxy.url} requires a user name and a password: 407 No"

        run(test())

    @pytest.mark.parametrize(
        ("answer", "cause", "words", "least", "most"),
        [
            (b"200 OK\r\n\r\nhello, world", "tls", "TLS failed: WRONG_VERSION_NUMBER", 0, 1),
            (b"429 No\r\n\r\n", "limited", "reports too many requests: 429 No", 60, 120),
            (b"429 No\r\nRetry-After: 77\r\n\r\n", "limited", "reports too many requests: 429 No", 77, 77),
            (b"503 No\r\nRetry-After: 77\r\n\r\n", "proxy", f"cannot reach {HOST}:99: 503 No", 77, 77),
        ],
    )
    def test_what_it_answers_in_the_exchanges_place_is_attributed_to_it(
        self, scripted_proxy, answer, cause, words, least, most
    ):
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 " + answer)

        async def test() -> None:
            kept = kept_through(proxy.url, 99, "wss")
            failed = await kept.event(EventKind.CONNECT_FAILED)
            await kept.stop()
            assert failed["cause"] == cause
            assert words in failed["message"]
            assert f"the proxy {proxy.url}" in failed["message"]
            assert "ws://" not in failed["hint"]
            assert least <= failed["retry_s"] <= most

        run(test())

    def test_the_end_while_its_name_is_looked_up_names_the_look_up(self, monkeypatch):
        go_on, asked = threading.Event(), threading.Event()
        hang = names({"proxy.hangs.test": lambda: asked.set() or (go_on.wait(60) and ["127.0.0.1"])})
        monkeypatch.setattr(socket, "getaddrinfo", hang)

        async def test() -> None:
            kept = kept_through("http://proxy.hangs.test:3128", 99)
            await kept.until(asked.is_set)
            await kept.stop()
            failure = kept.reconnector.never_open()
            expected = "the proxy http://proxy.hangs.test:3128 cannot be resolved: the name server has not answered"
            assert failure.message == expected
            assert failure.hint.startswith("check DNS")

        run(test())
        go_on.set()

    def test_an_end_in_mid_stream_names_both(self, scripted_proxy, exchange):
        proxy, server = scripted_proxy(), exchange(counts)

        async def test() -> None:
            kept = kept_through(proxy.url, port_of(server))
            await kept.event(EventKind.CONNECT)
            proxy.cut()
            failed = await kept.event(EventKind.CONNECT_FAILED)
            await kept.stop()
            assert failed["cause"] == "lost"
            assert failed["message"].startswith(f"{HOST}:{port_of(server)} through the proxy {proxy.url}: ")
            assert "the log of the proxy" in failed["hint"]

        run(test())
