"""Books of streams without snapshots: how the catalogue's feeds fetch them over HTTP, and when a recording does."""

from __future__ import annotations

import asyncio
import json
import time
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import events_of, messages_of
from tests.tables.shapes import rows
from tests.venues.mock import feed_keys, local_copy
from wsrec.decode.places import integer_in
from wsrec.feed.channel import Action
from wsrec.feed.load import catalogue, find_feed
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.feed.table_columns import Table
from wsrec.options.record import SnapshotsMode
from wsrec.writer.job import FeedJob

LEVELS = {"bids": [["9", "1"]], "asks": [["12", "2"]]}
ANSWERS: dict[str, tuple[set[str], Any]] = {
    "binance": ({"depth@100ms", "depth"}, {"lastUpdateId": 160, **LEVELS}),
    "binance-us": ({"depth@100ms", "depth"}, {"lastUpdateId": 160, **LEVELS}),
    "binance-usdm": (
        {"depth@100ms", "depth", "depth@500ms", "depth@0ms"},
        {"lastUpdateId": 160, "E": 1723115408000, "T": 1723115407990, **LEVELS},
    ),
    "binance-coinm": (
        {"depth@100ms", "depth", "depth@500ms", "depth@0ms"},
        {"lastUpdateId": 160, "symbol": "BTCUSD_PERP", "E": 1723115408000, "T": 1723115407990, **LEVELS},
    ),
    "bitstamp": ({"diff_order_book"}, {"timestamp": "0", "microtimestamp": "160", **LEVELS}),
    "kucoin": ({"level2"}, {"code": "200000", "data": {"time": 1, "sequence": "160", **LEVELS}}),
    "kucoin-futures": (
        {"level2"},
        {"code": "200000", "data": {"sequence": 160, "symbol": "S", "ts": 1, "bids": [[9, 1]], "asks": [[12, 2]]}},
    ),
    "mexc": ({"aggre.depth@100ms", "aggre.depth@10ms"}, {"lastUpdateId": 160, **LEVELS}),
    "mexc-futures": (
        {"depth"},
        {"success": True, "data": {"bids": [[9, 1, 1]], "asks": [[12, 2, 1]], "version": 160, "timestamp": 1}},
    ),
    "gateio": ({"spot.order_book_update"}, {"id": 160, "current": 1, "update": 1, **LEVELS}),
    "gateio-futures": (
        {"futures.order_book_update"},
        {"id": 160, "current": 1.5, "update": 1.5, "bids": [{"p": "9", "s": 1}], "asks": [{"p": "12", "s": 2}]},
    ),
}
"""By feed the channels that declare a snapshot, and the exchange's answer, in the shape of its documentation."""


feed_of = cache(find_feed)


def test_these_are_all_that_declare_one_and_none_is_requested_by_default() -> None:
    tables = {name: feed_of(name).channel_table for name in catalogue()}
    declaring = {name: {key for key, channel in of.items() if channel.snapshot} for name, of in tables.items()}
    assert {name: keys for name, keys in declaring.items() if keys} == {n: keys for n, (keys, _) in ANSWERS.items()}
    assert not [(name, key) for name, of in tables.items() for key, channel in of.items() if channel.fetches_snapshots]


@pytest.mark.parametrize("feed", ANSWERS)
def test_an_answer_has_the_number_that_the_changes_are_compared_with(feed: str) -> None:
    keys, answer = ANSWERS[feed]
    for key in keys:
        snapshot = feed_of(feed).channel_table[key].snapshot
        assert snapshot is not None
        assert integer_in(json.dumps(answer).encode(), snapshot.exchange_seq) == 160
        clear, *levels = rows(feed, key, Table.BOOK_CHANGES, answer, is_rest=True)
        assert clear["action"] == "clear"
        assert [(row["side"], float(row["price"]), float(row["size"])) for row in levels] == [
            ("bid", 9, 1),
            ("ask", 12, 2),
        ]
        assert {int(row["update_id"]) for row in (clear, *levels)} == {160}


class TestMode:
    def of(self, feed: Feed, mode: SnapshotsMode) -> dict[str, tuple[bool, Action]]:
        table = Feed.model_validate(FeedJob.of(feed, snapshots=mode).config).channel_table
        return {key: (c.snapshot.at_start, c.on_gap) for key, c in table.items() if c.snapshot is not None}

    @pytest.mark.parametrize("feed", ANSWERS)
    def test_start_fetches_all_that_are_declared(self, feed: str) -> None:
        found = self.of(feed_of(feed), SnapshotsMode.START)
        assert found == dict.fromkeys(ANSWERS[feed][0], (True, Action.SNAPSHOT))

    def test_auto_follows_the_feed_and_never_does_not(self) -> None:
        keys = feed_keys("binance")
        own = {"at_start": True, **keys["channels"]["depth@100ms"]["snapshot"]}
        keys["channels"]["depth@100ms"] |= {"snapshot": own, "on_gap": "snapshot"}
        feed = Feed.model_validate(keys)
        off = (False, Action.NONE)
        assert self.of(feed, SnapshotsMode.AUTO) == {"depth@100ms": (True, Action.SNAPSHOT), "depth": off}
        assert self.of(feed, SnapshotsMode.NEVER) == {"depth@100ms": off, "depth": off}

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"on_gap": "renew"}, Action.RENEW),
            ({"sequence": SequenceRule.NONE, "evidence": ()}, Action.NONE),
        ],
    )
    def test_start_leaves_another_action_and_needs_a_rule_for_gaps(self, given: Any, expected: Action) -> None:
        keys = feed_keys("binance")
        keys["channels"]["depth"] |= given
        assert self.of(Feed.model_validate(keys), SnapshotsMode.START)["depth"] == (True, expected)


def change(first: int, last: int, **sides: Any) -> str:
    data = {"e": "depthUpdate", "E": 1672515782136, "s": "BTCUSDT", "U": first, "u": last, "b": [], "a": [], **sides}
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": data})


@pytest.mark.parametrize("mode", ["start", None])
def test_a_recording_fetches_books_if_it_is_told_to(wsrec, exchange, https, ca_file, tmp_path, mode):
    answers = [
        {"lastUpdateId": number, "bids": [["9", "1"], ["8", "1"]], "asks": [["12", "2"]]} for number in (158, 165)
    ]
    server = https(lambda _: answers.pop(0))
    out = tmp_path / "out"

    async def fetched(count: int) -> None:
        deadline = time.monotonic() + 60
        while mode and len(server.requested) < count and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        # time for its answer
        await asyncio.sleep(1 if mode else 0.1)

    async def handler(connection):
        await connection.send(json.dumps({"result": None, "id": json.loads(await connection.recv())["id"]}))
        await connection.send(change(157, 158, b=[["9", "7"]]))
        await connection.send(change(159, 160, b=[["10", "5"]]))
        await fetched(1)
        await connection.send(change(161, 161, b=[["8", "0"]]))
        # four are missing
        await connection.send(change(166, 166, a=[["11", "1"]]))
        await fetched(2)
        await connection.send(change(167, 170, b=[["10", "6"]]))
        await asyncio.sleep(0.2)
        await connection.close(1000)

    keys = feed_keys("binance")["channels"]
    keys["depth@100ms"]["snapshot"] |= {"url": server.url + "/depth?symbol={symbol}", "interval": 0.05}
    feed = local_copy("binance", exchange(handler).url, tmp_path, channels=keys)
    options = ["--symbols", "BTCUSDT", "--channels", "book", "--until-close", "--ca-file", ca_file, "--out", out]
    result = wsrec.run("record", feed, *options, *(["--snapshots", mode] if mode else []))
    assert result.returncode == 4, result.stderr
    assert [path for _, path, _ in server.requested] == ["/depth?symbol=BTCUSDT"] * (2 if mode else 0)
    assert len(events_of(out, "snapshot_joined")) == (2 if mode else 0)
    assert not events_of(out, "snapshot_missed")

    result = wsrec.run("book", out, "--symbol", "BTCUSDT", "--json", "--at", last_time(out))
    book = json.loads(result.stdout.splitlines()[0])
    if not mode:
        assert result.returncode == 4
        assert book["doubt"] == "its stream has no snapshots, and none that was fetched joins it (docs/how-to/books.md)"
        return
    assert result.returncode == 0, result.stdout
    assert (book["state"], book["doubt"]) == ("ok", None)
    assert list(zip(book["bid_prices"], book["bid_sizes"], strict=True)) == [(10, 6), (9, 1), (8, 1)]
    assert list(zip(book["ask_prices"], book["ask_sizes"], strict=True)) == [(11, 1), (12, 2)]
    result = wsrec.run("export", out, "--tables", "book_changes", "--out", tmp_path / "exported")
    assert result.returncode in (0, 4), result.stderr
    files = (tmp_path / "exported").rglob("*.parquet")
    table = pa.concat_tables(pq.ParquetFile(path).read() for path in files)
    states = {(row["update_id"], row["is_snapshot"]): row["state"] for row in table.to_pylist()}
    sound = {key for key, state in states.items() if state == "ok"}
    assert sound == {(158, True), (160, False), (161, False), (165, True), (166, False), (170, False)}
    checked = wsrec.run("verify", out)
    assert checked.returncode in (0, 4), checked.stdout + checked.stderr
    assert "contradiction" not in checked.stdout


def last_time(out: Any) -> str:
    (moment,) = messages_of(out)["recv_time"].cast("int64").to_pylist()[-1:]
    seconds, nanos = divmod(moment, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09d}Z"
