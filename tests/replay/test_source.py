"""Reading captures and text recordings as one stream of messages."""

import ast
import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.stage_columns import STAMPS, stored
from wsrec.format.schema import MESSAGE_SCHEMA
from wsrec.format.version import FORMAT_VERSION
from wsrec.replay.message import SourceError
from wsrec.replay.source import Source, merge

SHARED = Path(__file__).parents[3] / "shared" / "data"
RECORDING = SHARED / "binance-usdm-btcusdt-20240808.txt.gz"
needs_shared = pytest.mark.skipif(not RECORDING.exists(), reason=f"no shared recordings at {SHARED}")

SECOND = 1_000_000_000


def write_capture(path, rows, *, session="s1", stages=None):
    """Rows are (seq, time in ns, direction, opcode, payload); `stages` their hand-off on the stage clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [] for name in {*MESSAGE_SCHEMA.names, *STAMPS, "handoff_monotonic"}}
    for seq, time, direction, opcode, payload in rows:
        row = dict.fromkeys(columns)
        row |= {"seq": seq, "conn": 3, "recv_time": time, "handoff_time": time, "handoff_monotonic": time}
        row |= {"recv_source": "kernel"}
        row |= {"frame_in_read": 0, "frames_in_read": 1, "read_bytes": 10, "direction": direction, "opcode": opcode}
        row["text" if opcode == "text" else "data"] = payload
        for name, value in row.items():
            columns[name].append(value)
    columns["handoff_monotonic"] = stages or columns["handoff_monotonic"]
    about = {"format_version": FORMAT_VERSION, "session": session, "feed": "f"}
    metadata = {f"wsrec.{key}": json.dumps(value) for key, value in about.items()}
    columns = stored(columns)
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in MESSAGE_SCHEMA]
    table = pa.Table.from_arrays(arrays, schema=MESSAGE_SCHEMA).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=2)
    return path


def payloads(*sources):
    return [message.payload for message in Source(sources)]


class TestCapture:
    def test_only_received_text_and_binary_rows(self, tmp_path):
        rows = [
            (0, 1, "sent", "text", b"subscribe"),
            (1, 2, "recv", "text", "überall".encode()),
            (2, 3, "recv", "ping", b"p"),
            (3, 4, "recv", "binary", b"\xff\x00"),
            (4, 5, "rest", "text", b"{}"),
            (5, 6, "recv", "text", b""),
            (6, 7, "recv", "close", b"\x03\xe8"),
        ]
        messages = list(Source([write_capture(tmp_path / "a.parquet", rows)]))
        assert [(m.time_ns, m.opcode, m.payload, m.conn) for m in messages] == [
            (2, "text", "überall".encode(), 3),
            (4, "binary", b"\xff\x00", 3),
            (6, "text", b"", 3),
        ]

    def test_the_feeds_of_a_session_are_joined_by_their_hand_off(self, tmp_path):
        folder = tmp_path / "out" / "messages"
        # each feed counts its own `seq`; a clock that was set back between the messages changes nothing
        for place, stages in (("feed=a/s1-1", (0, 2, 5)), ("feed=b/s1-1", (1, 3, 4)), ("feed=b/s1-2", (6, 7))):
            rows = [(seq, 100 - n, "recv", "text", b"%d" % n) for seq, n in enumerate(stages)]
            write_capture(folder / f"{place}.parquet", rows, stages=stages)
        assert payloads(tmp_path / "out") == [b"%d" % n for n in range(8)]
        assert payloads(str(folder / "feed=*" / "*.parquet")) == [b"%d" % n for n in range(8)]

    def test_a_clock_that_is_set_does_not_change_the_pace(self, tmp_path):
        rows = [(0, 1_000, "recv", "text", b"a"), (1, 9_000_000, "recv", "text", b"b"), (2, 7, "recv", "text", b"c")]
        path = write_capture(tmp_path / "a.parquet", rows, stages=(40, 60, 65))
        assert [message.time_ns for message in Source([path])] == [1_000, 1_020, 1_025]

    def test_sessions_are_joined_by_handoff_time(self, tmp_path):
        write_capture(tmp_path / "a.parquet", [(n, t, "recv", "text", b"%d" % t) for n, t in enumerate((10, 30, 50))])
        late = [(n, t, "recv", "text", b"%d" % t) for n, t in enumerate((20, 40, 60))]
        write_capture(tmp_path / "b.parquet", late, session="s2")
        assert payloads(tmp_path) == [b"10", b"20", b"30", b"40", b"50", b"60"]

    def test_it_can_be_read_again_and_by_two_at_once(self, tmp_path):
        rows = [(n, n, "recv", "text", b"%d" % n) for n in range(10)]
        source = Source([write_capture(tmp_path / "a.parquet", rows)])
        assert [a.payload == b.payload for a, b in zip(source, source, strict=True)] == [True] * 10

    def test_a_damaged_file_is_named(self, tmp_path):
        rows = [(n, n, "recv", "text", b"%d" % n) for n in range(10)]
        path = write_capture(tmp_path / "a.parquet", rows)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(SourceError, match=r"a\.parquet: .*set the file aside"):
            Source([path])

    def test_damage_in_the_middle_is_named(self, tmp_path):
        rows = [(n, n, "recv", "text", b"%030d" % n) for n in range(10)]
        path = write_capture(tmp_path / "a.parquet", rows)
        source = Source([path])
        chunk = pq.ParquetFile(path).metadata.row_group(4).column(MESSAGE_SCHEMA.names.index("text"))
        data = bytearray(path.read_bytes())
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"a\.parquet: damaged"):
            list(source)

    def test_nothing_to_replay(self, tmp_path):
        path = write_capture(tmp_path / "a.parquet", [(0, 1, "sent", "text", b"x")])
        with pytest.raises(SourceError, match="no received message"):
            Source([path])
        with pytest.raises(SourceError, match="does not exist"):
            Source([tmp_path / "nowhere"])


class TestMerge:
    def test_a_part_is_opened_only_when_it_is_due(self):
        opened = []

        def part(start):
            def read():
                opened.append(start)
                yield from (start, start + 1)

            return start, read

        stream = merge([part(20), part(0), part(10)], key=lambda n: n)
        assert next(stream) == 0
        assert opened == [0]
        assert list(stream) == [1, 10, 11, 20, 21]


class TestText:
    def test_lines(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b'1723161255030314667 {"a": 1}\n1723161255030314668 \xff\n\n1723161255030314669  x \r\n')
        assert [tuple(message) for message in Source([path])] == [
            (1723161255030314667, "text", b'{"a": 1}', 0),
            (1723161255030314668, "binary", b"\xff", 0),
            (1723161255030314669, "text", b" x \r", 0),
        ]

    def test_sessions(self, tmp_path):
        path = tmp_path / "a.gz"  # found by content, whatever its name
        path.write_bytes(
            gzip.compress(
                b"wss://x <-> 1.5\nwss://x <- 2.0: {}\n2.25: one\n"
                b"wss://y <-> 3\n3.1234567891: b'\\x1f\\'\"'\n4: b'no\n\n"
            )
        )
        assert [tuple(message) for message in Source([path])] == [
            (2_250_000_000, "text", b"one", 0),
            (3_123_456_789, "binary", b"\x1f'\"", 1),
            (4 * SECOND, "text", b"b'no", 1),
        ]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"1723161255030314667 {}\nwrong\n", r":2: not of the form `NANOSECONDS MESSAGE`"),
            (b"1.0: {}\n\n\x1b[31mwrong\n", r":3: not of the form `SECONDS: MESSAGE`"),
            (b"\x1b[31mhello\n", r": neither a Parquet file of wsrec nor a text recording"),
            (b"", r": no received message"),
            (b"1.0: b'\\x1'\n", r":1: this message's bytes literal is invalid"),
            (gzip.compress(b"1.0: {}\n" * 1000, mtime=0)[:-9], r": the gzip file is damaged or truncated"),
        ],
    )
    def test_what_cannot_be_read_is_named_and_never_shown(self, tmp_path, content, expected):
        path = tmp_path / "bad.txt"
        path.write_bytes(content)
        with pytest.raises(SourceError, match=re.escape(str(path)) + expected) as error:
            list(Source([path]))
        assert "\x1b" not in str(error.value)

    def test_a_line_without_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr("wsrec.replay.text._MAX_LINE", 100)
        path = tmp_path / "a.txt"
        path.write_bytes(b"1.0: " + b"x" * 200)
        with pytest.raises(SourceError, match=":1: longer than"):
            Source([path])


@needs_shared
class TestSharedRecordings:
    def test_the_binance_recording(self):
        source = Source([RECORDING])
        with gzip.open(RECORDING) as lines:
            for message, line in zip(source, lines, strict=True):
                assert line == b"%d %s\n" % (message.time_ns, message.payload)

    @pytest.mark.parametrize("path", sorted((SHARED / "sessions").glob("*.gz")), ids=lambda path: path.name)
    def test_the_sessions(self, path):
        expected = []
        for line in gzip.decompress(path.read_bytes()).decode().split("\n"):
            if found := re.match(r"[\d.]+: (.*)", line):
                text = found[1]
                expected.append(ast.literal_eval(text) if text.startswith(("b'", 'b"')) else text.encode())
        messages = list(Source([path]))
        assert [message.payload for message in messages] == expected
        assert {message.opcode for message in messages} == ({"binary"} if "huobi" in path.name else {"text"})
        if "huobi" in path.name:
            assert all(gzip.decompress(message.payload) for message in messages)
