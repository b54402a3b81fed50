"""Captures to be compacted, and what every reader says of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from click.testing import CliRunner

from tests.tables.recorded import record, topics_of
from tests.tables.test_export import quote, trade
from wsrec.cli.main import main
from wsrec.compact.model import Compacted
from wsrec.compact.run import Compaction
from wsrec.engine.work import InProcess
from wsrec.feed.load import find_feed
from wsrec.format.reading import open_capture
from wsrec.report.collect import collect
from wsrec.verify.verify import verify

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC
HOUR = 3_600_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def write(out: Path, rounds: int = 60, hours: int = 1) -> Path:
    """A capture of trades and quotes of two symbols with a gap: two files, or one for each of several hours."""
    texts: list[bytes] = []
    for number in range(rounds):
        texts += [trade(2 * number), trade(2 * number + 1, SYMBOLS[1]), quote(number, SYMBOLS[number % 2])]
    del texts[75]
    spacing = hours * HOUR // len(texts) - 1_000_000
    messages = [(START + 1_000_000 + number * spacing, text) for number, text in enumerate(texts)]
    topics = topics_of(find_feed("binance"), ["trade", "bookTicker"], SYMBOLS)
    out.mkdir(parents=True, exist_ok=True)
    record(out, "binance", messages, topics, files=max(hours, 2), size=20)
    return out


def compact(out: Path, **options: Any) -> Compacted:
    return Compaction(out, InProcess(), **options).run()


def verified(out: Path) -> Any:
    """What verify says, but for the size of the files."""
    found = msgspec.to_builtins(verify([out]))
    for capture in found["captures"]:
        for session in capture["sessions"]:
            del session["bytes"]
    return found


def rows_of(out: Path, **chosen: Any) -> list[dict[str, Any]]:
    return open_capture(out).messages(**chosen).read_all().to_pylist()


def reported(out: Path) -> Any:
    """What report says, but for the size of the files."""
    found = msgspec.json.decode(collect([str(out)]).to_json())
    for recording in found["recordings"]:
        del recording["file_bytes"]
    return found


def exported(out: Path, into: Path) -> dict[str, pa.Table]:
    """The exported files, as text."""
    result = CliRunner().invoke(main, ["export", str(out), "--out", str(into), "--format", "csv"])
    assert result.exit_code == 0, result.output
    return {str(path.relative_to(into)): path.read_text() for path in sorted(into.rglob("*.csv"))}


def contents(out: Path) -> dict[str, bytes]:
    """All files of a capture."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
