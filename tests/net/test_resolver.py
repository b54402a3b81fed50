"""wsrec.net.resolver: who waits for a name server that does not answer, for how long, and what is used in its place."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import uvloop

from tests.receive.hosts import names
from wsrec.net import resolver
from wsrec.net.resolver import Address, Found, NoAnswerError, Resolver

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class NameServer:
    """The system's look-ups of `x.test` and of `hanging.test`, which does not answer before `answer` is set.

    Attributes:
        requested: how often each host was looked up.
        answer: whether those that hang go on.
        error: raised for each look-up, where there is one.

    """

    def __init__(self) -> None:
        self.requested: dict[str, int] = {}
        self.answer = threading.Event()
        self.error: Exception | None = None

    def found(self, host: str, addresses: Sequence[str], *, hangs: bool = False) -> Callable[[], Sequence[str]]:
        def answered() -> Sequence[str]:
            self.requested[host] = self.requested.get(host, 0) + 1
            if hangs:
                assert self.answer.wait(30)
            if self.error is not None:
                raise self.error
            return addresses

        return answered


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    known = {f"{name}.test": server.found(f"{name}.test", ["127.0.0.9", "::9"], hangs=name != "x") for name in "xhi"}
    monkeypatch.setattr(socket, "getaddrinfo", names(known))
    yield server
    server.answer.set()


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., object]:
    def run(coroutine: object) -> object:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(coroutine)  # type: ignore[arg-type]

    return run


def ips(found: Found) -> list[str]:
    return [one.ip for one in found.addresses]


class TestLiterals:
    @pytest.mark.parametrize(
        ("host", "ip"),
        [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("fe80::1%lo", "fe80::1")],
    )
    def test_they_need_no_thread_and_no_name_server(self, host, ip, monkeypatch):
        monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread for a literal"))
        found = Resolver().resolve_blocking(host, 443)
        assert ips(found) == [ip]
        assert found.addresses[0].port == 443
        assert found.age is None

    def test_a_scope_is_read_as_urls_have_it(self):
        (address,) = Resolver().resolve_blocking("[fe80::1%25lo]", 1).addresses
        assert address.sockaddr[3] == socket.if_nametoindex("lo")


class TestLookUp:
    def test_the_addresses_get_the_port_that_was_requested(self, server, run):
        found = run(Resolver().resolve("x.test", 8443))
        assert [one.sockaddr[:2] for one in found.addresses] == [("127.0.0.9", 8443), ("::9", 8443)]
        assert (found.age, found.trouble) == (None, None)

    def test_all_who_want_a_host_share_one_look_up(self, server):
        names = Resolver()
        got: list[list[str]] = []

        async def from_a_loop() -> None:
            both = await asyncio.gather(names.resolve("h.test", 1), names.resolve("h.test", 2))
            got.extend(map(ips, both))

        threads = [threading.Thread(target=lambda: got.append(ips(names.resolve_blocking("h.test", 3))))]
        threads += [threading.Thread(target=asyncio.run, args=(from_a_loop(),)) for _ in "12"]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        server.answer.set()
        for thread in threads:
            thread.join(10)
        assert got == [["127.0.0.9", "::9"]] * 5
        assert server.requested == {"h.test": 1}

    def test_one_that_hangs_holds_up_no_other(self, server, run):
        async def others() -> None:
            names = Resolver()
            hanging = [asyncio.ensure_future(names.resolve(f"{name}.test", 1)) for name in "hi" * 8]
            await asyncio.sleep(0.05)
            assert threading.active_count() <= before + 2
            async with asyncio.timeout(20):
                await names.resolve("x.test", 1)
                await names.resolve("127.0.0.1", 1)
            for one in hanging:
                one.cancel()
            await asyncio.wait(hanging)

        before = threading.active_count()
        began = time.monotonic()
        run(others())
        assert time.monotonic() - began < 5, "the loop's end waits for a look-up"

    def test_who_leaves_does_not_take_it_from_the_others(self, server, run):
        async def two() -> Found:
            names = Resolver()
            first, second = (asyncio.ensure_future(names.resolve("h.test", 1)) for _ in "12")
            await asyncio.sleep(0.05)
            first.cancel()
            await asyncio.wait((first,))
            server.answer.set()
            return await second

        assert ips(run(two())) == ["127.0.0.9", "::9"]

    def test_one_that_is_not_answered_says_so(self, server, run):
        with pytest.raises(NoAnswerError, match="the name server has not answered for"):
            run(Resolver().resolve("h.test", 1, timeout=0.05))
        with pytest.raises(NoAnswerError):
            Resolver().resolve_blocking("h.test", 1, timeout=0.05)

    def test_errors_are_the_system_s(self, server):
        server.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with pytest.raises(socket.gaierror, match="Name or service not known") as caught:
            Resolver().resolve_blocking("x.test", 1)
        assert not isinstance(caught.value, NoAnswerError)

    def test_what_is_no_name_is_an_error_like_any_other(self):
        with pytest.raises(socket.gaierror, match="not a valid host name"):
            Resolver().resolve_blocking("a" * 70 + ".test", 1)


def test_a_kept_answer_is_not_waited_for_as_long_as_a_first_one(server):
    names = Resolver()
    server.answer.set()
    names.resolve_blocking("h.test", 1)
    server.answer.clear()
    began = time.monotonic()
    assert names.resolve_blocking("h.test", 1).trouble
    assert time.monotonic() - began < resolver.TIMEOUT / 2


class TestKept:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(resolver, "KEPT_AFTER", 0.05)

    @pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
    def test_the_last_good_answer_is_used_where_a_look_up_fails(self, server, error):
        names = Resolver()
        names.resolve_blocking("x.test", 1)
        server.error = socket.gaierror(error, "DNS is broken")
        time.sleep(0.02)
        found = names.resolve_blocking("x.test", 2)
        assert [one.sockaddr[:2] for one in found.addresses] == [("127.0.0.9", 2), ("::9", 2)]
        assert found.age >= 0.02
        assert found.trouble == "DNS is broken"

    def test_and_where_it_hangs(self, server, run):
        names = Resolver()
        server.answer.set()
        names.resolve_blocking("h.test", 1)
        server.answer.clear()
        found = run(names.resolve("h.test", 1))
        assert ips(found) == ["127.0.0.9", "::9"]
        assert "the name server has not answered for" in found.trouble

    def test_it_is_news_once_until_the_name_server_answers_again(self, server):
        names = Resolver()
        reported = []
        for broken in (False, True, True, False, True):
            server.error = socket.gaierror(socket.EAI_AGAIN, "broken") if broken else None
            reported.append(names.resolve_blocking("x.test", 1).news)
        assert reported == [False, True, False, False, True]

    def test_an_answer_that_comes_late_is_kept(self, server):
        names = Resolver()
        with pytest.raises(NoAnswerError):
            names.resolve_blocking("h.test", 1, timeout=0.01)
        server.answer.set()
        deadline = time.monotonic() + 10
        while not names._cached and time.monotonic() < deadline:
            time.sleep(0.01)
        server.error = socket.gaierror(socket.EAI_AGAIN, "broken")
        assert ips(names.resolve_blocking("h.test", 1)) == ["127.0.0.9", "::9"]


class TestWorked:
    """What the name server does not give any more, and did work."""

    @pytest.fixture
    def given(self, monkeypatch) -> list[str]:
        given = ["127.0.0.9"]

        def answered() -> Sequence[str]:
            if not given:
                raise socket.gaierror(socket.EAI_AGAIN, "broken")
            return list(given)

        monkeypatch.setattr(socket, "getaddrinfo", names({"x.test": answered}))
        return given

    def test_it_is_returned_with_an_answer_without_it_and_with_a_kept_one(self, given):
        names = Resolver()
        (address,) = names.resolve_blocking("x.test", 1).addresses
        names.worked("x.test", address)
        assert names.resolve_blocking("x.test", 1).worked is None
        given[:] = ["127.0.0.10"]
        time.sleep(0.02)
        found = names.resolve_blocking("x.test", 2)
        assert (ips(found), found.age) == (["127.0.0.10"], None)
        assert found.worked.address.sockaddr == ("127.0.0.9", 2)
        # since it worked, and since the name server gave it
        assert 0.02 <= found.worked.ago <= found.worked.age
        given.clear()
        found = names.resolve_blocking("x.test", 2)
        assert ips(found) == ["127.0.0.10"]
        assert found.trouble == "broken"
        assert found.worked.address.ip == "127.0.0.9"

    def test_only_the_last_one_is(self, given):
        names = Resolver()
        for n in (9, 10, 11):
            given[:] = [f"127.0.0.{n}"]
            (address,) = names.resolve_blocking("x.test", 1).addresses
            if n < 11:
                names.worked("x.test", address)
        assert names.resolve_blocking("x.test", 1).worked.address.ip == "127.0.0.10"

    def test_using_it_does_not_make_it_an_answer_of_now(self, given):
        names = Resolver()
        (address,) = names.resolve_blocking("x.test", 1).addresses
        names.worked("x.test", address)
        given[:] = ["127.0.0.10"]
        time.sleep(0.02)
        names.resolve_blocking("x.test", 1)
        names.worked("x.test", address)
        found = names.resolve_blocking("x.test", 1)
        assert found.worked.ago < found.worked.age
        assert found.worked.age >= 0.02

    @pytest.mark.parametrize(
        ("ago", "proved", "unproved"), [(200, True, True), (3600, True, False), (90_000, False, False)]
    )
    def test_it_is_used_for_so_long_only_where_a_certificate_proves_it(self, ago, proved, unproved):
        address = Address(socket.AF_INET, ("127.0.0.9", 1))
        found = Found((), worked=resolver.LastWorkingAddress(address, ago, ago))
        assert [found.fallback(proved=one) is not None for one in (True, False)] == [proved, unproved]

    def test_a_literal_is_not_remembered(self):
        names = Resolver()
        (address,) = names.resolve_blocking("127.0.0.1", 1).addresses
        names.worked("127.0.0.1", address)
        assert not names._worked
