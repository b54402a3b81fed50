"""Nothing secret is written, printed or handed to a process that has no need of it, wherever a user puts it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from websockets.datastructures import Headers
from websockets.http11 import Response

from wsrec.cli.main import main
from wsrec.writer.journal import Journal

PLACES = (
    "user password path1 path2 query1 query2 query3 bare padded environment listenkey token bullet asking header "
    "address snapshot snapshotquery listing listingbare contracts contractsquery unrelated refused refusedpath"
)
SECRET = {place: f"S3CR3T{place}" for place in PLACES.split()}
# the exchange's own answer: it comes off the wire, for no eyes but the connection's
SECRET["answered"] = "S3CR3Tanswered"

FEED = """
name: mine
description: a feed that is full of secrets
public_url_parts: [v1, plain]
sockets:
  main:
    url: {stream}/v1/{path2}/${{LISTEN_KEY}}?passphrase={query3}&access=${{ACCESS}}&t={{token}}&plain=yes
    token: {{url: "{https}/{bullet}?user={asking}", method: GET, token: token}}
    headers: {{X-Login: {header}}}
symbols:
  pattern: "[A-Z]+"
  words: capital letters
  example: ABC
  listing: {{url: "{https}/symbols/{listing}?{listingbare}"}}
default_symbols: [ABC]
instruments:
  urls: "{https}/{contracts}?jwt={contractsquery}"
  items: "$[]"
  symbol: s
  columns: {{multiplier: m}}
channels:
  trade:
    common: trades
    default: true
    topic: "trade.{{symbol}}"
    tables: [{{table: trades, columns: {{price: p, size: q, size_unit: contracts}}}}]
    snapshot: {{url: "{https}/depth/{snapshot}?symbol={{symbol}}&jwt={snapshotquery}", at_start: true}}
subscribe:
  url: "&login={address}&streams={{topics:/}}"
limits: {{connects: 10, connects_interval: 1}}
"""


@pytest.fixture
def stream(exchange):
    """The address of an exchange that sends, or answers 403 with the request in its text."""

    def look(connection, request):
        if SECRET["refusedpath"] in request.path:
            return Response(403, "Forbidden", Headers(), f"no such login: {request.path}".encode())
        return None

    async def handler(connection):
        with suppress(Exception):
            for number in range(1000):
                await connection.send(json.dumps({"n": number}))
                await asyncio.sleep(0.05)

    return exchange(handler, process_request=look).url.removesuffix("/stream")


def children_of(pid: int) -> list[int]:
    """The recorder's receivers and writers."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def journalled(folder: Path) -> bytes:
    """What the journals of a recording hold, decoded."""
    found = bytearray()
    for file in folder.rglob("journal-*"):
        data = file.read_bytes()
        found += data
        with suppress(Exception), Journal(file) as journal:
            for batch in journal:
                found += repr(batch.payload.to_pylist()).encode()
    return bytes(found)


def everything_in(folder: Path) -> dict[str, bytes]:
    """Each file below a folder, as its bytes and, of Parquet, as all its values and metadata."""
    found = {}
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        found[str(file)] = file.read_bytes() + str(file).encode()
        if file.suffix == ".parquet":
            parquet = pq.ParquetFile(file)
            table = parquet.read()
            columns = [column for column in table.columns if not pa.types.is_timestamp(column.type)]
            values = [column.to_pylist() for column in columns]
            found[str(file)] += repr(values).encode() + repr(table.schema.metadata).encode()
    return found


def run(*words: object, **options: Any) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], **options)


def leaks(what: dict[str, bytes]) -> list[str]:
    places = [(place, text.encode()) for place, text in SECRET.items()]
    return [f"{place} in {name}" for place, text in places for name, data in what.items() if text in data]


class TestARecordingOfSecrets:
    @pytest.fixture
    def feed(self, stream, https, tmp_path) -> Path:
        server = https(lambda path: {"token": SECRET["answered"]} if SECRET["bullet"] in path else {"bids": []})
        file = tmp_path / "feed.yaml"
        file.write_text(FEED.format(stream=stream, https=server.url, **SECRET))
        return file

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LISTEN_KEY": SECRET["listenkey"],
            "ACCESS": SECRET["environment"],
            "DATABASE_PASSWORD": SECRET["unrelated"],
        }

    def test_leaves_none_of_them_anywhere(self, wsrec, stream, feed, environment, ca_file, tmp_path):
        host = stream.replace("ws://localhost", "127.0.0.1")
        bare = "ws://{user}:{password}@" + host + "/ws/{path1}?jwt={query1}&pwd={query2}&{bare}&{padded}=="
        run = tmp_path / "run.yaml"
        other = tmp_path / "other.yaml"
        address = f"{stream}/{SECRET['refusedpath']}?sid={SECRET['refused']}"
        other.write_text(f"name: other\ndescription: refused\nsockets:\n  main:\n    url: {address}\n")
        out = tmp_path / "out"
        run.write_text(f"feeds:\n  - feed: {bare.format(**SECRET)}\n  - feed: {feed}\n  - feed: {other}\n")
        options = ("--out", out, "--ca-file", ca_file, "--json", "--batch", "20ms")
        process = wsrec.start("record", run, *options, env=environment)
        seen: dict[str, bytes] = {}
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and b"'n'" not in journalled(out).replace(b'"', b"'"):
                assert process.poll() is None
                time.sleep(0.05)
            time.sleep(0.5)
            for child in children_of(process.pid):
                for name in ("cmdline", "environ"):
                    seen[f"{name} of a child"] = Path(f"/proc/{child}/{name}").read_bytes()
            assert seen
            assert not leaks(seen)
            seen["the journals"] = journalled(out)
            seen |= everything_in(out)
        finally:
            process.terminate()
            printed, stated = process.communicate(timeout=120)
        seen |= {"stdout": printed.encode(), "stderr": stated.encode(), **everything_in(out)}
        assert json.loads(printed)["messages"]
        # it did connect, with all of them, and requested the snapshot and the listing
        assert "connected to ws://***:***@127.0.0.1" in stated
        assert "connected to ws://localhost" in stated
        assert any(b"snapshot" in data and b'"bytes"' in data for data in seen.values())
        assert any(b"'instruments'" in data for data in seen.values())
        assert "HTTP 403" in stated
        assert not leaks(seen)

    def test_is_planned_and_shown_without_them(self, feed, environment, stream):
        seen = {}
        for words in (("plan", feed), ("plan", feed, "--json"), ("show", feed), ("show", feed, "--json")):
            result = run("feeds", *words, env=environment)
            assert result.exit_code == 0, result.output
            seen[str(words)] = result.output.encode()
        assert not leaks(seen)
        planned = seen[str(("plan", feed))].decode()
        url = f"{stream}/v1/***/${{LISTEN_KEY}}?passphrase=***&access=${{ACCESS}}&t={{token}}&plain=yes"
        assert f"{url}&login=***&streams=trade.ABC" in planned

    @pytest.mark.parametrize(
        "target",
        [
            f"ws://h/x?jwt={SECRET['query1']}#f",
            f"https://h/x?jwt={SECRET['query1']}",
            f"h/ws?jwt={SECRET['query1']}",
            f"ws:/h/{SECRET['query1']}",
        ],
    )
    def test_a_target_that_is_none_is_not_repeated(self, target, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = run("record", target, "--json")
        assert result.exit_code == 2
        assert not leaks({"it": result.output.encode()})

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("url", f"ws://h/x?jwt={SECRET['query1']}#f"),
            ("url", f"h/{SECRET['query1']}"),
            ("headers", f'{{"a b": {SECRET["header"]}}}'),
            ("headers", SECRET["header"]),
            ("token", f"https://h/x?{SECRET['query1']}"),
        ],
    )
    def test_a_mistake_in_a_feed_is_reported_without_them(self, tmp_path, key, value):
        file = tmp_path / "x.yaml"
        keys = {"url": "ws://h/", key: value}
        text = "".join(f"    {name}: {text}\n" for name, text in keys.items())
        file.write_text(f"name: x\ndescription: y\nsockets:\n  main:\n{text}")
        result = run("feeds", "check", file)
        assert result.exit_code == 2
        assert f"sockets.main.{key}: found" in result.output
        assert not leaks({"it": result.output.encode()})
