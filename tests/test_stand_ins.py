"""wsrec.stand_ins: any text is printed in any encoding, and no sign turns into another one's bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.capture_files import Capture, message_columns
from wsrec import stand_ins


def printed(capture: Capture, *arguments: str, **environment: str) -> bytes:
    """What a report prints into a pipe, in an environment with nothing else of languages and encodings."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wsrec", *arguments],
        cwd=capture.out.parent,
        env={**plain, **environment},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert b"Traceback" not in done.stderr
    return done.stdout


@pytest.fixture
def chinese(capture: Capture) -> Capture:
    """A capture of a channel whose name few encodings have."""
    columns = message_columns(300)
    columns["channel"] = ["交易·é"] * 300
    capture.write(columns)
    return capture


class TestEncodings:
    @pytest.mark.parametrize(
        "environment", [{}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, {"PYTHONIOENCODING": "ascii"}]
    )
    def test_a_pipe_of_the_c_locale_is_ascii(self, chinese: Capture, environment: dict[str, str]) -> None:
        text = printed(chinese, "report", "out", "--details", **environment).decode("ascii")
        assert "us " in text
        assert "\n# NIC->EVENT" in text
        assert "\\u4ea4\\u6613|\\u00e9" in text

    def test_latin_1_has_what_it_can(self, chinese: Capture) -> None:
        text = printed(chinese, "report", "out", "--details", PYTHONIOENCODING="latin-1").decode("latin-1")
        assert "µs" in text
        assert "\\u4ea4\\u6613·é" in text

    @pytest.mark.parametrize("environment", [{"LANG": "C.UTF-8"}, {"PYTHONIOENCODING": "utf-8"}])
    def test_utf_8_is_as_it_is(self, chinese: Capture, environment: dict[str, str]) -> None:
        text = printed(chinese, "report", "out", "--details", **environment).decode()
        assert "█ NIC->EVENT" in text
        assert "交易·é" in text

    def test_data_for_programs_is_exact(self, chinese: Capture) -> None:
        json_text = printed(chinese, "report", "out", "--json").decode("ascii")
        assert json.loads(json_text)["recordings"][0]["channels"][0]["channel"] == "交易·é"
        rows = printed(chinese, "sql", "out", "select distinct channel from messages", "--format", "csv")
        assert rows.decode() == '"channel"\n"交易·é"\n'


class TestHandler:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [("3 µs · 4", "3 us | 4"), ("▁▂▃▄▅▆▇█", "_.:-=+*#"), ("a…", "a..."), ("\U0001f600", "\\U0001f600")],
    )
    def test_stand_ins(self, text: str, shown: str) -> None:
        assert text.encode("ascii", stand_ins.ERRORS) == shown.encode()

    def test_bytes_of_a_path_that_are_no_text(self) -> None:
        assert os.fsdecode(b"a\xff").encode("utf-8", stand_ins.ERRORS) == b"a\\udcff"

    def test_the_fills_of_the_bar_differ_in_ascii_too(self) -> None:
        assert len(set("█▒▓░▚".encode("ascii", stand_ins.ERRORS))) == 5

    def test_a_stream_that_cannot_be_changed_is_left(self, tmp_path: Path) -> None:
        stand_ins.prepare(object())
        with (tmp_path / "x").open("w", encoding="ascii") as stream:
            stand_ins.prepare(stream)
            stream.write("µ")
        assert (tmp_path / "x").read_text() == "u"
