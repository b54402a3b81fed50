"""A named pipe at any place of a capture where a reader looks delays no command: opening one waits for a writer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.rings import Rings, plan, writer_job
from tests.tables.recorded import record, topics_of
from wsrec.feed.load import find_feed
from wsrec.ring.events import EventKind
from wsrec.writer import session_start
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import journal_path

START = 1_795_352_400_000_000_000
SESSION = "20261127T000000Z-1e57ed"
COMMANDS = (
    ("report",),
    ("verify", "--again"),
    ("export", "--out", "{place}/t", "--tables", "trades,quotes"),
    ("book", "--symbol", "BTCUSDT", "--every", "1s", "--out", "{place}/b.parquet"),
    ("sql", "select count(*) from messages, trades"),
    ("compact",),
    ("recover",),
)
# prints each command before it runs; its own limit ends one that waits, also within Arrow
CHILD = """
import faulthandler, sys
from click.testing import CliRunner
from wsrec.cli.main import main
for line in sys.stdin:
    words = line.rstrip("\\n").split("\\t")
    print("runs", *words, flush=True)
    faulthandler.dump_traceback_later(20, exit=True)
    result = CliRunner().invoke(main, words)
    faulthandler.cancel_dump_traceback_later()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        print("raised", *words, repr(result.exception), flush=True)
"""


def first(folder: str) -> Callable[[Path], Path]:
    return lambda out: sorted(out.glob(f"{folder}/**/*.parquet"))[0]


def of_session(name: str) -> Callable[[Path], Path]:
    return lambda out: out / ".wsrec" / SESSION / name


Place = Callable[[Path], Path]
PLACES: dict[str, Place] = {
    "a messages file": first("messages"),
    "an events file": first("events"),
    "a table": first("tables"),
    "a table that is left behind": lambda out: out / "tables" / ".wsrec-export-1.partial",
    "the manifest": lambda out: out / ".wsrec" / "manifest.jsonl",
    "the lock": lambda out: out / ".wsrec" / "lock",
    "a session's folder": lambda out: out / ".wsrec" / SESSION,
    "a journal": of_session("journal-000001.arrows"),
    "a job": of_session("session.json"),
    "an unfinished job": of_session("session.json.new"),
    "a heartbeat": of_session("heartbeat"),
    "a note": of_session("taking"),
    "all of a session": of_session("*"),
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished session with exported tables, and of one that was killed."""
    out = tmp_path_factory.mktemp("capture") / "out"
    data = {"e": "trade", "E": 1, "s": "BTCUSDT", "p": "1", "q": "2", "T": 1_795_352_400_000, "m": True}
    texts = [json.dumps({"stream": "btcusdt@trade", "data": {**data, "t": number}}).encode() for number in range(20)]
    messages = [(START + number, text) for number, text in enumerate(texts)]
    record(out, "binance", messages, topics_of(find_feed("binance"), ["trade"], ["BTCUSDT"]), files=2, size=10)
    rings = Rings()
    job = writer_job(
        out, (plan(0, feed="binance"),), {"binance": find_feed("binance").public_config()}, session=SESSION
    )
    clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
    rings.event(EventKind.ANCHOR, **clock, width_ns=100, clock="CLOCK_MONOTONIC", drift_ns=0)
    rings.put(texts[0], handoff=time.monotonic_ns())
    batch = rings.drain().take()
    assert batch is not None
    folder = out / ".wsrec" / SESSION
    folder.mkdir(parents=True)
    session_start.write(folder, job)
    journal = Journal(journal_path(folder, 1), 1, msgspec.json.encode(job))
    journal.append(batch)
    journal.close()
    rings.close()
    tables = [sys.executable, "-m", "wsrec", "export", str(out), "--tables", "trades"]
    subprocess.run(tables, check=True, capture_output=True, timeout=60)
    return out


def put_pipe(out: Path, place: Place) -> None:
    """Put a pipe at a place of a capture, or at several."""
    path = place(out)
    paths = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    for each in paths:
        if each.is_dir():
            shutil.rmtree(each)
        each.unlink(missing_ok=True)
        os.mkfifo(each)


@pytest.mark.parametrize(
    "names",
    [
        ["a messages file", "an events file", "a table", "a table that is left behind"],
        ["all of a session"],
        *(pytest.param([name], marks=pytest.mark.long) for name in PLACES),
    ],
)
def test_no_command_waits(capture: Path, tmp_path: Path, names: list[str]) -> None:
    lines = []
    for words in COMMANDS:
        folder = tmp_path / words[0]
        out = Path(shutil.copytree(capture, folder / "out"))
        for name in names:
            put_pipe(out, PLACES[name])
        lines.append("\t".join([words[0], str(out), *(word.format(place=folder) for word in words[1:])]))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    said = child.stdout.splitlines()
    assert child.returncode == 0, f"{said[-1]}\n{child.stderr[-3000:]}"
    assert [line for line in said if line.startswith("raised")] == []
    assert len(said) == len(lines)
