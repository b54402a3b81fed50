"""Contract sizes over time, from the listings that a recording stores to the rows of its tables."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import events_of, messages_of
from tests.venues.listings import LISTINGS
from tests.venues.mock import feed_keys, local_copy
from wsrec import open_capture
from wsrec.decode.row_columns import InexactError
from wsrec.feed.load import find_feed, load_feed
from wsrec.feed.table_columns import Table
from wsrec.options.record import InstrumentsMode
from wsrec.plan.connections import ConnectionPlan
from wsrec.tables.listings import Listings
from wsrec.tables.reading import read_tables
from wsrec.writer.instrument_requests import InstrumentRequests
from wsrec.writer.job import FeedJob, WriterJob

DAY = 86400
FEED = find_feed("htx-coin-swap")


def answer(**sizes: object) -> bytes:
    listed = [{"contract_code": symbol.replace("_", "-"), "contract_size": size} for symbol, size in sizes.items()]
    return json.dumps({"status": "ok", "data": listed}).encode()


def multipliers(
    listings: Listings,
    rows: list[tuple[str | None, int]],
    kind: pa.DataType | None = None,
    unit: str | None = "contracts",
) -> list[object]:
    symbols = pa.array([symbol for symbol, _ in rows], pa.string()).dictionary_encode()
    units = pa.array([unit] * len(rows), pa.string()).dictionary_encode()
    columns = listings.columns(symbols, units, np.array([at for _, at in rows], np.int64), kind or pa.float64())
    assert [word for word in columns["multiplier_unit"].to_pylist() if word not in ("quote", None)] == []
    return list(columns["multiplier"].to_pylist())


class TestListings:
    listings = Listings(FEED, [(100, answer(BTC_USD=100, ETH_USD=10)), (200, answer(BTC_USD=50)), (300, b"no JSON")])

    def test_each_holds_until_the_next(self):
        rows = [("BTC-USD", 100), ("BTC-USD", 199), ("BTC-USD", 200), ("BTC-USD", 999), ("ETH-USD", 999)]
        assert multipliers(self.listings, rows) == [100.0, 100.0, 50.0, 50.0, 10.0]
        assert self.listings.at(150)["BTC-USD"].multiplier == 100
        assert self.listings.at(250)["BTC-USD"].multiplier == 50

    def test_what_came_before_the_first_is_read_by_it(self):
        assert multipliers(self.listings, [("BTC-USD", 5), ("ETH-USD", 5)]) == [100.0, 10.0]

    @pytest.mark.parametrize(("unit", "size"), [("contracts", 100.0), ("contracts_both_sides", 100.0), ("base", None)])
    def test_only_sizes_in_contracts_have_one(self, unit, size):
        assert multipliers(self.listings, [("BTC-USD", 150)], unit=unit) == [size]
        assert multipliers(self.listings, [("BTC-USD", 150)], unit=None) == [None]

    def test_zero_is_a_number(self):
        assert multipliers(Listings(FEED, [(0, answer(A=0))]), [("A", 1)]) == [0.0]

    def test_a_symbol_that_no_listing_names_has_none(self):
        rows = [("XRP-USD", 150), (None, 150), ("BTC-USD", 150)]
        assert multipliers(self.listings, rows) == [None, None, 100.0]
        assert not Listings(FEED, [])

    def test_decimals_are_exact_or_refused(self):
        listings = Listings(FEED, [(0, answer(A="0.0000000000000000010000", B="0.0000000000000000001", C="1e20"))])
        kind = pa.decimal128(38, 18)
        assert multipliers(listings, [("A", 1), ("D", 1)], kind) == [Decimal("1e-18"), None]
        for name in "BC":
            with pytest.raises(InexactError, match="does not hold exactly") as refused:
                multipliers(listings, [("A", 1), (name, 1)], kind)
            assert refused.value.index == 1
        assert multipliers(listings, [("B", 1)], kind, unit="base") == [None]


class TestRequests:
    def job(self, feed: str = "okx") -> WriterJob:
        conns = tuple(ConnectionPlan(conn=conn, feed=feed, url="wss://h/", public_url="wss://h/") for conn in (3, 4))
        feeds = (FeedJob.of(find_feed(feed), instruments=InstrumentsMode.ALWAYS),)
        return WriterJob(
            session="s", out="", slots=0, rings=(), control_ring=0, status=0, connections=conns, feeds=feeds
        )

    def test_at_the_start_and_daily(self):
        requests = InstrumentRequests(self.job())
        first = list(requests.due(1000.0))
        assert [request.url for request in first] == list(find_feed("okx").instruments.urls)
        assert {(request.conn, request.channel, request.symbol) for request in first} == {(3, "instruments", None)}
        assert len({request.stream for request in first}) == 4
        assert list(requests.due(1001.0)) == list(requests.due(1000.0 + DAY - 1)) == []
        assert len(list(requests.due(1000.0 + DAY))) == 4
        assert list(requests.due(1001.0 + DAY)) == []

    @pytest.mark.parametrize(
        ("feed", "mode", "wanted"),
        [
            ("mexc-futures", InstrumentsMode.AUTO, True),
            ("mexc-futures", InstrumentsMode.NEVER, False),
            ("binance", InstrumentsMode.ALWAYS, False),
        ],
    )
    def test_of_feeds_with_contracts_unless_switched_off(self, feed, mode, wanted):
        assert bool(FeedJob.of(find_feed(feed), instruments=mode).instruments) is wanted

    def test_auto_leaves_out_a_feed_without_contracts(self, tmp_path):
        keys = feed_keys("mexc-futures")
        for channel in keys["channels"].values():
            channel.pop("tables", None)
        path = tmp_path / "mexc-futures.yaml"
        path.write_text(json.dumps(keys))
        feed = load_feed(path)
        assert FeedJob.of(feed).instruments == ()
        assert FeedJob.of(feed, instruments=InstrumentsMode.ALWAYS).instruments == feed.instruments.urls

    def test_their_addresses_are_not_stored(self):
        assert self.job().public().feeds[0].instruments == ()


@pytest.mark.long
def test_a_recording_that_was_killed_keeps_its_listing(wsrec, exchange, https, ca_file, tmp_path):
    listed = json.dumps(LISTINGS["htx-coin-swap"][0]).encode()
    server = https(lambda _: (200, {}, listed))

    async def handler(connection):
        while True:
            await connection.send(gzip.compress(b'{"ping":1}'))
            await asyncio.sleep(0.05)

    declared = {**feed_keys("htx-coin-swap")["instruments"], "urls": server.url + "/"}
    feed = local_copy("htx-coin-swap", exchange(handler).url, tmp_path, instruments=declared)
    out = tmp_path / "out"
    options = ["--symbols", "BTC-USD", "--channels", "trades", "--ca-file", ca_file, "--out", out, "--batch", "20ms"]
    process = wsrec.start("record", feed, *options, start_new_session=True)
    deadline = time.monotonic() + 60
    while not server.requested and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    time.sleep(3)
    result = wsrec.run("recover", out)
    assert result.returncode in (0, 4), result.stderr
    fetched = [row for row in messages_of(out).to_pylist() if row["direction"] == "rest"]
    assert {(row["channel"], row["symbol"], row["text"].encode()) for row in fetched} == {("instruments", None, listed)}


def test_a_recording_stores_its_listing_and_its_rows_have_the_size(wsrec, exchange, https, ca_file, tmp_path):
    listed = json.dumps(LISTINGS["htx-coin-swap"][0]).encode()
    later = b"<html>later</html>"
    answers = {"/contracts": (200, {}, listed), "/busy": (200, {}, later)}
    server = https(lambda path: answers.get(path, (404, {}, b"gone")))
    trade = {"amount": 8, "ts": 1592904814962, "id": 95306843320000, "price": 177.3, "direction": "sell"}
    message = {"ch": "market.BTC-USD.trade.detail", "ts": 1592904815036, "tick": {"data": [trade]}}

    async def handler(connection):
        request = json.loads(await connection.recv())
        await connection.send(
            gzip.compress(json.dumps({"id": request["id"], "status": "ok", "subbed": request["sub"]}).encode())
        )
        await connection.send(gzip.compress(json.dumps(message).encode()))
        deadline = time.monotonic() + 30
        while len(server.requested) < 3 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        await connection.close(1000)

    declared = {
        **feed_keys("htx-coin-swap")["instruments"],
        "urls": [f"{server.url}/{path}" for path in ("contracts", "more", "busy")],
    }
    feed = local_copy("htx-coin-swap", exchange(handler).url, tmp_path, instruments=declared)
    out = tmp_path / "out"
    options = ["--symbols", "BTC-USD", "--channels", "trades", "--until-close", "--ca-file", ca_file, "--out", out]
    result = wsrec.run("record", feed, *options)
    assert result.returncode == 0, result.stderr
    assert "no instrument listing from" in result.stderr
    fetched = [row for row in messages_of(out).to_pylist() if row["direction"] == "rest"]
    texts = [row["text"].encode() for row in fetched]
    assert texts[0] == listed
    assert set(texts[1:]) == {later}
    assert {(row["channel"], row["symbol"]) for row in fetched} == {("instruments", None)}
    came, busy, *_ = events_of(out, "snapshot")
    assert busy["detail"]["problem"] == "it is not JSON"
    assert "it is not JSON" in result.stderr
    assert (came["channel"], came["symbol"], came["detail"]["bytes"]) == ("instruments", None, len(listed))
    failed = events_of(out, "snapshot_failed")[0]
    assert failed["detail"]["message"].endswith("answered HTTP 404 Not Found")
    capture = open_capture(out)
    ((table, rows),) = read_tables(capture, [Table.TRADES], feeds={"htx-coin-swap": load_feed(feed)})
    (row,) = rows.select(["size", "size_unit", "multiplier", "multiplier_unit"]).to_pylist()
    assert (table, row) == (
        Table.TRADES,
        {"size": 8.0, "size_unit": "contracts_both_sides", "multiplier": 100.0, "multiplier_unit": "quote"},
    )
    checked = wsrec.run("verify", out)
    assert checked.returncode in (0, 4), checked.stdout + checked.stderr
    assert "contradiction" not in checked.stdout
    exported = json.loads(wsrec.run("export", out, "--feed", feed, "--out", tmp_path / "t", "--json").stdout)
    said = {each["reason"]: each["count"] for each in exported["left_out"] if each["channel"] == "instruments"}
    assert said == {"a listing of instruments: it is not JSON": len(texts) - 1}


def test_of_several_writers_one_fetches_the_listing_for_all(wsrec, exchange, https, ca_file, tmp_path):
    listed = answer(BTC_USD=100, ETH_USD=10)
    server = https(lambda _: (200, {}, listed))
    deadline = time.monotonic() + 30

    async def handler(connection):
        request = json.loads(await connection.recv())
        confirmed = {"id": request["id"], "status": "ok", "subbed": request["sub"]}
        await connection.send(gzip.compress(json.dumps(confirmed).encode()))
        trade = {"amount": 8, "ts": 1592904814962, "id": 95306843320000, "price": 177.3, "direction": "sell"}
        message = {"ch": request["sub"], "ts": 1592904815036, "tick": {"data": [trade]}}
        while not server.requested and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        # any other writer would have fetched its own by then
        await asyncio.sleep(1.5)
        await connection.send(gzip.compress(json.dumps(message).encode()))
        await asyncio.sleep(0.2)
        await connection.close(1000)

    keys = feed_keys("htx-coin-swap")
    declared = {**keys["instruments"], "urls": f"{server.url}/contracts"}
    limits = {**keys["limits"], "streams_per_connection": 1}
    feed = local_copy("htx-coin-swap", exchange(handler).url, tmp_path, instruments=declared, limits=limits)
    out, cpus = tmp_path / "out", sorted(os.sched_getaffinity(0))[:2]
    options = [
        "--symbols",
        "BTC-USD,ETH-USD",
        "--channels",
        "trades",
        "--until-close",
        "--ca-file",
        ca_file,
        "--out",
        out,
    ]
    result = wsrec.run("record", feed, *options, "--cpu", ",".join(map(str, cpus)))
    assert result.returncode in (0, 4), result.stderr
    assert len(server.requested) == 1
    (fetched,) = [row for row in messages_of(out).to_pylist() if row["direction"] == "rest"]
    assert fetched["text"].encode() == listed
    # and the rows of both have their sizes
    rows = [row for _, batch in read_tables(open_capture(out), [Table.TRADES]) for row in batch.to_pylist()]
    assert len({row["session"] for row in rows}) == len(cpus) == 2
    sizes = {row["symbol"]: row["multiplier"] for row in rows}
    assert sizes == {"BTC-USD": 100.0, "ETH-USD": 10.0}
