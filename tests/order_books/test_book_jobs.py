"""Books whose messages are read by several processes are those of one, byte for byte."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import wsrec
from tests.order_books.book_capture import Entry, Received, closed, opened, record, usdm_entries, usdm_feed
from tests.order_books.small_books import SECOND, START, message, small_feed, snapshot
from tests.order_books.test_books import kraken_of_today
from tests.real_messages import DATA
from wsrec.cli.main import main
from wsrec.engine.work import EngineError
from wsrec.feed.load import find_feed
from wsrec.order_books import book_parts, books

SESSIONS, FILES = 8, 3


@pytest.fixture(autouse=True)
def each_file_is_an_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a large capture are."""
    monkeypatch.setattr(book_parts, "_ITEM_BYTES", 1)
    monkeypatch.setattr(books, "_SHARES", 1_000)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sessions of several files each, in which all happens that ends a book or makes it doubtful."""
    out = tmp_path_factory.mktemp("captures") / "out"
    for seed in range(SESSIONS):
        session = f"20261122T1300{seed:02}Z-a"
        record(out, small_feed(), _random(random.Random(seed)), "book", "AB", conns=2, files=FILES, session=session)
    return out


def _random(random: random.Random) -> Iterator[Entry]:
    """Two connections, on which books of two symbols come with gaps, crossings, ends and later snapshots."""
    yield from opened(START, ["book.A", "book.B"])
    yield from opened(START, ["book.A", "book.B"], conn=1)
    numbers = dict.fromkeys([(conn, symbol) for conn in range(2) for symbol in "AB"], 10)
    for time in range(1, 120):
        conn, symbol = random.randrange(2), random.choice("AB")
        kind = random.random()
        if kind < 0.03:
            yield closed(START + time * SECOND, conn, random.choice(["", "reset by peer"]))
            yield from opened(START + time * SECOND + 9, ["book.A", "book.B"], conn)
            continue
        numbers[conn, symbol] += 2 if kind < 0.06 else 1
        number = numbers[conn, symbol]
        if kind > 0.85:
            # the same number is that of the book before it, which it may differ from
            number = numbers[conn, symbol] = number - random.randrange(2)
            yield snapshot(time, number, conn=conn, s=symbol)
        else:
            bids = {random.randint(1, 13): random.randint(0, 3) for _ in range(random.randint(0, 3))}
            asks = {random.randint(10, 20): random.randint(0, 3) for _ in range(random.randint(0, 3))}
            yield message(time, number, bids, asks, conn=conn, s=symbol)


def both(*arguments: object, out: Path, folder: Path) -> tuple[bytes, bytes]:
    """What the command prints on both its outputs and writes to `x` in a folder, in one process and in two."""
    found = []
    for jobs in ("1", "2"):
        words = [str(each).replace("FOLDER", str(folder)) for each in arguments]
        result = CliRunner().invoke(main, ["book", str(out), *words, "--jobs", jobs])
        assert result.exit_code in (0, 4), (result.stderr, result.exception)
        written = b"".join(path.read_bytes() for path in sorted(folder.glob("x.*")))
        found.append(f"{result.exit_code}\n{result.stdout}\n{result.stderr}".encode() + written)
    return found[0], found[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json",),
        pytest.param(
            ("--every", "700ms", "--partial", "--levels", "0", "--out", "FOLDER/x.parquet"), marks=pytest.mark.long
        ),
        pytest.param(("--every", "1s", "--symbol", "b"), marks=pytest.mark.long),
        pytest.param(("--at", str(START + 61 * SECOND)), marks=pytest.mark.long),
        pytest.param(
            ("--since", str(START + 30 * SECOND), "--until", str(START + 50 * SECOND), "--out", "FOLDER/x.csv"),
            marks=pytest.mark.long,
        ),
        pytest.param(("--out", "FOLDER/x.arrow", "--levels", "1"), marks=pytest.mark.long),
    ],
    ids=" ".join,
)
def test_as_one_process(arguments: tuple[str, ...], out: Path, tmp_path: Path) -> None:
    one, two = both(*arguments, out=out, folder=tmp_path)
    assert one == two
    if arguments == ("--json",):
        for words in (b"missing: expected", b"was lost: reset", b"was closed", b"crossed", b"differs", b"no snapshot"):
            assert words in one


@pytest.mark.skipif(not DATA.exists(), reason=f"real messages are not beside the project: {DATA}")
def test_of_real_recordings(tmp_path: Path) -> None:
    """Kraken's books of many pairs, and Binance USD-M's with the snapshot that was fetched in the third file."""
    messages, checksums, _ = kraken_of_today()
    opening = opened(messages[0][0] - 9, [f"book:{pair}" for pair in checksums])
    received = [Received(time + n, text) for n, (time, text) in enumerate(messages[:1_500])]
    record(tmp_path / "out", find_feed("kraken"), [*opening, *received], "book1000", checksums, files=4, session="k")
    entries = list(usdm_entries())[:400]
    opening = opened(entries[0].time - 5, ["btcusdt@depth@0ms"])
    record(tmp_path / "out", usdm_feed(find_feed), [*opening, *entries], "depth@0ms", ["BTCUSDT"], files=6, session="b")
    one, two = (wsrec.books(tmp_path / "out", jobs=jobs) for jobs in (1, 2))
    assert one.read_all().equals(two.read_all())
    assert (one.doubts, one.checks) == (two.doubts, two.checks)
    assert {doubt.symbol for doubt in one.doubts} > {"BTCUSDT", "ADA/XBT"}


def test_what_is_read_before_a_damaged_file_is_shown(out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in out.rglob("*.parquet"):
        target = copy / path.relative_to(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    damaged = sorted((copy / "messages").rglob("*.parquet"))[2 * FILES + 1]
    content = damaged.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    damaged.write_bytes(content[:300] + bytes(footer - 300) + content[footer:])
    results = [CliRunner().invoke(main, ["book", str(copy), "--json", "--jobs", jobs]) for jobs in ("1", "2")]
    assert [result.exit_code for result in results] == [1, 1]
    assert results[0].stdout == results[1].stdout
    assert results[0].stderr == results[1].stderr
    assert str(damaged) in results[0].stderr
    assert len(results[0].stdout) > 1_000


def test_a_worker_that_is_killed_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "make_changes", _die)
    with pytest.raises(EngineError, match="the worker process that read it was killed"):
        wsrec.books(out, jobs=2).read_all()


def _die(item: book_parts.BookItem) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
