"""`wsrec.connect` through a proxy."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import wsrec
from tests.proxies import HOST, PASSWORD, USER
from tests.supervise.test_proxies import port_of


async def says_hello(connection: Any) -> None:
    await connection.send("hello")


def messages_of(url: str, **options: Any) -> list[str]:
    texts: list[str] = []

    async def run() -> None:
        async with wsrec.connect(url, on_message=lambda message: texts.append(message.text), **options) as connection:
            await connection.wait_closed()

    asyncio.run(run())
    return texts


class TestThroughAProxy:
    def test_the_name_is_the_proxys_to_look_up(self, scripted_proxy, exchange, ca_file):
        one, server = scripted_proxy(), exchange(says_hello, tls=True)
        url = f"wss://{HOST}:{port_of(server)}/x"
        given = one.url.replace("//", f"//{USER}:{PASSWORD}@")
        assert messages_of(url, proxy=given, ca_file=ca_file) == ["hello"]
        assert one.hosts == [HOST]
        assert one.requested[0].endswith(f"{USER}:{PASSWORD}")

    def test_the_environment_says_whether_there_is_one(self, scripted_proxy, exchange, ca_file, monkeypatch):
        one, server = scripted_proxy(), exchange(says_hello, tls=True)
        url = f"wss://{HOST}:{port_of(server)}/x"
        for name in ("wss_proxy", "https_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", one.url)
        assert messages_of(url, ca_file=ca_file) == ["hello"]
        with pytest.raises(OSError, match=r"not known|No address"):
            messages_of(url, ca_file=ca_file, proxy=None)
        assert messages_of(server.url, ca_file=ca_file) == ["hello"], "this machine's own"
        assert one.hosts == [HOST]

    def test_its_refusal_is_an_error_of_its_own(self, scripted_proxy):
        one = scripted_proxy(answer=lambda head: b"HTTP/1.1 403 Filtered\r\n\r\n")
        with pytest.raises(
            wsrec.ProxyError, match=f"the proxy {one.url} does not allow a connection to {HOST}:99: 403"
        ) as caught:
            messages_of(f"ws://{HOST}:99/x", proxy=one.url)
        assert isinstance(caught.value, OSError)
        assert caught.value.hint.startswith(f"allow CONNECT to {HOST}:99 ")

    def test_one_that_drips_has_the_time_of_all_of_it(self, scripted_proxy):
        one = scripted_proxy(answer=lambda head: b"HTTP/1.1 200 " + b"a%" * 100)
        began = time.monotonic()
        with pytest.raises(wsrec.ProxyError, match=f"the proxy {one.url} did not answer within 0.7 s"):
            messages_of(f"ws://{HOST}:99/x", proxy=one.url, open_timeout=0.7)
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize("text", ["https://u:S3CR3T@h:1", "", "http://u:S3CR3T/@h:1"])
    def test_an_address_that_is_none_is_refused_at_once(self, text):
        with pytest.raises(ValueError, match=r"^proxy: ") as caught:
            wsrec.connect("wss://h/x", on_message=print, proxy=text)
        assert "S3CR3T" not in str(caught.value)
