"""wsrec.receive.reconnector: connections that take turns, so that a planned end, a notice or silence loses nothing."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.receive.conftest import Reader, messages, text
from tests.receive.test_receiver import RawExchange, answer, plan, request, subscriptions
from wsrec.host.clock import now
from wsrec.ipc import Resubscribe, Settled
from wsrec.options.record import TlsMode
from wsrec.plan.connections import Answer, ConnectionPlan, standbys
from wsrec.receive import backoff, closing_handshake, liveness, opening, successor_proof
from wsrec.receive.active_reconnectors import ActiveReconnectors
from wsrec.receive.pong_responder import PongResponder
from wsrec.receive.producer import Producer
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.receive.reconnector import Reconnector
from wsrec.receive.sides import Side
from wsrec.receive.tls_choice import TlsPolicy
from wsrec.receive.waiting import Epoll, Spin, Waiting
from wsrec.ring import loss_evidence
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.slotring import SlotRing

TEXT = 1


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    """Two go on together no longer than a test needs."""
    monkeypatch.setattr(successor_proof, "OVERLAP", 0.1)
    monkeypatch.setattr(successor_proof, "SETTLING", 0.1, raising=False)


@pytest.fixture(autouse=True, params=[Epoll, Spin], ids=lambda kind: kind.name)
def waiting(request, monkeypatch) -> None:
    monkeypatch.setattr(Kept, "waiting", request.param)


class Kept:
    """A kept connection within this process, with its rings' other end."""

    waiting: type[Waiting] = Epoll

    def __init__(self, planned: ConnectionPlan, limiters: HostRateLimiters | None = None, **options: Any) -> None:
        plans = [planned, *standbys([planned])]
        descriptors = [SlotRing.create("t"), ByteRing.create("t", 1 << 20)]
        descriptors += [ByteRing.create("t", 1 << 20) for _ in plans]
        slots, control_ring = SlotRing(descriptors[0]), ByteRing(descriptors[1])
        self.rings = {plan.conn: ByteRing(fd) for plan, fd in zip(plans, descriptors[2:], strict=True)}
        for fd in descriptors:
            os.close(fd)
        self.reader = Reader(slots, control_ring, self.rings)
        self.stopping = asyncio.Event()
        self.producer = Producer(slots, control_ring)
        self.reconnector = Reconnector(
            [Side(plan, self.rings[plan.conn]) for plan in plans],
            self.producer,
            self.waiting(),
            limiters or HostRateLimiters(),
            tls=TlsPolicy(TlsMode.STAMPED, None),
            **{"max_message": 1 << 26, "until_close": False, **options},
        )
        self.task = asyncio.ensure_future(self.reconnector.run(self.stopping))

    async def until(self, found: Callable[[], Any]) -> Any:
        async with asyncio.timeout(60):
            while True:
                self.reader.take()
                if value := found():
                    return value
                assert not self.task.done(), self.task
                await asyncio.sleep(0.002)

    async def event(self, kind: EventKind, count: int = 1) -> dict[str, Any]:
        return (await self.until(lambda: self.events(kind)[count - 1 :]))[0]

    def events(self, kind: EventKind) -> list[dict[str, Any]]:
        return [event.detail for event in self.reader.events() if event.kind is kind]

    def numbers(self, conn: int | None = None) -> list[int]:
        """What the market counted, in order of arrival."""
        slots = [slot for slot in self.reader.taken if slot.flags & 0xC == 0 and conn in (None, slot.conn)]
        return [int(payload) for opcode, payload in messages(slots) if opcode == TEXT and payload.isdigit()]

    async def stop(self) -> None:
        self.stopping.set()
        async with asyncio.timeout(60):
            while not self.task.done():
                self.reader.take()
                await asyncio.sleep(0.001)
        await self.task
        self.reader.take()


class Market:
    """Counts on one clock for all clients, as an exchange does."""

    def __init__(self) -> None:
        self.number = 0
        self.clients: list[Any] = []
        self.on_data: list[str] = []

    async def __call__(self, connection: Any) -> None:
        self.clients.append(connection)
        if len(self.clients) == 1:
            self.counting = asyncio.ensure_future(self._count())
        async for message in connection:
            self.on_data.append(message)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.number += 1
            for client in self.clients:
                if client.state.name == "OPEN":
                    await client.send(str(self.number))


class ByTopic:
    """Counts each topic (a digit) on one clock for all clients, and sends to each what it has subscribed to."""

    def __init__(self) -> None:
        self.clients: dict[Any, list[str]] = {}
        self.number = 0

    async def __call__(self, connection: Any) -> None:
        self.clients[connection] = []
        if len(self.clients) == 1:
            self.counting = asyncio.ensure_future(self._count())
        async for topic in connection:
            self.clients[connection].append(topic)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.number += 1
            for client, topics in self.clients.items():
                for topic in topics:
                    if client.state.name == "OPEN":
                        await client.send(f"{self.number}{topic}")


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(test)


def is_whole(numbers: list[int]) -> bool:
    """Whether every number from the first to the last came at least once."""
    return set(range(min(numbers), max(numbers) + 1)) == set(numbers)


def each_topic_is_whole(kept: Kept) -> None:
    """Nothing of the eight topics of a `ByTopic` is missing, nor called lost."""
    for topic in range(8):
        assert is_whole([number // 10 for number in kept.numbers() if number % 10 == topic]), topic
    assert kept.events(EventKind.LOST_INTERVAL) == []


class TestReplacement:
    def test_loses_nothing_and_says_when_both_were_open(self, exchange):
        async def test() -> None:
            server = exchange(Market())
            kept = Kept(plan(server.url, replaceable=True, requests=subscriptions("all")))
            await kept.until(lambda: len(kept.numbers()) > 20)
            kept.reconnector.renew(0, "because")
            replaced = await kept.event(EventKind.REPLACED)
            assert (replaced["from_conn"], replaced["to_conn"], replaced["reason"]) == (0, 1, "because")
            assert replaced["proved"]
            assert replaced["monotonic_from"] < replaced["monotonic_to"]
            both = set(kept.numbers(0)) & set(kept.numbers(1))
            assert both
            # and back again
            kept.reconnector.renew(1, "again")
            await kept.event(EventKind.REPLACED, 2)
            before = len(kept.numbers())
            await kept.until(lambda: len(kept.numbers()) > before + 20)
            await kept.stop()
            assert is_whole(kept.numbers())
            assert kept.events(EventKind.LOST_INTERVAL) == kept.events(EventKind.CONNECT_FAILED) == []
            assert [close["code"] for close in kept.events(EventKind.CLOSE) if close["by"] == "wsrec"] == [1000] * 3
            assert kept.reconnector.reconnects == 0

        run(test())

    def test_the_old_one_stays_until_all_is_asked_for_on_the_new_one(self, exchange):
        async def test() -> None:
            market = ByTopic()
            asks = subscriptions(*"01234567")
            kept = Kept(plan(exchange(market).url, replaceable=True, requests=asks, send_interval=0.1))
            await kept.until(lambda: {number % 10 for number in kept.numbers()} == set(range(8)))
            kept.reconnector.renew(0, "because")
            await kept.event(EventKind.REPLACED)
            await kept.until(lambda: {number % 10 for number in kept.numbers(1)} == set(range(8)))
            await kept.stop()
            each_topic_is_whole(kept)

        run(test())

    def test_both_go_on_until_the_writer_has_heard_of_all_or_some_time_is_over(self, exchange, monkeypatch):
        monkeypatch.setattr(successor_proof, "SETTLING", 1000.0)

        async def test() -> None:
            kept = Kept(plan(exchange(Market()).url, replaceable=True, requests=subscriptions("all")))
            await kept.until(lambda: len(kept.numbers()) > 5)
            kept.reconnector.renew(0, "because")
            await kept.until(lambda: len(kept.numbers(1)) > 50)
            # of the other one, and of a life before this one
            kept.reconnector.settled(Settled(0, now()))
            kept.reconnector.settled(Settled(1, 1))
            # neither counts, for much longer than both overlap once all has settled
            more = len(kept.numbers(1)) + 60
            await kept.until(lambda: len(kept.numbers(1)) > more)
            assert kept.events(EventKind.REPLACED) == []
            kept.reconnector.settled(Settled(1, now()))
            await kept.event(EventKind.REPLACED)
            await kept.stop()
            assert is_whole(kept.numbers())

        run(test())

    def test_one_that_the_exchange_ends_while_both_are_open_is_replaced_and_not_lost(self, exchange, monkeypatch):
        monkeypatch.setattr(successor_proof, "SETTLING", 1000.0)

        async def test() -> None:
            market = Market()

            async def ends_the_first(connection: Any) -> None:
                if market.clients:
                    asyncio.get_running_loop().call_later(0.5, asyncio.ensure_future, market.clients[0].close(1001))
                await market(connection)

            kept = Kept(plan(exchange(ends_the_first).url, replaceable=True, requests=subscriptions("all")))
            await kept.until(lambda: len(kept.numbers()) > 5)
            kept.reconnector.renew(0, "because")
            replaced = await kept.event(EventKind.REPLACED)
            assert (replaced["from_conn"], replaced["to_conn"], replaced["reason"]) == (0, 1, "because")
            await kept.stop()
            assert is_whole(kept.numbers())
            assert kept.events(EventKind.LOST_INTERVAL) == kept.events(EventKind.CONNECT_FAILED) == []
            assert kept.reconnector.reconnects == 0

        run(test())

    def test_one_with_much_to_ask_for_is_replaced_so_early_that_nothing_is_cut(self, exchange, monkeypatch):
        # more than the asking takes is left for it, as it is where times are not a test's
        monkeypatch.setattr(successor_proof, "SETTLING", 0.6)
        monkeypatch.setattr(successor_proof, "TIMEOUT", 0.1)

        async def test() -> None:
            market = ByTopic()

            async def limited(connection: Any) -> None:
                asyncio.get_running_loop().call_later(3.0, connection.transport.abort)
                await market(connection)

            options = {"requests": subscriptions(*"01234567"), "send_interval": 0.1, "lifetime": 3.0}
            kept = Kept(plan(exchange(limited).url, replaceable=True, **options))
            await kept.event(EventKind.REPLACED)
            await kept.until(lambda: {number % 10 for number in kept.numbers(1)} == set(range(8)))
            await kept.stop()
            each_topic_is_whole(kept)

        run(test())

    def test_before_the_exchange_cuts(self, exchange):
        async def test() -> None:
            market = Market()

            async def limited(connection: Any) -> None:
                asyncio.get_running_loop().call_later(1.5, connection.transport.abort)
                await market(connection)

            kept = Kept(plan(exchange(limited).url, replaceable=True, lifetime=1.5))
            await kept.event(EventKind.REPLACED, 2)
            await kept.stop()
            assert is_whole(kept.numbers())
            assert kept.events(EventKind.LOST_INTERVAL) == []
            assert [reported["to_conn"] for reported in kept.events(EventKind.REPLACED)] == [1, 0]

        run(test())

    def test_a_renewal_requested_too_late_is_dropped(self, exchange):
        async def test() -> None:
            kept = Kept(plan(exchange(Market()).url, replaceable=True))
            await kept.until(lambda: len(kept.numbers()) > 5)
            kept.reconnector.renew(0, "because")
            await kept.event(EventKind.REPLACED)
            kept.reconnector.renew(0, "because, once more")
            kept.reconnector.renew(1, "again")
            await kept.event(EventKind.REPLACED, 2)
            more = len(kept.numbers()) + 60
            await kept.until(lambda: len(kept.numbers()) > more)
            await kept.stop()
            assert [reported["reason"] for reported in kept.events(EventKind.REPLACED)] == ["because", "again"]

        run(test())

    def test_one_that_cannot_connect_leaves_the_old_one_open(self, exchange):
        async def test() -> None:
            market = Market()
            refused = itertools.count()

            def refuse(connection: Any, request: Any) -> Any:
                return connection.respond(503, "later") if market.clients and next(refused) < 2 else None

            kept = Kept(plan(exchange(market, process_request=refuse).url, replaceable=True))
            await kept.until(lambda: len(kept.numbers()) > 5)
            kept.reconnector.renew(0, "because")
            await kept.event(EventKind.REPLACED)
            await kept.stop()
            assert len(kept.events(EventKind.CONNECT_FAILED)) == 2
            assert kept.events(EventKind.LOST_INTERVAL) == []
            assert is_whole(kept.numbers())

        run(test())

    def test_where_the_old_one_dies_meanwhile_the_interval_is_lost(self, exchange):
        async def test() -> None:
            market = Market()
            refused = itertools.count()

            def refuse(connection: Any, request: Any) -> Any:
                if not market.clients or next(refused) > 1:
                    return None
                market.clients[0].transport.abort()
                return connection.respond(503, "later")

            kept = Kept(plan(exchange(market, process_request=refuse).url, replaceable=True))
            await kept.until(lambda: len(kept.numbers()) > 5)
            kept.reconnector.renew(0, "because")
            lost = await kept.event(EventKind.LOST_INTERVAL)
            assert lost["monotonic_from"] < lost["monotonic_to"]
            await kept.until(lambda: len(kept.numbers(1)) > 5)
            await kept.stop()
            assert len(kept.events(EventKind.LOST_INTERVAL)) == 1
            assert kept.events(EventKind.REPLACED) == []
            # nothing is missing that the interval does not cover
            assert is_whole(kept.numbers(0))
            assert is_whole(kept.numbers(1))

        run(test())

    def test_without_one_that_stands_by_it_is_ended_and_made_again(self, exchange):
        async def test() -> None:
            kept = Kept(plan(exchange(Market()).url))
            await kept.until(lambda: len(kept.numbers()) > 5)
            kept.reconnector.renew(0, "because")
            lost = await kept.event(EventKind.LOST_INTERVAL)
            assert lost["monotonic_from"] < lost["monotonic_to"]
            assert "because" in kept.events(EventKind.CONNECT_FAILED)[0]["message"]
            await kept.stop()

        run(test())

    def test_a_stop_in_the_middle_closes_both(self, exchange):
        async def test() -> None:
            silent = []

            async def handler(connection: Any) -> None:
                silent.append(connection)
                if len(silent) == 1:
                    await connection.send("1")
                await connection.wait_closed()

            kept = Kept(plan(exchange(handler).url, replaceable=True))
            await kept.until(lambda: kept.numbers())
            kept.reconnector.renew(0, "because")
            await kept.event(EventKind.CONNECT, 2)
            await kept.stop()
            assert sorted(close["by"] for close in kept.events(EventKind.CLOSE)) == ["exchange"] * 2 + ["wsrec"] * 2
            assert kept.events(EventKind.LOST_INTERVAL) == kept.events(EventKind.DISCONNECT) == []

        run(test())

    def test_a_stop_while_the_old_one_does_not_answer_its_close_closes_the_new_one_at_once(self, monkeypatch):
        monkeypatch.setattr(closing_handshake, "CLOSE_TIMEOUT", 30.0)
        held: list[socket.socket] = []

        def handler(sock: socket.socket) -> None:
            held.append(sock.dup())
            answer(held[-1], text("1"))

        async def test() -> None:
            with RawExchange(handler) as server:
                kept = Kept(plan(server.url, replaceable=True))
                await kept.until(lambda: kept.numbers())
                kept.reconnector.renew(0, "because")
                await kept.event(EventKind.CLOSE)
                kept.stopping.set()
                async with asyncio.timeout(60):
                    await kept.event(EventKind.CLOSE, 2)
                for sock in held:
                    sock.shutdown(socket.SHUT_RDWR)
                    sock.close()
                await kept.stop()
            assert kept.events(EventKind.LOST_INTERVAL) == []
            assert len(kept.events(EventKind.DISCONNECT)) == 1

        run(test())

    @pytest.mark.parametrize("refusals", [0, 1])
    def test_a_stop_right_after_it_opened_is_not_taken_for_one_that_never_did(self, exchange, refusals):
        asked: list[int] = []

        def refuse(connection: Any, request: Any) -> Any:
            asked.append(1)
            return connection.respond(503, "later") if len(asked) <= refusals else None

        async def test() -> None:
            kept = Kept(plan(exchange(Market(), process_request=refuse).url))
            async with asyncio.timeout(60):
                while not kept.events(EventKind.CONNECT):
                    await asyncio.sleep(0)
                    kept.reader.take()
            await kept.stop()
            assert kept.reconnector.was_connected
            assert kept.reconnector.failure is None
            assert [lost["to_evidence"] for lost in kept.events(EventKind.LOST_INTERVAL)] == (
                ["connection opened"] * refusals
            )

        run(test())


class Moody:
    """Counts on one clock for all clients, answers each subscription, and is silent on some connections.

    Args:
        silent: the connections, by their place in the order of coming, that get nothing but the response.
        period: seconds between two numbers; None for no numbers but those of `say`.

    """

    def __init__(self, *silent: int, period: float | None = 0.005) -> None:
        self.silent = set(silent)
        self.number = 0
        self.clients: list[Any] = []
        self.subscribed: list[Any] = []
        self._period = period

    async def __call__(self, connection: Any) -> None:
        self.clients.append(connection)
        self._loop = asyncio.get_running_loop()
        if len(self.clients) == 1 and self._period is not None:
            self.counting = asyncio.ensure_future(self._count(self._period))
        async for _ in connection:
            await connection.send('{"result":null}')
            self.subscribed.append(connection)

    async def _count(self, period: float) -> None:
        while True:
            await asyncio.sleep(period)
            await self._send()

    async def say(self, numbers: int = 1) -> None:
        """Send the next numbers, from another thread's loop."""
        for _ in range(numbers):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._send(), self._loop))

    def go_on(self) -> None:
        """Count from now on, as without `period`."""
        self._loop.call_soon_threadsafe(lambda: setattr(self, "counting", asyncio.ensure_future(self._count(0.005))))

    def cut(self, place: int) -> None:
        """End a connection without a word."""
        self._loop.call_soon_threadsafe(self.clients[place].transport.abort)

    async def _send(self) -> None:
        self.number += 1
        for place, client in enumerate(self.clients):
            if client in self.subscribed and place not in self.silent and client.state.name == "OPEN":
                await client.send(str(self.number))


class TestSilentSuccessor:
    """A connection that answers and then delivers nothing does not replace one that delivers."""

    @pytest.fixture(autouse=True)
    def waiting(self, monkeypatch) -> None:
        """One way to wait is enough, and none waits long."""
        monkeypatch.setattr(successor_proof, "SETTLING", 0.3)
        monkeypatch.setattr(backoff, "FIRST", 0.05)
        monkeypatch.setattr(backoff, "LONGEST", 0.1)

    def kept(self, url: str, **options: Any) -> Kept:
        return Kept(plan(url, replaceable=True, requests=subscriptions("all"), **options))

    def test_is_closed_and_tried_again_while_the_old_one_goes_on(self, exchange):
        async def test() -> None:
            kept = self.kept(exchange(Moody(1, 2)).url)
            await kept.until(lambda: len(kept.numbers()) > 20)
            kept.reconnector.renew(0, "because")
            replaced = await kept.event(EventKind.REPLACED)
            assert (replaced["from_conn"], replaced["to_conn"], replaced["proved"]) == (0, 1, True)
            await kept.until(lambda: kept.numbers(1)[20:])
            await kept.stop()
            assert [failed["cause"] for failed in kept.events(EventKind.CONNECT_FAILED)] == ["silent"] * 2
            assert kept.events(EventKind.LOST_INTERVAL) == []
            assert is_whole(kept.numbers())

        run(test())

    def test_where_the_old_one_ends_first_it_is_lost_until_another_one_brings_data(self, exchange):
        async def test() -> None:
            market = Moody(1, 2, 3)
            kept = self.kept(exchange(market).url)
            await kept.until(lambda: len(kept.numbers()) > 20)
            kept.reconnector.renew(0, "because")
            await kept.until(lambda: market.clients[2:])
            market.cut(0)
            await kept.until(lambda: kept.events(EventKind.LOST_INTERVAL))
            await kept.stop()
            (lost,) = kept.events(EventKind.LOST_INTERVAL)
            assert kept.events(EventKind.REPLACED) == []
            read = [(slot.event, int(slot.payload)) for slot in kept.reader.taken if slot.payload.isdigit()]
            before = max(number for at, number in read if at <= lost["monotonic_from"])
            after = min(number for at, number in read if at > lost["monotonic_from"])
            # all of the time from the end of the old one is reported
            assert after > before + 20
            assert min(at for at, number in read if number == after) <= lost["monotonic_to"]
            assert is_whole([number for _, number in read if number <= before])
            assert is_whole([number for _, number in read if number >= after])

        run(test())

    def test_where_none_brings_data_any_more_it_is_lost_to_the_end(self, exchange):
        async def test() -> None:
            market = Moody(*range(1, 100))
            kept = self.kept(exchange(market).url)
            await kept.until(lambda: len(kept.numbers()) > 20)
            kept.reconnector.renew(0, "because")
            await kept.until(lambda: market.clients[2:])
            market.cut(0)
            await kept.until(lambda: market.clients[4:])
            await kept.stop()
            (lost,) = kept.events(EventKind.LOST_INTERVAL)
            assert lost["to_evidence"] == loss_evidence.SESSION_END
            assert kept.events(EventKind.REPLACED) == []

        run(test())

    def test_one_that_the_exchange_ends_while_the_only_other_one_is_silent_is_lost(self, exchange, monkeypatch):
        monkeypatch.setattr(successor_proof, "SETTLING", 30.0)

        async def test() -> None:
            market = Moody(1)
            kept = self.kept(exchange(market).url)
            await kept.until(lambda: len(kept.numbers()) > 20)
            kept.reconnector.renew(0, "because")
            await kept.until(lambda: len(market.subscribed) == 2)
            await asyncio.sleep(0.8)
            market.cut(0)
            await asyncio.sleep(0.3)
            kept.reader.take()
            assert kept.events(EventKind.REPLACED) == kept.events(EventKind.LOST_INTERVAL) == []
            market.silent.clear()
            lost = await kept.event(EventKind.LOST_INTERVAL)
            assert lost["monotonic_to"] - lost["monotonic_from"] > 0.2e9
            await kept.stop()

        run(test())

    def test_a_quiet_market_is_replaced_without_loss_or_alarm(self, exchange):
        async def test() -> None:
            market = Moody(period=None)
            kept = self.kept(exchange(market).url)
            await kept.until(lambda: market.subscribed)
            await market.say()
            kept.reconnector.renew(0, "because")
            # which came on the old one alone, before the new one had subscribed
            await kept.until(lambda: len(market.clients) == 2)
            replaced = await kept.event(EventKind.REPLACED)
            assert replaced["proved"] is False
            await market.say()
            await kept.until(lambda: kept.numbers(1))
            await kept.stop()
            assert kept.events(EventKind.CONNECT_FAILED) == kept.events(EventKind.LOST_INTERVAL) == []

        run(test())

    @pytest.mark.parametrize("silent", [False, True])
    def test_in_a_slow_market_a_single_message_decides(self, exchange, monkeypatch, silent):
        monkeypatch.setattr(successor_proof, "SETTLING", 0.8)

        async def test() -> None:
            market = Moody(*([1] if silent else []), period=None)
            kept = self.kept(exchange(market).url)
            await kept.until(lambda: market.subscribed)
            await market.say()
            kept.reconnector.renew(0, "because")
            await kept.until(lambda: len(market.subscribed) == 2)
            # it counts from two overlaps after the subscription on
            await asyncio.sleep(0.35)
            await market.say()
            await kept.event(EventKind.REPLACED)
            await kept.stop()
            assert [failed["cause"] for failed in kept.events(EventKind.CONNECT_FAILED)] == ["silent"] * silent

        run(test())

    def test_one_that_is_silent_since_it_took_over_is_noticed(self, exchange, monkeypatch):
        monkeypatch.setattr(liveness, "FIRST_MESSAGE", 0.5)

        async def test() -> None:
            market = Moody(1, period=None)
            kept = self.kept(exchange(market).url)
            await kept.until(lambda: market.subscribed)
            await market.say(50)
            await kept.until(lambda: len(kept.numbers()) == 50)
            # nothing comes while both are open
            kept.reconnector.renew(0, "because")
            assert not (await kept.event(EventKind.REPLACED))["proved"]
            market.go_on()
            await kept.until(lambda: kept.numbers(0)[60:])
            (lost,) = [await kept.event(EventKind.LOST_INTERVAL)]
            assert lost["reason"].startswith("silent")
            assert kept.events(EventKind.STALE)
            await kept.stop()

        run(test())


class TestAnswers:
    def test_a_ping_right_behind_the_handshake_is_answered(self):
        on_data: list[bytes] = []

        def handler(connection: socket.socket) -> None:
            answer(connection, text('{"ping":7}'))
            on_data.append(connection.recv(1000))

        async def test() -> None:
            kept = Kept(plan(server.url, answers=(Answer(path="ping", text='{"pong":{value}}', value="ping"),)))
            answers = PongResponder(kept.producer, kept.reconnector.sides.ping_sources)
            async with asyncio.timeout(60):
                while not kept.reconnector.sides.connected:
                    await asyncio.sleep(0)
            # as it may come to look in the very turn in which the connection opened
            answers.look()
            await kept.until(kept.reader.sent)
            assert kept.reader.sent()[0] == (TEXT, b'{"pong":7}')
            await kept.until(lambda: on_data)
            await kept.stop()

        with RawExchange(handler) as server:
            run(test())


class TestSilence:
    def test_pings_are_no_data(self, exchange, monkeypatch):
        monkeypatch.setattr(successor_proof, "TIMEOUT", 0.1)
        monkeypatch.setattr(liveness, "_LONGEST_QUIET", 0.8)

        async def test() -> None:
            async def handler(connection: Any) -> None:
                await connection.send("1")
                while True:
                    await connection.ping()
                    await asyncio.sleep(0.05)

            kept = Kept(plan(exchange(handler).url, replaceable=True, idle_timeout=0.2, requests=subscriptions("all")))
            await kept.event(EventKind.STALE, 3)
            await kept.stop()
            # each replacement that is silent too is waited for longer
            assert [reported["idle_s"] for reported in kept.events(EventKind.STALE)][:3] == [0.2, 0.4, 0.8]
            assert kept.events(EventKind.LOST_INTERVAL) == []
            assert len(kept.events(EventKind.REPLACED)) >= 2

        run(test())

    def test_one_that_brings_data_is_left_alone(self, exchange):
        async def test() -> None:
            kept = Kept(plan(exchange(Market()).url, replaceable=True, idle_timeout=0.2))
            await kept.until(lambda: len(kept.numbers()) > 120)
            await kept.stop()
            came = [(slot.conn, slot.event) for slot in kept.reader.taken if slot.opcode == TEXT]
            # while this thread spins the market waits for the interpreter, on a busy machine for longer than 0.2 s
            for stale in kept.reader.events():
                if stale.kind is EventKind.STALE:
                    quiet = range(stale.detail["monotonic_since"] + 1, stale.detail["monotonic_since"] + 200_000_000)
                    assert [at for conn, at in came if conn == stale.conn and at in quiet] == []

        run(test())


class TestUnresponsive:
    def test_a_ping_that_is_not_answered_ends_it(self):
        async def test() -> None:
            released = threading.Event()

            def handler(sock: socket.socket) -> None:
                answer(sock, b"\x81\x011")
                # neither reads nor closes
                released.wait(10)

            with RawExchange(handler) as server:
                kept = Kept(plan(server.url, ping_interval=0.2, ping_timeout=0.2))
                failed = await kept.event(EventKind.CONNECT_FAILED)
                released.set()
                await kept.stop()
            assert failed["cause"] == "timeout"
            assert "a ping was not answered" in failed["message"]
            assert kept.events(EventKind.LOST_INTERVAL)

        run(test())

    def test_one_that_answers_stays(self, exchange):
        async def test() -> None:
            async def handler(connection: Any) -> None:
                await connection.wait_closed()

            kept = Kept(plan(exchange(handler).url, ping_interval=0.1, ping_timeout=0.5))
            await kept.until(lambda: len(kept.reader.sent()) >= 5)
            await kept.stop()
            assert kept.events(EventKind.CONNECT_FAILED) == []

        run(test())


class TestRefused:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr(backoff, "REFUSED", 0.05, raising=False)

    def test_is_tried_again_until_it_is_let_in(self, exchange):
        asked: list[int] = []

        def refuse(connection: Any, request: Any) -> Any:
            asked.append(1)
            return connection.respond((403, 451, 302)[len(asked) - 1], "no") if len(asked) < 4 else None

        async def test() -> None:
            active = ActiveReconnectors()
            good = Kept(plan(exchange(Market()).url), active=active)
            market = Market()
            kept = Kept(plan(exchange(market, process_request=refuse).url), active=active)
            await kept.event(EventKind.CONNECT)
            assert len(kept.events(EventKind.CONNECT_FAILED)) == 3
            lost = await kept.event(EventKind.LOST_INTERVAL)
            assert lost["to_evidence"] == "connection opened"
            await kept.stop()
            await good.stop()

        run(test())

    @pytest.mark.parametrize("alone", [True, False])
    def test_where_all_are_refused_it_is_the_end_unless_others_record(self, exchange, alone):
        async def test() -> None:
            active = ActiveReconnectors(alone=alone)
            servers = [exchange(Market(), process_request=lambda c, _: c.respond(403, "no")) for _ in range(2)]
            both = [Kept(plan(server.url), active=active) for server in servers]
            if alone:
                async with asyncio.timeout(60):
                    await asyncio.gather(*(kept.task for kept in both))
            else:
                for kept in both:
                    await kept.event(EventKind.CONNECT_FAILED, 3)
                    await kept.stop()
            assert active.all_exhausted

        run(test())


class TestResubscribe:
    def test_only_what_holds_the_topics_paced_and_with_the_reason(self, exchange):
        async def test() -> None:
            market = Market()
            kept = Kept(plan(exchange(market).url, requests=subscriptions("a", "b", "c"), send_interval=0.02))
            await kept.until(lambda: len(kept.events(EventKind.SUBSCRIBE)) == 3)
            kept.reconnector.sides.resubscribe(Resubscribe(0, ("topic of b", "topic of c", "unknown"), "silent"))
            kept.reconnector.sides.resubscribe(Resubscribe(7, ("topic of a",), "not ours"))
            await kept.until(lambda: len(market.on_data) == 5)
            await kept.stop()
            assert market.on_data == ["a", "b", "c", "b", "c"]
            assert [event.get("reason") for event in kept.events(EventKind.SUBSCRIBE)] == [None] * 3 + ["silent"] * 2
            sent = [slot for slot in kept.reader.taken if slot.flags & 0x4 and slot.opcode == TEXT]
            times = [slot.handoff for slot in sent]
            assert all(after - before >= 15_000_000 for before, after in itertools.pairwise(times))
            # a request keeps its number, in the event and in the slot of the frame
            assert [slot.read_bytes for slot in sent] == [1, 2, 3, 2, 3]
            assert [event["request"] for event in kept.events(EventKind.SUBSCRIBE)] == [1, 2, 3, 2, 3]

        run(test())


class TestTcp:
    def test_is_sampled(self, exchange):
        async def test() -> None:
            kept = Kept(plan(exchange(Market()).url, ping_interval=0.2))
            reported = await kept.event(EventKind.TCP)
            await kept.stop()
            assert 0 < reported["rtt_us"] < 10_000_000
            assert reported["rcv_queue"] >= 0
            assert reported["retransmits"] == reported["lost"] == 0

        run(test())


class TestPace:
    def test_a_request_to_wait_holds_back_all_connections_to_the_host(self, exchange):
        async def test() -> None:
            limited = exchange(Market(), process_request=too_often)
            other = exchange(Market())
            limiters = HostRateLimiters()
            began = asyncio.get_running_loop().time()
            first = Kept(plan(limited.url), limiters)
            await first.event(EventKind.CONNECT_FAILED)
            second = Kept(plan(other.url), limiters)
            await second.event(EventKind.CONNECT)
            # which the server had asked for after that
            assert asyncio.get_running_loop().time() - began > 1.0
            await first.stop()
            await second.stop()

        def too_often(connection: Any, request: Any) -> Any:
            response = connection.respond(429, "slow down")
            response.headers["Retry-After"] = "1"
            return response

        run(test())

    def test_a_refusal_that_never_ends_is_reported_by_its_head(self, monkeypatch):
        monkeypatch.setattr(opening, "CONNECT_TIMEOUT", 0.3)
        held: list[socket.socket] = []

        def handler(sock: socket.socket) -> None:
            held.append(sock.dup())
            request(sock)
            sock.sendall(b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: 1000\r\n\r\nbegun")

        async def test() -> None:
            with RawExchange(handler) as server:
                kept = Kept(plan(server.url))
                # on a busy machine an attempt may be over before the server has answered
                failed = await kept.until(
                    lambda: [one for one in kept.events(EventKind.CONNECT_FAILED) if one["cause"] != "timeout"]
                )
                await kept.stop()
            for sock in held:
                sock.close()
            assert (failed[0]["cause"], failed[0]["retry_s"]) == ("limited", 7.0)
            assert failed[0]["message"].endswith("429 Slow Down: begun")

        run(test())
