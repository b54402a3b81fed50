"""The subscription messages of real exchanges, as their documentations write them."""

from __future__ import annotations

import json
import re

import pytest

from tests.feeds import parse_feed
from wsrec.feed.errors import ConfigError
from wsrec.plan.connections import plan
from wsrec.plan.target import Target

HEAD = """
name: x
description: d
sockets: {m: {url: "wss://h/ws"}}
symbols: {pattern: '[^ ]+', words: w, example: BTC-USD, case: keep}
limits: {connects: 10, connects_interval: 1}
"""


def feed(text):
    return parse_feed((HEAD + text).encode(), "f.yaml")


def connections(text, symbols=("A", "B"), channels=None):
    known = feed(text)
    return plan([Target(feed=known, symbols=symbols, channels=tuple(channels or known.channel_table))])


def stated(*args):
    (connection,) = connections(*args)
    return [json.loads(re.sub(r"\{\w+\}", "0", subscription.text)) for subscription in connection.requests]


class TestStyles:
    def test_array_of_topics(self):
        assert stated("""
subscribe: {message: '{"op":"subscribe","args":{topics},"req_id":"{id}"}', batch: 3}
channels: {t: {topic: "publicTrade.{symbol}"}, b: {topic: "orderbook.50.{symbol}"}}
""") == [
            {"op": "subscribe", "args": ["publicTrade.A", "orderbook.50.A", "publicTrade.B"], "req_id": "1"},
            {"op": "subscribe", "args": ["orderbook.50.B"], "req_id": "2"},
        ]

    def test_array_of_objects(self):
        okx = """
subscribe:
  message: '{"id":"{id}","op":"subscribe","args":{arguments}}'
  argument: '{"channel":"{channel}","instId":"{symbol}"}'
channels: {trades: {topic: "trades:{symbol}"}, bbo-tbt: {topic: "bbo-tbt:{symbol}"}}
"""
        pairs = [("trades", "A"), ("bbo-tbt", "A"), ("trades", "B"), ("bbo-tbt", "B")]
        args = [{"channel": channel, "instId": symbol} for channel, symbol in pairs]
        assert stated(okx) == [{"id": "1", "op": "subscribe", "args": args}]

    def test_one_message_a_channel_with_many_symbols(self):
        assert stated("""
subscribe: {message: '{"event":"subscribe","feed":"{channel}","product_ids":{symbols}}'}
channels: {book: {topic: "book:{symbol}"}, trade: {topic: "trade:{symbol}"}}
""") == [
            {"event": "subscribe", "feed": "book", "product_ids": ["A", "B"]},
            {"event": "subscribe", "feed": "trade", "product_ids": ["A", "B"]},
        ]

    def test_parameters_of_a_channel(self):
        assert stated(
            """
subscribe: {message: '{"method":"subscribe","params":{"channel":"{channel}","symbol":{symbols}},"req_id":{id}}'}
channels:
  trade: {topic: "trade:{symbol}"}
  book{depth}:
    topic: "book{depth}:{symbol}"
    channel_alias: book
    parameters: {depth: ["10", "100"]}
    subscribe:
      message: >-
        {"method":"subscribe","params":{"channel":"{channel}","symbol":{symbols},"depth":{depth}},"req_id":{id}}
""",
            ("A",),
            ("trade", "book100"),
        ) == [
            {"method": "subscribe", "params": {"channel": "trade", "symbol": ["A"]}, "req_id": 1},
            {"method": "subscribe", "params": {"channel": "book", "symbol": ["A"], "depth": 100}, "req_id": 2},
        ]

    def test_one_message_a_topic(self):
        assert stated("""
subscribe: {message: '{"method":"subscribe","subscription":{"type":"{channel}","coin":"{symbol}"}}'}
channels: {trades: {topic: "trades:{symbol}"}, bbo: {topic: "bbo:{symbol}"}}
""") == [
            {"method": "subscribe", "subscription": {"type": channel, "coin": symbol}}
            for symbol in "AB"
            for channel in ("trades", "bbo")
        ]

    def test_symbols_in_a_text(self):
        assert stated("""
subscribe: {message: '{"id":"{id}","type":"subscribe","topic":"{channel}:{symbols:,}","response":true}', batch: 100}
channels: {/market/match: {topic: "/market/match:{symbol}"}}
""") == [{"id": "1", "type": "subscribe", "topic": "/market/match:A,B", "response": True}]

    def test_one_array_that_holds_everything(self):
        upbit = """
subscribe:
  message: '[{"ticket":"{uuid}"},{arguments:,},{"format":"DEFAULT"}]'
  argument: '{"type":"{channel}","codes":{symbols}}'
  replaces: true
  batch: 4
channels:
  trade: {topic: "trade:{symbol}"}
  orderbook: {topic: "orderbook:{symbol}", argument: '{"type":"{channel}","codes":{symbols},"level":0}'}
"""
        assert stated(upbit) == [
            [
                {"ticket": "0"},
                {"type": "trade", "codes": ["A", "B"]},
                {"type": "orderbook", "codes": ["A", "B"], "level": 0},
                {"format": "DEFAULT"},
            ]
        ]
        # a second message would replace the first: a second connection instead
        assert [len(c.requests) for c in connections(upbit, ("A", "B", "C"))] == [1, 1]

    def test_time_is_filled_in_when_sent(self):
        (connection,) = connections("""
subscribe: {message: '{"id":{id},"params":{"channels":{topics}},"nonce":{time_ms}}'}
channels: {trade: {topic: "trade.{symbol}"}}
""")
        assert connection.requests[0].text.endswith('"nonce":{time_ms}}')

    def test_unsubscribing_before_it_is_asked_once_more(self):
        (connection,) = connections("""
subscribe:
  message: '{"time":{time_s},"channel":"{channel}","event":"subscribe","payload":{symbols},"id":{id}}'
  unsubscribe: '{"time":{time_s},"channel":"{channel}","event":"unsubscribe","payload":{symbols},"id":{id}}'
channels: {spot.obu: {topic: "spot.obu:{symbol}"}}
""")
        (subscription,) = connection.requests
        expected = '{"time":{time_s},"channel":"spot.obu","event":"unsubscribe","payload":["A","B"],"id":{id}}'
        assert subscription.undo == expected

    def test_by_address(self):
        (connection,) = connections("""
subscribe: {url: "?streams={topics:/}"}
channels: {t: {topic: "{symbol}@trade"}}
""")
        assert connection.url == "wss://h/ws?streams=A@trade/B@trade"
        assert connection.public_url == "wss://h/***?streams=A@trade/B@trade"
        assert connection.requests == ()
        assert [one.topic for one in connection.topics] == ["A@trade", "B@trade"]

    def test_addresses_are_as_long_as_they_may_be(self):
        plans = connections(
            """
subscribe: {url: "?streams={topics:/}", max_bytes: 200}
channels: {t: {topic: "{symbol}@trade"}}
""",
            tuple(f"SYMBOL{n}" for n in range(100)),
        )
        assert all(len(plan.url) <= 200 for plan in plans)
        assert sorted(topic.topic for plan in plans for topic in plan.topics) == sorted(
            f"SYMBOL{n}@trade" for n in range(100)
        )

    def test_messages_are_as_long_as_they_may_be(self):
        (connection,) = connections(
            """
subscribe: {message: '{"args":{topics}}', max_bytes: 120}
channels: {t: {topic: "{symbol}.trade"}}
""",
            tuple(f"SYMBOL{n}" for n in range(100)),
        )
        texts = [subscription.text for subscription in connection.requests]
        assert all(len(text) <= 120 for text in texts)
        assert [t for text in texts for t in json.loads(text)["args"]] == [f"SYMBOL{n}.trade" for n in range(100)]

    def test_a_symbol_stays_inside_its_quotes(self):
        symbol = 'A"],"x":["{topics}{id}\\'
        (message,) = stated(
            """
subscribe: {message: '{"s":"{symbol}","t":"{topic}"}'}
channels: {t: {topic: "t.{symbol}"}}
""",
            (symbol,),
        )
        assert message == {"s": symbol, "t": f"t.{symbol}"}

    def test_answers_call_topics_what_the_channel_says(self):
        (connection,) = connections("""
subscribe: {message: '{"args":{topics}}'}
ack: {key: ["arg"]}
channels: {t: {topic: "t.{symbol}", ack_key: "T:{symbol}"}}
""")
        assert [one.ack_key for one in connection.requests[0].topics] == ["T:A", "T:B"]


class TestNumbers:
    def test_each_request_has_its_own_which_is_the_id_too(self):
        (connection,) = connections(
            """
subscribe: {message: '{"id":{id},"args":{topics}}', batch: 2}
channels: {t: {topic: "t.{symbol}"}, u: {topic: "u", subscribe: {message: '{"all":{id}}'}}}
""",
            ("A", "B", "C"),
        )
        assert [(one.number, one.text) for one in connection.requests] == [
            (1, '{"all":1}'),
            (2, '{"id":2,"args":["t.A","t.B"]}'),
            (3, '{"id":3,"args":["t.C"]}'),
        ]

    def test_topics_keep_channel_and_symbol_where_their_names_could_be_anothers(self):
        (connection,) = connections(
            """
subscribe: {message: '{"args":{topics}}'}
channels: {trade: {topic: "t.{symbol}"}, book: {topic: "t.b.{symbol}"}}
""",
            ("b.X", "Y"),
            ("trade", "book"),
        )
        assert [(one.topic, one.channel, one.symbol) for one in connection.topics] == [
            ("t.b.X", "trade", "b.X"),
            ("t.b.b.X", "book", "b.X"),
            ("t.Y", "trade", "Y"),
            ("t.b.Y", "book", "Y"),
        ]

    def test_a_topic_that_two_channels_share_is_refused_and_not_lost(self):
        text = """
subscribe: {message: '{"args":{topics}}'}
channels: {trade: {topic: "t.{symbol}"}, book: {topic: "t.b.{symbol}"}}
"""
        with pytest.raises(ConfigError, match=r"'t.b.X' is a topic of book and of trade"):
            connections(text, ("X", "b.X"))


class TestSockets:
    def test_by_market(self):
        plans = plan(
            [
                Target(
                    feed=parse_feed(
                        b"""
name: x
description: d
sockets:
  usdt: {url: "wss://h/usdt", symbols: ".*_USDT"}
  btc: {url: "wss://h/btc", symbols: ".*_USD"}
symbols: {pattern: '[A-Z_]+', words: w, example: BTC_USDT}
limits: {connects: 10, connects_interval: 1}
subscribe: {message: '{"args":{topics}}'}
channels: {t: {topic: "t.{symbol}"}}
""",
                        "f",
                    ),
                    symbols=("BTC_USDT", "BTC_USD", "ETH_USDT"),
                    channels=("t",),
                )
            ]
        )
        assert [(p.url, [one.topic for one in p.topics]) for p in plans] == [
            ("wss://h/usdt", ["t.BTC_USDT", "t.ETH_USDT"]),
            ("wss://h/btc", ["t.BTC_USD"]),
        ]

    def test_heartbeats_are_on_every_connection(self):
        coinbase = """
subscribe: {message: '{"type":"subscribe","product_ids":{symbols},"channel":"{channel}"}'}
channels:
  level2: {topic: "level2:{symbol}"}
  heartbeats:
    topic: heartbeats
    always: true
    subscribe: {message: '{"type":"subscribe","channel":"{channel}"}'}
"""
        known = feed(coinbase)
        limits = known.limits.model_copy(update={"streams_per_connection": 3})
        target = Target(feed=known.model_copy(update={"limits": limits}), symbols=tuple("ABCDE"), channels=("level2",))
        assert [len(p.topics) for p in plan([target])] == [3, 3, 2]
        assert all(p.topics[0].topic == "heartbeats" for p in plan([target]))


class TestComplaints:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("subscribe: {message: '{\"a\":{topics}'}", "f.yaml:7: subscribe.message: found text that is no JSON"),
            (
                "subscribe: {message: '{\"a\":{topcs}}'}",
                "f.yaml:7: subscribe.message: found {topcs}, expected one of",
            ),
            (
                "subscribe: {message: '[{topics},{nonce}]'}",
                "f.yaml:7: subscribe.message: found {nonce}, expected one of",
            ),
            (
                "subscribe: {message: '{arguments}'}",
                "f.yaml:7: subscribe.message: found {arguments}, expected argument",
            ),
            ("subscribe: {batch: 5}", "f.yaml:7: subscribe: found both or none of message and url"),
            ("subscribe: {url: '?s={topic}'}", "f.yaml:7: subscribe.url: found other placeholders or none"),
            ("subscribe: {message: '\"{topic}\"', batch: 5}", "f.yaml:7: subscribe.batch: found more than 1"),
            ("keep_alive: {every: 5, text: '{x}'}", "f.yaml:7: keep_alive.text: found {x}, expected one of"),
            ("on_connect: {send: ['{topics}']}", "f.yaml:7: on_connect.send: found {topics}, expected one of"),
            ("channels: {t: {topic: t}}", "f.yaml:7: channels.t: found no subscribe"),
            (
                "subscribe: {message: '\"{channel}\"'}\nchannels: {t: {topic: 't{symbol}'}}",
                "f.yaml:7: subscribe: found no symbol in what is sent",
            ),
            (
                "subscribe: {message: '{symbols}'}\nchannels: {t: {topic: t}}",
                "f.yaml:8: channels.t.topic: found no {symbol}, expected a subscribe of its own",
            ),
            (
                "subscribe: {message: '{topics}'}\nchannels: {t: {topic: 't{symbol}'}, u: {topic: 't{symbol}'}}",
                "f.yaml:8: channels.u.topic: found 't{symbol}', which is t's already",
            ),
        ],
    )
    def test_name_line_and_key(self, text, expected):
        with pytest.raises(ConfigError) as caught:
            feed(text)
        assert str(caught.value).startswith(expected)

    @pytest.mark.parametrize(
        ("socket", "expected"),
        [
            ('{url: "wss://h/?t={token}"}', "sockets.m.url: found one of {token} and the key token"),
            ('{url: "wss://h/?t={tok}"}', "sockets.m.url: found {tok}"),
            (
                '{url: "wss://h/?t={token}", token: {url: "http://h/", token: a}}',
                "sockets.m.token.url: found 'http://h/'",
            ),
        ],
    )
    def test_of_tokens(self, socket, expected):
        with pytest.raises(ConfigError, match=re.escape(expected)):
            parse_feed(f"name: x\ndescription: d\nsockets: {{m: {socket}}}\n".encode(), "f.yaml")
