"""Proved is what was compared: a rule that could not be applied proves nothing, and everybody says so."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA, events_of
from tests.verify.conftest import write_capture
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.report.collect import collect
from wsrec.report.terminal import print_report
from wsrec.ring.events import EventKind
from wsrec.verify.model import Kind, State, VerifyStatus
from wsrec.verify.verify import verify

MESSAGES = SHARED_DATA.parent / "cases" / "messages"
USDM = find_feed("binance-usdm")


def look(out: Path):
    (capture,) = verify([out]).captures
    (session,) = capture.sessions
    return capture, {(stream.channel, stream.symbol): stream for stream in session.streams}


def unchecked(capture) -> str:
    return "\n".join(finding.what for finding in capture.findings if finding.kind is Kind.UNCHECKED)


def read_report(out: Path) -> str:
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    print_report(collect([out]), Console(file=text, width=200), details=True)
    return text.getvalue()


def test_a_session_without_numbers_is_never_proved(tmp_path, capsys):
    path = MESSAGES / "bitget-no-numbers-40-removed.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the real messages are not here: {path}")
    messages = gzip.decompress(path.read_bytes()).splitlines()
    write_capture(tmp_path / "out", find_feed("bitget"), messages)
    warned = capsys.readouterr().err
    capture, streams = look(tmp_path / "out")
    books = [stream for (channel, _), stream in streams.items() if channel == "books"]
    assert sum(stream.messages for stream in books) == 403
    assert {(stream.state, stream.compared, stream.proved) for stream in books} == {(State.UNBROKEN, 0, 0)}
    assert [stream.skipped for stream in books] == [{"without a number": stream.messages} for stream in books]
    assert "books: the rule `previous` was applied to 0 of 403 messages: 403 without a number" in unchecked(capture)
    assert not any(stream.state is State.PROVED for stream in streams.values())
    # and so say the recorder, its files and the report
    assert "[bitget] books: " in warned
    (event,) = [each for each in events_of(tmp_path / "out", EventKind.UNCHECKED) if each["channel"] == "books"]
    assert (event["detail"]["compared"], event["detail"]["skipped"]) == (0, {"without a number": 403})
    stated = read_report(tmp_path / "out").partition("gaps")[2].partition("events")[0]
    assert "none" not in stated
    assert "books 403 of 403 (403 without a number)" in " ".join(stated.split())


def test_a_link_of_another_name_proves_nothing(tmp_path, real_messages):
    chance = random.Random(1)
    depth = [n for n, message in enumerate(real_messages[:20_000]) if b"@depth" in message]
    removed = set(chance.sample(depth, 200))
    messages = [m.replace(b'"pu":', b'"pq":') for n, m in enumerate(real_messages[:20_000]) if n not in removed]
    write_capture(tmp_path / "out", USDM, messages)
    capture, streams = look(tmp_path / "out")
    stream = streams["depth@0ms", "BTCUSDT"]
    assert (stream.state, stream.compared, stream.proved) == (State.UNBROKEN, 0, 0)
    assert stream.skipped == {"without the number that the rule compares": stream.messages - 1}
    assert streams["trade", "BTCUSDT"].state is State.PROVED
    assert "depth@0ms" in unchecked(capture)


def trade(number: int | None, **more: object) -> bytes:
    named = {} if number is None else {"t": number}
    return json.dumps({"stream": "x@trade", "data": {"s": "X", **named, **more}}).encode()


def test_a_single_message_is_no_succession(tmp_path):
    write_capture(tmp_path / "out", USDM, [trade(1)])
    _, streams = look(tmp_path / "out")
    stream = streams["trade", "X"]
    assert (stream.state, stream.compared, stream.skipped, stream.proved) == (State.UNBROKEN, 0, {}, 0)


def test_what_stands_around_a_message_without_a_number_is_not_proved(tmp_path):
    numbers = [1, 2, 3, None, 4, 5]
    write_capture(tmp_path / "out", USDM, [trade(number) for number in numbers])
    capture, streams = look(tmp_path / "out")
    stream = streams["trade", "X"]
    assert stream.state is State.UNBROKEN
    assert [each.state for each in stream.intervals] == [State.PROVED, State.UNBROKEN, State.PROVED, State.UNBROKEN]
    assert (stream.compared, stream.skipped) == (3, {"without a number": 1, "after one without a number": 1})
    assert capture.status is VerifyStatus.HOLDS
    assert "trade: the rule `next` was applied to 3 of 5 messages" in unchecked(capture)


def test_nothing_is_proved_across_numbers_that_begin_anew(tmp_path):
    document = USDM.public_config()
    document["channels"]["trade"]["resets"] = {"numbers": [1]}
    write_capture(tmp_path / "out", Feed.model_validate(document), [trade(n) for n in (7, 8, 1, 2)])
    capture, streams = look(tmp_path / "out")
    stream = streams["trade", "X"]
    assert (stream.state, stream.resets, stream.gaps) == (State.UNBROKEN, 1, 0)
    assert [each.state for each in stream.intervals] == [State.PROVED, State.UNBROKEN, State.PROVED, State.UNBROKEN]
    assert unchecked(capture) == ""


def test_a_sound_session_has_nothing_unchecked(tmp_path, real_messages):
    write_capture(tmp_path / "out", USDM, real_messages[:5_000])
    capture, streams = look(tmp_path / "out")
    assert (capture.status, unchecked(capture)) == (VerifyStatus.HOLDS, "")
    assert {streams[name, "BTCUSDT"].state for name in ("trade", "depth@0ms")} == {State.PROVED}
    assert events_of(tmp_path / "out", EventKind.UNCHECKED) == []
    assert "Checked by sequence number: trade, depth@0ms" in read_report(tmp_path / "out")
