"""wsrec.supervise.log_lines: each line names its feed and connection, in every form; and nothing else is in the log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.receive.test_receiver import plan
from wsrec.ipc import LogLine
from wsrec.options.record import LogFormat
from wsrec.supervise.log_lines import form_of, log_line, placing
from wsrec.supervise.pipe_lines import Lines
from wsrec.supervise.redaction import redacting

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
LINE = LogLine(
    level="warning",
    message="gap\x1b[2J\nhere",
    hint="see \u202e",
    feed="okx",
    conn=3,
    kind="gap",
    symbol="B\x07",
    count=7,
)


class TestForms:
    def test_text(self) -> None:
        assert re.fullmatch(
            rf"{STAMP}Z warning \[okx 3\] gap\\x1b\[2J\\nhere -- see \\u202e", log_line(LINE, LogFormat.TEXT)
        )

    def test_a_line_about_a_feed_or_nothing(self) -> None:
        assert log_line(LogLine(level="info", message="m", feed="okx"), LogFormat.JOURNAL) == "<6>info [okx] m"
        assert log_line(LogLine(level="info", message="m"), LogFormat.JOURNAL) == "<6>info m"

    @pytest.mark.parametrize(("level", "priority"), [("info", 6), ("warning", 4), ("error", 3)])
    def test_the_journal_gets_priorities(self, level, priority) -> None:
        assert log_line(LogLine(level=level, message="m"), LogFormat.JOURNAL).startswith(f"<{priority}>{level} ")

    def test_json_is_one_printable_ascii_line(self) -> None:
        text = log_line(LINE, LogFormat.JSON)
        assert text.isascii()
        assert text.isprintable()
        line = json.loads(text)
        assert re.fullmatch(rf"{STAMP}\.\d\d\dZ", line.pop("time"))
        assert line == {
            "level": "warning",
            "feed": "okx",
            "conn": 3,
            "session": None,
            "kind": "gap",
            "message": "gap\\x1b[2J\\nhere",
            "hint": "see \\u202e",
            "channel": None,
            "symbol": "B\\x07",
            "count": 7,
        }


class TestPlaces:
    PLANS = (plan("ws://h/", conn=0, feed="binance"), plan("ws://h/", conn=1, feed="okx"))

    def placed(self, line: LogLine, plans=PLANS) -> LogLine:
        found: list[LogLine] = []
        placing(found.append, plans, "s1")(line)
        return found[0]

    def test_a_connection_has_a_feed(self) -> None:
        line = self.placed(LogLine(level="info", message="m", conn=1))
        assert (line.feed, line.session) == ("okx", "s1")

    def test_a_line_about_the_process_names_the_only_feed(self) -> None:
        assert self.placed(LogLine(level="info", message="m")).feed is None
        assert self.placed(LogLine(level="info", message="m"), self.PLANS[:1]).feed == "binance"

    def test_what_a_line_says_itself_stays(self) -> None:
        line = self.placed(LogLine(level="info", message="m", conn=0, feed="x", session="s0"))
        assert (line.feed, line.session) == ("x", "s0")


def test_secrets_are_in_no_part_of_a_line() -> None:
    found: list[LogLine] = []
    log = redacting(found.append, [plan("ws://h/?key=5ecret-5ecret")])
    log(
        LogLine(
            level="error",
            message="a 5ecret-5ecret",
            hint="b 5ecret-5ecret",
            detail={"c": ["5ecret-5ecret", {"d": "5ecret-5ecret"}]},
        )
    )
    assert found == [LogLine(level="error", message="a ***", hint="b ***", detail={"c": ["***", {"d": "***"}]})]


class TestJournalStream:
    """sd_notify's relative: systemd names in JOURNAL_STREAM the device and inode of the stream that it reads."""

    CODE = """
import sys
from wsrec.supervise.log_lines import form_of
print(form_of(sys.stderr))
"""

    @pytest.mark.parametrize(("shift", "form"), [(0, "journal"), (1, "text")])
    def test_it_is_the_journal_only_if_it_is_this_very_stream(self, shift, form) -> None:
        reading, writing = os.pipe()
        found = os.fstat(writing)
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + shift}"}
        result = subprocess.run(
            [sys.executable, "-c", self.CODE], stdout=subprocess.PIPE, stderr=writing, env=environment, check=True
        )
        os.close(writing)
        os.close(reading)
        assert result.stdout.decode().strip() == form

    @pytest.mark.parametrize("value", ["", "x", ":", "1:2:3", "\udcff"])
    def test_any_other_value(self, monkeypatch, value) -> None:
        monkeypatch.setenv("JOURNAL_STREAM", value)
        assert form_of(sys.__stderr__) is LogFormat.TEXT
        assert form_of(None) is LogFormat.TEXT


class TestLines:
    def of(self, *pieces: bytes, most: int = 1000) -> list[str]:
        found: list[str] = []
        lines = Lines(found.append, most)
        for piece in pieces:
            lines.feed(piece)
        lines.end()
        return found

    def test_pieces_are_joined_and_empty_lines_left_out(self) -> None:
        assert self.of(b"a", b"b\n\nc", b"", b"\nd\xff") == ["ab", "c", "d\\xff"]

    def test_a_line_without_end_is_cut(self) -> None:
        (line,) = self.of(*[b"x" * 1000] * 1000)
        assert line == "x" * 2000 + "…"

    def test_many_lines_are_counted(self) -> None:
        assert self.of(b"x\n" * 5000, most=3) == ["x", "x", "x", "4,997 more lines were not shown"]


def test_every_line_of_a_recording_names_its_feed(wsrec, exchange, tmp_path) -> None:
    """Two feeds, one of which cannot be reached; and what the children write to their standard error."""

    async def handler(connection):
        for number in range(10):
            await connection.send(f"{number}")
        await connection.wait_closed()

    url = exchange(handler).url
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'wsrec.receive' in sys.orig_argv: os.write(2, b'from \\x1b[31mC\\n')\n"
    )
    words = (
        "one=" + url,
        "two=ws://127.0.0.1:9/",
        "--out",
        tmp_path / "out",
        "--duration",
        "2s",
        "--log-format",
        "json",
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = wsrec.run("record", *words, env=environment)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.returncode == 4, result.stderr
    assert {line["feed"] for line in lines if line["conn"] == 0} == {"one"}
    assert {line["feed"] for line in lines if line["conn"] == 1} == {"two"}
    assert {line["kind"] for line in lines if line["conn"] == 1} == {"connect_failed", "lost_interval"}
    assert all(line["session"] for line in lines if line["conn"] is not None)
    assert [line["message"] for line in lines if line["kind"] == "stderr"] == ["receiver: from \\x1b[31mC"]


def test_the_demo_writes_into_the_log_not_beside_it(wsrec, tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'wsrec.replay' in sys.orig_argv: print('a warning', file=sys.stderr)\n"
    )
    words = ("demo", "--out", tmp_path / "out", "--duration", "1s", "--log-format", "journal")
    result = wsrec.run("record", *words, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert "<4>warning [demo] the demo exchange: a warning\n" in result.stderr
    assert all(re.match(r"<[346]>", line) for line in result.stderr.splitlines())
