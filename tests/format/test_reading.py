"""The reading API: what a capture gives back, in which order, and what it says of files that it cannot read."""

from __future__ import annotations

import importlib
import itertools
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wsrec
from tests.capture_files import STAMPS, START, Capture, message_columns
from wsrec.format.merging import merged
from wsrec.format.reading import DERIVED
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.stages import STEPS

SECOND = 1_000_000_000


def library(name: str) -> Any:
    """A library that people read captures with; where it must be there, it is."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


@pytest.fixture
def two_feeds(capture: Capture) -> Capture:
    """A session of two feeds, two files each, and another session."""
    for number in range(2):
        columns = message_columns(300, seed=number, start=START + number * 4 * SECOND, first_seq=number * 300)
        columns["handoff_monotonic"] = columns["handoff_time"] - START
        capture.write(columns, feed="binance", row_group_size=50)
    for number in range(2):
        columns = message_columns(200, seed=9 + number, start=START + number * 4 * SECOND, first_seq=number * 200)
        columns |= {"symbol": ["ETHUSDT"] * 200, "handoff_monotonic": columns["handoff_time"] - START}
        capture.write(columns, feed="okx", events=[{"time": START, "monotonic": 1, "kind": "gap", "conn": 0}])
    capture.write(message_columns(10, start=START + 60 * SECOND), session="20261122T130100Z-b2")
    return capture


def opened(capture: Capture) -> wsrec.Capture:
    return wsrec.open_capture(capture.out)


class TestContents:
    def test_files_sessions_and_schema(self, two_feeds):
        found = opened(two_feeds)
        assert [file.rows for file in found.files[-3:]] in ([200, 300, 10], [300, 200, 10])
        first, second = found.sessions
        assert first[:4] == ("20261122T130000Z-a1", ("binance", "okx"), 4, 1000)
        assert (second.session, second.rows) == ("20261122T130100Z-b2", 10)
        assert first.first_time == min(file.first_time for file in found.files)
        assert found.schema.names == ["feed", "session", *MESSAGE_SCHEMA.names]
        assert all(field.metadata[b"meaning"] for field in [*found.schema, *found.event_schema, *DERIVED])
        assert found.damaged == []

    def test_all_of_it_comes_back(self, two_feeds):
        table = opened(two_feeds).messages().read_all()
        assert table.schema == opened(two_feeds).schema
        paths = sorted(two_feeds.out.rglob("messages/**/*.parquet"))
        stored = pa.concat_tables(pq.read_table(path, partitioning=None) for path in paths)
        key = [("handoff_time", "ascending"), ("seq", "ascending")]
        for name in MESSAGE_SCHEMA.names:
            plain = MESSAGE_SCHEMA.field(name).type
            plain = pa.string() if pa.types.is_dictionary(plain) else plain
            assert table.sort_by(key)[name].cast(plain).to_pylist() == stored.sort_by(key)[name].cast(plain).to_pylist()

    def test_order_is_that_of_the_hand_off_all_feeds_of_a_session_together(self, two_feeds):
        table = opened(two_feeds).messages(["session", "feed", "handoff_monotonic", "seq"]).read_all()
        assert table["session"].to_pylist() == ["20261122T130000Z-a1"] * 1000 + ["20261122T130100Z-b2"] * 10
        handed_off = table["handoff_monotonic"].to_numpy()[:1000]
        assert (np.diff(handed_off) >= 0).all()
        feeds = table["feed"].to_pylist()[:1000]
        assert sum(one != other for one, other in itertools.pairwise(feeds)) > 100
        for feed, count in (("binance", 600), ("okx", 400)):
            mine = [seq for seq, of in zip(table["seq"].to_pylist(), feeds, strict=False) if of == feed]
            assert mine == list(range(count))

    def test_the_six_times_are_exact_and_the_steps_between_them_too(self, capture):
        columns = message_columns(100)
        capture.write(columns)
        steps = [step.key for step in STEPS]
        table = opened(capture).messages([*STAMPS, *steps, "total"]).read_all()
        for name in STAMPS:
            assert table[name].cast(pa.int64()).to_pylist() == columns[name].tolist()
        for step in STEPS:
            between = columns[step.end.column] - columns[step.start.column]
            assert table[step.key].to_pylist() == between.tolist()
        assert table["total"].to_pylist() == (columns["handoff_time"] - columns["nic_time"]).tolist()

    def test_a_step_from_a_stage_that_is_null_is_null(self, capture):
        columns = message_columns(4)
        columns["nic_time"] = pa.array([None, *columns["nic_time"][1:].tolist()], pa.int64())
        capture.write(columns)
        table = opened(capture).messages(["nic_to_event", "event_to_recv_start"]).read_all()
        assert table["nic_to_event"].null_count == 1
        assert table["event_to_recv_start"].null_count == 0

    def test_events(self, two_feeds):
        found = opened(two_feeds).events().read_all()
        assert found.schema.names == ["feed", "session", *EVENT_SCHEMA.names]
        assert found["feed"].to_pylist() == ["okx", "okx"]
        assert opened(two_feeds).events(["kind"], kind="ack").read_all().num_rows == 0

    def test_one_file_or_a_pattern(self, two_feeds):
        path = sorted(two_feeds.out.rglob("messages/**/*.parquet"))[0]
        assert wsrec.open_capture(path).messages().read_all().num_rows == 300
        pattern = str(two_feeds.out / "messages" / "feed=okx" / "**" / "*.parquet")
        assert wsrec.open_capture([path, pattern]).messages().read_all().num_rows == 700

    @pytest.mark.parametrize("wanted", [{"channel": "nosuch"}, {"feed": "nosuch"}, {"until": "2020-01-01T00:00Z"}])
    def test_where_nothing_matches_there_is_an_empty_batch(self, two_feeds, wanted):
        """Libraries take the schema from the first batch."""
        found = opened(two_feeds)
        for columns in (None, ["seq", "symbol", "total"]):
            (batch,) = found.messages(columns, **wanted)
            assert (batch.num_rows, batch.schema) == (0, found.messages(columns, **wanted).schema)
        assert found.messages(**wanted).read_all().equals(found.schema.empty_table())
        assert found.messages(["seq"], **wanted).read_pandas().shape == (0, 1)
        reader = found.messages(["seq", "symbol"], **wanted)
        counts = library("duckdb").from_arrow(reader).aggregate("count(*), count(symbol)")
        assert counts.fetchall() == [(0, 0)]
        frame = library("polars").from_arrow(found.messages(["seq", "symbol"], **wanted))
        assert (frame.shape, frame.columns) == ((0, 2), ["seq", "symbol"])

    def test_no_paths_are_a_mistake(self):
        with pytest.raises(ValueError, match=r"open_capture\(\[\]\): give at least one folder, file or pattern"):
            wsrec.open_capture([])

    @pytest.mark.parametrize("path", [None, 5, b"out", [Path("out"), 5]])
    def test_what_is_no_path_is_named(self, path):
        with pytest.raises(TypeError, match="takes texts and paths, found"):
            wsrec.open_capture(path)

    def test_no_rows(self, capture):
        capture.write(message_columns(0))
        assert opened(capture).messages().read_all().num_rows == 0
        assert opened(capture).sessions[0].first_time is None


class TestWanted:
    @settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        since=st.none() | st.integers(0, 9 * SECOND),
        until=st.none() | st.integers(0, 9 * SECOND),
        channel=st.none() | st.sampled_from(["trade", "depth", "nothing"]),
        symbol=st.none() | st.sampled_from([["BTCUSDT"], ["BTCUSDT", "ETHUSDT"], []]),
        feed=st.none() | st.sampled_from(["binance", "okx"]),
    )
    def test_a_filter_gives_the_rows_that_it_names(self, two_feeds, since, until, channel, symbol, feed):
        found = opened(two_feeds)
        rows = found.messages(["feed", "recv_time", "channel", "symbol", "seq"]).read_all().to_pylist()
        since, until = (None if each is None else START + each for each in (since, until))
        expected = [
            row
            for row in rows
            if (since is None or row["recv_time"].value >= since)
            and (until is None or row["recv_time"].value < until)
            and channel in (None, row["channel"])
            and (symbol is None or row["symbol"] in symbol)
            and feed in (None, row["feed"])
        ]
        wanted = {"since": since, "until": until, "channel": channel, "symbol": symbol, "feed": feed}
        got = found.messages(["feed", "recv_time", "channel", "symbol", "seq"], **wanted).read_all().to_pylist()
        assert got == expected

    def test_ns_datetimes_and_texts_name_the_same_moment(self, capture):
        columns = message_columns(100)
        capture.write(columns)
        found, at = opened(capture), int(columns["recv_time"][40]) // 1000 * 1000
        moment = datetime.fromtimestamp(at / 1e9, UTC).replace(microsecond=at // 1000 % 1_000_000)
        counts = [found.messages(since=each).read_all().num_rows for each in (at, moment, moment.isoformat())]
        assert counts[0] == int((columns["recv_time"] >= at).sum())
        assert len(set(counts)) == 1
        assert found.messages(until="2026-11-22T13:00Z").read_all().num_rows == 0

    @pytest.mark.parametrize("moment", ["yesterday", "2026-11-22T13:00", datetime(2026, 11, 22)])
    def test_no_moment(self, capture, moment):
        capture.write(message_columns(1))
        with pytest.raises(ValueError, match=r"time|offset"):
            opened(capture).messages(since=moment)

    @pytest.mark.parametrize("columns", [["nothing"], "seq", [], ["seq", "conn", "seq"]])
    @pytest.mark.parametrize("method", ["messages", "events"])
    def test_no_column(self, capture, columns, method):
        capture.write(message_columns(1))
        with pytest.raises(ValueError, match="column"):
            getattr(opened(capture), method)(columns)

    @pytest.mark.parametrize(
        ("method", "argument", "allowed"),
        [
            ("events", {"kind": "bogus"}, "kind takes session_start, session_end, .*; not 'bogus'"),
            ("events", {"kind": ["gap", "Gap"]}, "kind takes .*; not 'Gap'"),
            ("messages", {"direction": "received"}, "direction takes recv, sent, rest; not 'received'"),
            ("dataset", {"kind": "bogus"}, "kind takes 'messages' or 'events', not 'bogus'"),
        ],
    )
    def test_a_word_that_no_row_can_have_is_refused(self, capture, method, argument, allowed):
        capture.write(message_columns(1))
        with pytest.raises(ValueError, match=allowed):
            getattr(opened(capture), method)(**argument)

    @pytest.mark.parametrize(
        "argument",
        [
            *({"since": 1.5}, {"until": True}, {"columns": [1]}, {"feed": 3}),
            *({"channel": 3}, {"channel": [None]}, {"symbol": b"A"}, {"session": [1]}),
        ],
        ids=str,
    )
    def test_an_argument_of_another_type_is_named(self, capture, argument):
        capture.write(message_columns(1))
        (name,) = argument
        with pytest.raises(TypeError, match=f"^{name} takes .*, not "):
            opened(capture).messages(**argument)

    def test_numpys_integers_are_moments(self, capture):
        columns = message_columns(100)
        capture.write(columns)
        assert opened(capture).messages(since=columns["recv_time"][40]).read_all().num_rows == 60

    def test_row_groups_that_hold_nothing_wanted_are_not_read(self, capture):
        columns = message_columns(1000)
        path = capture.write(columns, row_group_size=100)
        spoil_first_group(path)
        found = opened(capture)
        with pytest.raises(wsrec.CaptureError, match="damaged after"):
            found.messages().read_all()
        later = int(columns["recv_time"][200])
        assert found.messages(since=later).read_all().num_rows == 800

    def test_memory_does_not_grow_with_the_file(self, capture):
        columns = message_columns(60_000)
        columns["text"] = ["x" * 2_000] * 60_000
        capture.write(columns, row_group_size=5_000)
        reader, most = opened(capture).messages(), 0
        before = pa.total_allocated_bytes()
        for batch in reader:
            most = max(most, pa.total_allocated_bytes() - before)
            assert batch.nbytes < 64 << 20
        assert most < 60_000_000, "a half of what the payloads take"


def spoil_first_group(path: Path) -> None:
    """Write over the pages of the first row group: its statistics are in the footer, and sound."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    start = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
    data = bytearray(path.read_bytes())
    length = sum(column.total_compressed_size for column in columns)
    data[start : start + length] = bytes(length)
    path.write_bytes(data)


class TestDamaged:
    def cut(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    def test_the_first_one_is_raised(self, two_feeds):
        path = sorted(two_feeds.out.rglob("messages/**/*.parquet"))[0]
        self.cut(path)
        found = opened(two_feeds)
        words = r"not readable as Parquet.*set the file aside"
        for _ in range(2):
            with pytest.raises(wsrec.CaptureError, match=words):
                found.messages()
        # the events are sound
        assert found.events().read_all().num_rows

    def test_all_are_named_where_the_others_are_requested(self, two_feeds):
        paths = sorted(two_feeds.out.rglob("messages/**/*.parquet"))
        self.cut(paths[0])
        events = next(two_feeds.out.rglob("events/**/*.parquet"))
        self.cut(events)
        found = wsrec.open_capture(two_feeds.out, damaged="warn")
        assert found.damaged == []
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert found.messages().read_all().num_rows == 710
            assert len(found.event_files) == len(list(two_feeds.out.rglob("events/**/*.parquet"))) - 1
        assert [(each.path, each.kind, each.unreadable) for each in found.damaged] == [
            (paths[0], "messages", False),
            (events, "events", False),
        ]
        assert [str(each.message) for each in warned] == [each.message for each in found.damaged]
        assert {each.filename for each in warned} == {__file__}

    def test_one_that_shows_when_it_is_read_gives_what_is_sound_before(self, capture):
        columns = message_columns(1000)
        path = capture.write(columns, row_group_size=100)
        spoil_first_group(path)
        capture.write(message_columns(10, first_seq=1000))
        found = wsrec.open_capture(capture.out, damaged="warn")
        with pytest.warns(wsrec.DamagedFileWarning, match="damaged after 0 of 1,000 rows"):
            assert found.messages().read_all().num_rows == 10
        assert [each.path for each in found.damaged] == [path]

    def test_a_function_is_reported(self, two_feeds):
        path = sorted(two_feeds.out.rglob("messages/**/*.parquet"))[0]
        self.cut(path)
        reported: list[wsrec.DamagedFile] = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = wsrec.open_capture(two_feeds.out, damaged=reported.append)
            assert path not in {file.path for file in found.files}
        assert [each.path for each in reported] == [path]
        assert reported == found.damaged

    @pytest.mark.parametrize("damaged", ["ignore", "Raise", None])
    def test_what_to_do_is_one_of_three(self, capture, damaged):
        capture.write(message_columns(1))
        with pytest.raises(ValueError, match="damaged takes 'raise', 'warn' or a function"):
            wsrec.open_capture(capture.out, damaged=damaged)

    def test_a_warning_points_to_who_called(self, capture):
        spoil_first_group(capture.write(message_columns(1000), row_group_size=100))
        self.cut(capture.write(message_columns(10, first_seq=1000)))
        with pytest.warns(wsrec.DamagedFileWarning) as warned:
            wsrec.open_capture(capture.out, damaged="warn").messages().read_all()
        assert [each.filename for each in warned] == [__file__, __file__]

    @pytest.mark.parametrize("damaged", ["raise", "warn"])
    def test_what_is_not_there_is_an_error(self, tmp_path, damaged):
        with pytest.raises(wsrec.CaptureError, match="does not exist"):
            wsrec.open_capture(tmp_path / "typo", damaged=damaged)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_what_may_not_be_read_is_not_called_damaged(self, two_feeds):
        path = sorted(two_feeds.out.rglob("messages/**/*.parquet"))[0]
        path.chmod(0)
        with pytest.raises(wsrec.UnreadableError, match="cannot be read"):
            opened(two_feeds)


class TestOthers:
    """DuckDB, Polars and pandas take readers and datasets as they are."""

    def test_duckdb(self, two_feeds):
        duckdb = library("duckdb")
        reader = opened(two_feeds).messages(["feed", "symbol", "text"])
        messages = opened(two_feeds).dataset()
        counts = duckdb.from_arrow(reader).aggregate("feed, count(*), count(text)").order("feed").fetchall()
        assert counts == [("binance", 610, 610), ("okx", 400, 400)]
        wanted = duckdb.from_arrow(messages).filter("feed = 'okx' and hour = 13 and date = '2026-11-22'")
        assert wanted.aggregate("count(*)").fetchall() == [(400,)]

    def test_polars(self, two_feeds):
        polars = library("polars")
        found = opened(two_feeds)
        frame = polars.from_arrow(found.messages(["seq", "symbol", "recv_time"], symbol="ETHUSDT"))
        assert frame.shape == (400, 3)
        lazy = polars.scan_pyarrow_dataset(found.dataset()).filter(polars.col("symbol") == "ETHUSDT")
        assert lazy.select(polars.len()).collect().item() == 400

    def test_pandas(self, two_feeds):
        library("pandas")
        frame = opened(two_feeds).messages(["recv_time", "text", "total"], feed="okx").read_pandas()
        assert frame.shape == (400, 3)
        assert str(frame["recv_time"].dtype) == "datetime64[ns, UTC]"

    def test_the_dataset_has_the_partitions(self, two_feeds):
        dataset = opened(two_feeds).dataset()
        table = dataset.to_table(columns=["feed", "date", "hour"], filter=pa.compute.field("feed") == "okx")
        assert table.num_rows == 400
        assert set(table["hour"].to_pylist()) == {13}
        assert opened(two_feeds).dataset("events").count_rows() == 2


class TestMerged:
    @settings(deadline=None)
    @given(st.lists(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), max_size=4), min_size=1, max_size=4))
    def test_it_is_a_sorted_whole_that_keeps_each_chain(self, chains):
        grown = [
            np.split(np.sort([*itertools.chain(*chain)]), np.cumsum([len(each) for each in chain])[:-1])
            for chain in chains
        ]

        def batches(number: int) -> Any:
            for keys in grown[number]:
                if len(keys):
                    yield pa.record_batch({"key": pa.array(keys, pa.int64()), "chain": pa.array([number] * len(keys))})

        rows = [row for batch in merged([batches(n) for n in range(len(chains))], "key") for row in batch.to_pylist()]
        assert [row["key"] for row in rows] == sorted(key for chain in chains for each in chain for key in each)
        for number, chain in enumerate(chains):
            mine = [row["key"] for row in rows if row["chain"] == number]
            assert mine == sorted(key for each in chain for key in each)
