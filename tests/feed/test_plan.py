from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from wsrec.feed.plan import ConnectionPlan, plan
from wsrec.feed.target import resolve


def limited(target, **limits):
    feed = target.feed.model_copy(update={"limits": target.feed.limits.model_copy(update=limits)})
    return type(target)(feed=feed, symbols=target.symbols, channels=target.channels)


class TestBinance:
    def test_one_connection_one_message(self):
        (connection,) = plan([resolve("binance", ("BTCUSDT",))])
        (subscription,) = connection.subscriptions
        assert connection.url == connection.public_url == "wss://stream.binance.com:9443/stream"
        assert subscription.topics == ("btcusdt@trade", "btcusdt@depth@100ms", "btcusdt@bookTicker")
        assert json.loads(subscription.text) == {"method": "SUBSCRIBE", "params": [*subscription.topics], "id": 1}
        assert connection.send_interval == 0.5

    def test_usdm_groups_do_not_mix(self):
        connections = plan([resolve("binance-usdm", ("BTCUSDT",), ("book", "ticker"))])
        assert [c.url.split("/")[3] for c in connections] == ["public", "market"]

    def test_topics_without_symbol_are_asked_for_once(self):
        (connection,) = plan([resolve("binance-usdm", ("A1", "B2"), ("!ticker@arr",))])
        assert connection.subscriptions[0].topics == ("!ticker@arr",)


class TestLimits:
    def test_streams_are_shared_evenly(self):
        target = resolve("binance", [f"A{n}" for n in range(1025)], ("trades",))
        connections = plan([target])
        assert [sum(len(s.topics) for s in c.subscriptions) for c in connections] == [513, 512]

    def test_messages_hold_a_batch_and_count_up(self):
        (connection,) = plan([resolve("binance", [f"A{n}" for n in range(250)], ("trades",))])
        assert [len(s.topics) for s in connection.subscriptions] == [100, 100, 50]
        assert [json.loads(s.text)["id"] for s in connection.subscriptions] == [1, 2, 3]

    def test_send_interval_comes_from_the_rate(self):
        (connection,) = plan([limited(resolve("binance"), send_interval=None, messages_per_second=4)])
        assert connection.send_interval == 0.25

    def test_half_of_the_connects_at_once(self):
        target = limited(
            resolve("binance", [f"A{n}" for n in range(10)], ("trades",)), streams_per_connection=2, connects=4
        )
        assert [c.start_after for c in plan([target])] == [0, 0, 300, 300, 600]


class TestConnections:
    def test_are_numbered_over_all_targets(self):
        targets = [resolve("binance"), resolve("ws://localhost/"), resolve("binance-usdm")]
        assert [(c.conn, c.feed) for c in plan(targets, 5)] == [(5, "binance"), (6, "localhost"), (7, "binance-usdm")]

    def test_bare_url_sends_what_it_is_told(self):
        (connection,) = plan([resolve("ws://u:p@h/", subscribe=("{topics}", "b"))])
        assert [s.text for s in connection.subscriptions] == ["{topics}", "b"]
        assert (connection.url, connection.public_url) == ("ws://u:p@h/", "ws://***:***@h/")

    def test_cross_a_process_border(self):
        connections = plan([resolve("binance-usdm")])
        assert msgspec.json.decode(msgspec.json.encode(connections), type=list[ConnectionPlan]) == connections


@pytest.mark.parametrize("module", ["pydantic", "yaml"])
def test_receivers_do_not_load(module):
    code = f"import sys, wsrec.feed.plan; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
