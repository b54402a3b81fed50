"""A feed whose messages name channels by numbers of the connection: recorded over a break, recovered, and verified."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from tests.conftest import messages_of
from tests.rings import Rings, plan, writer_job
from tests.verify.conftest import lines_of, message_paths, write_lines
from wsrec.feed.schema import Feed
from wsrec.ring.events import EventKind
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import journal_path
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.recovery import recover

FEED = """
name: ids
description: trades by numbers of the connection
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: capital letters, example: AB}}
default_symbols: [AB, CD]
subscribe: {{message: '{{"event":"subscribe","symbols":{{topics}}}}'}}
limits: {{connects: 100, connects_interval: 1}}
fields:
  channel: [event, $channel]
  symbol: [$symbol, symbol]
  ids:
    where: {{event: subscribed}}
    id: chanId
    names: {{channel: [channel], symbol: [symbol]}}
    at: "[0]"
channels:
  trades: {{topic: "{{symbol}}", default: true, exchange_seq: ["[-1]"], sequence: next}}
"""
SYMBOLS = ("AB", "CD")


def announced(number: int, symbol: str) -> bytes:
    return json.dumps({"event": "subscribed", "channel": "trades", "chanId": number, "symbol": symbol}).encode()


class Breaking:
    """An exchange that gives its numbers the other way round on the second connection."""

    def __init__(self) -> None:
        self.connections = 0

    async def __call__(self, connection) -> None:
        await connection.recv()
        self.connections += 1
        symbols = SYMBOLS if self.connections == 1 else SYMBOLS[::-1]
        for number, symbol in enumerate(symbols):
            await connection.send(announced(number, symbol).decode())
        for seq in range(400):
            for number in range(2):
                await connection.send(f'[{number},"te",[1.5],{seq}]')
            await asyncio.sleep(0.001)
        if self.connections == 1:
            connection.transport.abort()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    from tests.conftest import Wsrec
    from tests.exchange import Exchange

    folder = tmp_path_factory.mktemp("ids")
    server = Exchange(Breaking())
    server.start()
    try:
        (folder / "ids.yaml").write_text(FEED.format(url=server.url))
        arguments = ("--until-close", "--out", folder / "out", "--rotate", "20kB", "--batch", "20ms", "--quiet")
        result = Wsrec().run("record", folder / "ids.yaml", *arguments)
        assert result.returncode == 4, result.stderr  # the break is a lost interval
    finally:
        server.stop()
    return folder / "out"


def verified(wsrec, out: Path) -> tuple[int, str]:
    result = wsrec.run("verify", out)
    return result.returncode, result.stdout + result.stderr


class TestRecorded:
    def test_numbers_are_the_connections(self, out):
        table = messages_of(out).select(["text", "channel", "symbol"]).to_pylist()
        trades = [(row["text"][1], row["symbol"]) for row in table if row["channel"] == "trades"]
        assert len(trades) > 800
        assert set(trades) == {("0", "AB"), ("1", "CD"), ("0", "CD"), ("1", "AB")}

    def test_verify_reads_the_same(self, wsrec, out):
        assert len(message_paths(out)) > 1
        _, stated = verified(wsrec, out)
        assert "differs from the payload" not in stated, stated

    @pytest.mark.long
    def test_a_capture_without_its_beginning_contradicts_nothing(self, wsrec, out, tmp_path):
        copy = Path(shutil.copytree(out, tmp_path / "out"))
        first = message_paths(copy)[0]
        write_lines(copy, [line for line in lines_of(copy) if line["path"] != str(first.relative_to(copy))])
        first.unlink()
        _, stated = verified(wsrec, copy)
        assert "differs from the payload" not in stated, stated


def test_what_was_learned_in_a_landed_file_is_known_after_a_crash(tmp_path):
    feed = Feed.model_validate(msgspec.yaml.decode(FEED.format(url="ws://x").encode())).public_config()
    job = writer_job(tmp_path, (plan(0, feed="ids"),), {"ids": feed})
    folder = tmp_path / ".wsrec" / job.session
    folder.mkdir(parents=True)
    rings = Rings(conns=1)
    drain = rings.drain()
    pipeline = Pipeline(job, folder)
    clock = {"realtime": 1_795_000_000_000_000_000, "width_ns": 1, "clock": "CLOCK_MONOTONIC", "drift_ns": 0}
    rings.event(EventKind.ANCHOR, monotonic=1_000_000_000, **clock)
    rings.put(announced(7, "AB"), conn=0, handoff=1_000_000_001)
    batch = drain.take()
    pipeline.take(batch, 1)
    drain.release()
    pipeline.finish(1)
    rings.put(b'[7,"te",[],1]', conn=0, handoff=1_000_000_002)
    journal = Journal(journal_path(folder, 2), 2, msgspec.json.encode(job))
    journal.append(drain.take())
    journal.close()
    rings.close()
    (recovered,) = recover(tmp_path, pytest.fail)
    assert recovered.rows == 1
    rows = messages_of(tmp_path).sort_by("seq").select(["channel", "symbol"]).to_pylist()
    assert [(row["channel"], row["symbol"]) for row in rows] == [("subscribed", "AB"), ("trades", "AB")]
