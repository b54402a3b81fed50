"""Rows of a part of a capture: they and their states are those of the whole, whatever is asked for and by whom."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.effort import thinned
from tests.verify.recording import Recording
from tests.verify.sessions import Session
from wsrec.cli.main import main
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.capture_file import CaptureFile
from wsrec.format.reading import Capture, open_capture
from wsrec.format.selection import EVERYTHING, Selection
from wsrec.tables.reading import read_tables
from wsrec.tables.session_files import groups
from wsrec.tables.session_tables import SessionTables

_AHEAD = 1_614_865_800_000_000_000
_NUMBERS = 200
TABLES = (Table.TRADES, Table.TICKERS, Table.BOOK_CHANGES, Table.GAPS)
Rows = dict[Table, list[dict[str, Any]]]


def with_tables(feed: Feed) -> Feed:
    """The random sessions' feed, with tables; not each message makes rows of each."""
    number, sevens = {"path": "t"}, [*range(0, _NUMBERS, 7)]
    trades = {"table": "trades", "columns": {"price": number, "size": number, "trade_id": "t", "size_unit": "base"}}
    tickers = {
        "table": "tickers",
        "when": {"path": "n", "equals": [*range(0, _NUMBERS, 3)]},
        "columns": {"last_price": "t"},
    }
    book = {
        "table": "book_changes",
        "snapshot": {"path": "n", "equals": sevens, "otherwise": sorted({*range(_NUMBERS)} - {*sevens})},
        "columns": {"side": {"value": "bid"}, "price": "t", "size": "t", "size_unit": "base"},
    }
    config = feed.model_dump(mode="json", exclude_defaults=True)
    for name, channel in config["channels"].items():
        made = {"nx": [trades, tickers], "pv": [book], "tc": [book, trades], "rp": [tickers], "ch": [trades, book]}
        channel["tables"] = [{"rows": "$", **each} for each in made.get(name, [trades])]
    return Feed.model_validate(config)


def recorded(seed: int, out: Path) -> Capture | None:
    """A random session; None where it has no rows."""
    out.mkdir()
    chance = random.Random(seed)
    session = Session(chance, "s0", _AHEAD)
    session.play()
    Recording(session, chance, out).run()
    return open_capture(out, damaged=lambda _: None) if (out / "messages").exists() else None


def feeds_of(capture: Capture) -> dict[str, Feed]:
    return {file.feed: with_tables(Feed.model_validate(file.metadata.feed_config)) for file in capture.files}


def read(capture: Capture, feeds: dict[str, Feed], tables: tuple[Table, ...], selection: Selection) -> Rows:
    found: Rows = {table: [] for table in tables}
    for table, batch in read_tables(capture, tables, selection, feeds=feeds):
        found[table] += batch.to_pylist()
    return found


def of_file(tables: SessionTables, file: CaptureFile) -> Rows:
    found: Rows = {}
    for table, batch in tables.tables(file):
        found.setdefault(table, []).extend(batch.to_pylist())
    return found


def chosen(rows: Rows, tables: tuple[Table, ...], selection: Selection) -> Rows:
    """Some rows of the whole, as one would choose them by hand."""

    def is_wanted(table: Table, row: dict[str, Any]) -> bool:
        is_gap = table is Table.GAPS
        begin, end = (row["to"], row["from"]) if is_gap else (row["recv_time"], row["recv_time"])
        return (
            (selection.since is None or begin is None or begin.value >= selection.since)
            and (selection.until is None or end is None or end.value < selection.until)
            and (not selection.symbols or row["symbol"] is None or row["symbol"].casefold() in selection.symbols)
            and (not selection.channels or row["channel"] in ((None,) if is_gap else ()) + selection.channels)
        )

    return {table: [row for row in rows[table] if is_wanted(table, row)] for table in tables}


def differing(found: Rows, expected: Rows) -> list[Any]:
    """The rows that are not the same."""
    return [
        [
            {key: (mine.get(key), theirs.get(key)) for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)},
            mine,
        ]
        for table in {**found, **expected}
        for mine, theirs in zip_longest(found.get(table, []), expected.get(table, []), fillvalue={})
        if mine != theirs
    ]


def selections(chance: random.Random, rows: Rows) -> Iterator[tuple[tuple[Table, ...], Selection]]:
    times = [row["recv_time"].value for table in TABLES[:-1] for row in rows[table]] or [0]
    channels = sorted({row["channel"] for table in TABLES[:-1] for row in rows[table]})
    for _ in range(6):
        since, until = sorted(chance.choice(times) + chance.randint(-1, 1) for _ in range(2))
        yield (
            tuple(table for table in TABLES if chance.random() < 0.6) or TABLES,
            Selection(
                since=since if chance.random() < 0.5 else None,
                until=until + 2 if chance.random() < 0.5 else None,
                symbols=frozenset("a") if chance.random() < 0.3 else frozenset(),
                channels=tuple(chance.sample(channels, 1)) if channels and chance.random() < 0.5 else (),
            ),
        )


def check(seed: int, out: Path) -> None:
    """Hold parts of a random session against the whole, and each file alone against all in a row."""
    capture = recorded(seed, out)
    if capture is None or not capture.files:
        return
    feeds = feeds_of(capture)
    whole = read(capture, feeds, TABLES, EVERYTHING)
    for tables, selection in selections(random.Random(seed), whole):
        found, expected = read(capture, feeds, tables, selection), chosen(whole, tables, selection)
        assert differing(found, expected) == [], (seed, tables, selection)
    for group in groups(capture.files, capture.event_files):
        in_a_row = SessionTables(feeds[group.feed], group.files, group.event_files, TABLES)
        for file in group.files:
            alone = SessionTables(feeds[group.feed], group.files, group.event_files, TABLES)
            assert differing(of_file(alone, file), of_file(in_a_row, file)) == [], (seed, file.number)


def exported(source: Path, out: Path, feed: Path, *more: object) -> dict[tuple[str, str], Rows]:
    """The rows of each exported file, by table and name."""
    command = ["export", source, "--out", out, "--feed", feed, "--tables", ",".join(TABLES), *more]
    result = CliRunner().invoke(main, [*map(str, command)])
    assert result.exit_code == 0, result.output
    return {
        (path.parents[3].name, path.name): pq.read_table(path).to_pylist() for path in sorted(out.rglob("*.parquet"))
    }


@pytest.fixture(scope="module")
def capture_and_feed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random session in several files, with losses and connections that replace another, and the feed's file."""
    folder = tmp_path_factory.mktemp("session")
    capture = recorded(20, folder / "capture")
    assert capture is not None
    ((_, feed),) = feeds_of(capture).items()
    (folder / "feed.yaml").write_text(json.dumps(feed.model_dump(mode="json", exclude_defaults=True)))
    return folder / "capture", folder / "feed.yaml"


class TestOneFile:
    def test_in_its_capture_it_makes_the_same_as_all_together(
        self, capture_and_feed: tuple[Path, Path], tmp_path: Path
    ) -> None:
        capture, feed = capture_and_feed
        whole = exported(capture, tmp_path / "whole", feed)
        assert {row["state"] for rows in whole.values() for row in rows if "state" in row} > {"ok", "suspect"}
        files = sorted((capture / "messages").rglob("*.parquet"))
        assert len(files) > 2
        alone: dict[tuple[str, str], Rows] = {}
        for number, file in enumerate(files):
            alone |= exported(file, tmp_path / str(number), feed)
        assert alone == whole

    def test_copied_elsewhere_it_proves_nothing(self, capture_and_feed: tuple[Path, Path], tmp_path: Path) -> None:
        capture, feed = capture_and_feed
        whole = exported(capture, tmp_path / "whole", feed)
        for number, file in enumerate(sorted((capture / "messages").rglob("*.parquet"))):
            copy = tmp_path / "copies" / file.name
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(file, copy)
            for key, rows in exported(copy, tmp_path / str(number), feed).items():
                assert [row["seq"] for row in rows] == [row["seq"] for row in whole[key]]
                assert {row["state"] for row in rows} <= {"unproved", "suspect"}


@pytest.mark.parametrize("seed", thinned(range(0, 24, 3)))
def test_a_part_has_the_rows_and_states_of_the_whole(seed: int, tmp_path: Path) -> None:
    for each in range(seed, seed + 3):
        check(each, tmp_path / str(each))
