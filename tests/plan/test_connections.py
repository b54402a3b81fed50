from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from wsrec.feed.channel import Action
from wsrec.plan.connections import ConnectionPlan, Pace, plan, standbys
from wsrec.plan.target import resolve


def limited(target, **limits):
    feed = target.feed.model_copy(update={"limits": target.feed.limits.model_copy(update=limits)})
    return type(target)(feed=feed, symbols=target.symbols, channels=target.channels)


class TestBinance:
    def test_one_connection_one_message(self):
        (connection,) = plan([resolve("binance", ("BTCUSDT",))])
        (subscription,) = connection.requests
        assert connection.url == connection.public_url == "wss://stream.binance.com:9443/stream"
        assert subscription.topic_names == ("btcusdt@trade", "btcusdt@depth@100ms", "btcusdt@bookTicker")
        assert json.loads(subscription.text) == {"method": "SUBSCRIBE", "params": [*subscription.topic_names], "id": 1}
        assert connection.send_interval == 0.5

    def test_usdm_groups_do_not_mix(self):
        connections = plan([resolve("binance-usdm", ("BTCUSDT",), ("book", "ticker"))])
        assert [c.url.split("/")[3] for c in connections] == ["public", "market"]

    def test_topics_without_symbol_are_requested_once(self):
        (connection,) = plan([resolve("binance-usdm", ("A1", "B2"), ("!ticker@arr",))])
        assert connection.requests[0].topic_names == ("!ticker@arr",)


class TestLimits:
    def test_streams_are_shared_evenly(self):
        target = resolve("binance", [f"A{n}" for n in range(1025)], ("trades",))
        connections = plan([target])
        assert [sum(len(s.topics) for s in c.requests) for c in connections] == [513, 512]

    def test_messages_hold_a_batch_and_count_up(self):
        (connection,) = plan([resolve("binance", [f"A{n}" for n in range(250)], ("trades",))])
        assert [len(s.topics) for s in connection.requests] == [100, 100, 50]
        assert [json.loads(s.text)["id"] for s in connection.requests] == [1, 2, 3]

    def test_send_interval_comes_from_the_rate(self):
        (connection,) = plan([limited(resolve("binance"), send_interval=None, messages_per_second=4)])
        assert connection.send_interval == 0.25

    def test_half_of_the_connects_at_once(self):
        target = limited(
            resolve("binance", [f"A{n}" for n in range(10)], ("trades",)), streams_per_connection=2, connects=4
        )
        assert [c.start_after for c in plan([target])] == [0, 0, 300, 300, 600]

    def test_attempts_keep_half_of_the_connects(self):
        (connection,) = plan([resolve("binance")])
        assert connection.pace == Pace(attempts=150, interval=300)
        assert connection.pace.share(2) == Pace(attempts=75, interval=300)
        assert plan([resolve("ws://localhost/")])[0].pace is None


class TestStandbys:
    def test_stand_by_for_what_can_be_replaced_with_numbers_of_their_own(self):
        plans = plan([resolve("binance"), resolve("ws://localhost/"), resolve("binance-usdm")])
        spare = standbys(plans)
        assert [(s.conn, s.standby_of) for s in spare] == [(3, 0), (4, 2)]
        assert (spare[0].url, spare[0].requests) == (plans[0].url, plans[0].requests)

    def test_a_lifetime_is_enough(self):
        (connection,) = plan([limited(resolve("binance", ("BTCUSDT",), ("trades",)), lifetime=60)])
        assert (connection.replaceable, connection.lifetime, connection.idle_timeout) == (True, 60, None)

    @pytest.mark.parametrize(("action", "replaceable"), [("renew", True), ("resubscribe", False)])
    def test_so_is_a_gap_after_which_the_connection_is_to_be_renewed(self, action, replaceable):
        target = resolve("binance-usdm", ("BTCUSDT",), ("kline_1m",))
        channels = {
            name: channel.model_copy(update={"idle_timeout": None, "on_gap": Action(action)})
            for name, channel in target.feed.channels.items()
        }
        feed = target.feed.model_copy(update={"channels": channels, "closing_notice": None})
        (connection,) = plan(
            [limited(type(target)(feed=feed, symbols=target.symbols, channels=target.channels), lifetime=None)]
        )
        assert connection.replaceable is replaceable


class TestQuiet:
    def test_is_the_smallest_of_the_channels_on_the_connection(self):
        public, market = plan([resolve("binance-usdm", ("BTCUSDT",), ("trades", "book", "!bookTicker", "kline_1m"))])
        assert (public.idle_timeout, market.idle_timeout) == (60, None)


class TestConnections:
    def test_are_numbered_over_all_targets(self):
        targets = [resolve("binance"), resolve("ws://localhost/"), resolve("binance-usdm")]
        assert [(c.conn, c.feed) for c in plan(targets, 5)] == [(5, "binance"), (6, "localhost"), (7, "binance-usdm")]

    def test_bare_url_sends_what_it_is_reported(self):
        (connection,) = plan([resolve("ws://u:p@h/", subscribe=("{topics}", "b"))])
        assert [s.text for s in connection.requests] == ["{topics}", "b"]
        assert (connection.url, connection.public_url) == ("ws://u:p@h/", "ws://***:***@h/")

    def test_cross_a_process_border(self):
        connections = plan([resolve("binance-usdm")])
        assert msgspec.json.decode(msgspec.json.encode(connections), type=list[ConnectionPlan]) == connections


@pytest.mark.parametrize("module", ["pydantic", "yaml"])
def test_receivers_do_not_load(module):
    code = f"import sys, wsrec.plan.connections; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
