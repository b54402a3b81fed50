"""wsrec.format.manifest: a line a file, whatever crashed and anyone who else wrote."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import msgspec
import pytest

from wsrec.counts import COUNTERS
from wsrec.format.errors import OtherVersionError
from wsrec.format.layout import manifest_path
from wsrec.format.ledger import Ledger
from wsrec.format.manifest import ManifestLine, append, read
from wsrec.format.version import FORMAT_VERSION


def line(number: int, feed: str = "f", **more: object) -> ManifestLine:
    values = {name: None for name in ManifestLine.__struct_fields__ if name not in COUNTERS}
    figures = {"rows": number, "events": 0, "bytes": 9, "gaps_checked": True, "ledger": Ledger()}
    figures |= {"format_version": FORMAT_VERSION}
    return ManifestLine(**{**values, **figures, "session": "s", "feed": feed, "number": number, **more})


@pytest.fixture
def out(tmp_path):
    (tmp_path / ".wsrec").mkdir()
    return tmp_path


def _append_many(out: str, feed: str) -> None:
    for number in range(50):
        append(Path(out), line(number, feed, path="x" * 3000))


class TestManifest:
    def test_what_was_appended_is_read(self, out):
        lines = [line(1, path="a", sha256="0"), line(2, gaps=3)]
        for each in lines:
            append(out, each)
        assert read(out) == lines

    def test_none_yet(self, out):
        assert read(out) == []

    @pytest.mark.parametrize("keep", [1, 20, -1])
    def test_a_torn_last_line_does_not_count_and_does_not_tear_the_next(self, out, keep):
        append(out, line(1))
        torn = msgspec.json.encode(line(2)) + b"\n"
        with manifest_path(out).open("ab") as file:
            file.write(torn[:keep])
        assert read(out) == [line(1)]
        append(out, line(3))
        assert [each.number for each in read(out) if each.number != 2] == [1, 3]

    def test_a_garbled_line_is_not_passed_over_in_silence(self, out):
        append(out, line(1))
        with manifest_path(out).open("ab") as file:
            file.write(b'{"path": 5}\n')
        with pytest.raises(msgspec.ValidationError, match=r"manifest\.jsonl:2: is not a valid line"):
            read(out)

    def test_nor_one_of_another_format_version(self, out):
        manifest_path(out).write_bytes(msgspec.json.encode(line(1, format_version=99)) + b"\n")
        with pytest.raises(OtherVersionError, match=r"manifest\.jsonl:1: it has format version 99"):
            read(out)

    def test_two_processes_at_once(self, out):
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=_append_many, args=(str(out), feed)) for feed in ("a", "b")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
            assert writer.exitcode == 0
        found = read(out)
        for feed in ("a", "b"):
            assert [each.number for each in found if each.feed == feed] == list(range(50))
