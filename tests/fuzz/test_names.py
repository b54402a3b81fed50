"""Names that an exchange chooses, from the wire to every output: never in a path, never raw on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Wsrec, messages_of
from tests.exchange import Exchange
from wsrec.decode.places import NAME_MAX

NAMES = [
    "../../../../tmp/evil",
    "/etc/passwd",
    "..",
    "feed=x/date=y",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\r\noverwritten",
    "\u202eRTL",
    "\0NUL",
    "<script>alert(1)</script>",
    "[bold red]markup[/]",
    "a" * (NAME_MAX + 1),
    "b" * 100_000,
    "=cmd|' /C calc'!A0",
]
FEED = """
name: hostile
description: names of the exchange's choosing
sockets: {{main: {{url: "{url}"}}}}
fields: {{channel: [c], symbol: [s], exchange_time: [t]}}
"""
FORBIDDEN = ["\x1b", "\x9b", "\x07", "\r", "\0", "\u202e"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of messages, close reason and all, with hostile names."""

    async def send(connection) -> None:
        for name in NAMES:
            for channel, symbol in ((name, "S"), ("c", name)):
                await connection.send(json.dumps({"c": channel, "s": symbol, "t": 1}))
        await asyncio.sleep(0.1)
        await connection.close(1000, "\x1b[2Jbye\u202e")

    folder = tmp_path_factory.mktemp("names")
    server = Exchange(send)
    server.start()
    try:
        (folder / "hostile.yaml").write_text(FEED.format(url=server.url))
        result = Wsrec().run("record", folder / "hostile.yaml", "--until-close", "--out", folder / "out")
    finally:
        server.stop()
    assert result.returncode == 0, result.stderr
    harmless(result.stdout + result.stderr)
    return folder / "out"


def harmless(text: str) -> None:
    for word in FORBIDDEN:
        assert word not in text, repr(word)


def test_they_are_in_the_rows_as_they_came_and_too_long_ones_are_none(out):
    symbols = set(messages_of(out)["symbol"].to_pylist())
    assert symbols == {"S", None, *(name for name in NAMES if len(name) <= NAME_MAX)}


def test_no_path_has_anything_of_them(out):
    for path in out.parent.rglob("*"):
        assert all(part.isprintable() and len(part) < 80 for part in path.relative_to(out.parent).parts)
        assert "evil" not in str(path)
    assert not Path("/tmp/evil").exists()
    folders = {path.relative_to(out).parts[1] for path in out.rglob("*.parquet")}
    assert folders == {"feed=hostile"}


@pytest.mark.parametrize("command", ["report", "verify"])
@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
def test_nothing_of_them_reaches_a_pipe_raw(out, wsrec, command, option):
    result = wsrec.run(command, out, *option)
    assert result.returncode == 0, result.stdout + result.stderr
    harmless(result.stdout + result.stderr)
    if option:
        assert json.loads(result.stdout)


@pytest.mark.parametrize("command", ["report", "verify"])
def test_nor_a_terminal(out, wsrec, command):
    """What a terminal gets is text and rich's own colours: the escapes of the names are spelled out."""
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(wsrec.command(command, out), stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(main, 65536):
            shown += data
    except OSError:
        pass
    os.close(main)
    assert process.wait(60) == 0
    for word in (b"\x1b[2J", b"\x1b]0;", b"\x07", b"\xc2\x9b", b"\0", "\u202e".encode()):
        assert word not in shown, word
    assert rb"\x1b[2J" in shown


def test_a_manifest_of_strangers_is_not_followed_and_not_obeyed(out, wsrec, tmp_path):
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    manifest = copy / ".wsrec" / "manifest.jsonl"
    line = json.loads(manifest.read_text())
    lines = [{**line, "path": path} for path in ("../../../etc/passwd", "messages/\x1b[2J/..", "/dev/zero", "\0")]
    manifest.write_text("".join(json.dumps(each) + "\n" for each in lines))
    result = wsrec.run("verify", copy)
    assert result.returncode == 1
    harmless(result.stdout + result.stderr)
    assert "Traceback" not in result.stderr
