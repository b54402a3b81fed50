"""wsrec.supervise.keys: keys on a terminal, which is as it was afterwards."""

from __future__ import annotations

import os
import pty
import sys
import termios
import textwrap
from collections.abc import Iterator

import pytest

from tests.supervise.own_terminal import OwnTerminal
from wsrec.supervise.keys import Keys

_PROGRAM = textwrap.dedent(
    """
    import select, sys
    from wsrec.supervise.keys import Keys

    keys = Keys(sys.stdin)
    assert keys.grab()
    print("ready", flush=True)
    select.select([keys.fd], [], [])
    print("keys", *keys.read(), sep="|", flush=True)
    keys.release()
    keys.release()
    print("done", flush=True)
    sys.stdin.read()
    """
)


@pytest.fixture
def terminal() -> Iterator[OwnTerminal]:
    with OwnTerminal([sys.executable, "-c", _PROGRAM]) as own:
        own.until(lambda: "ready" in own.text)
        yield own


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[F", ["up", "down", "page up", "page down", "home", "end"]),
        ("s\x1b[1;5Cp", ["s", "p"]),
        ("\x1b", []),
        ("é?", ["é", "?"]),
    ],
)
def test_keys_are_read_as_they_are_typed_and_without_an_echo(terminal, typed: str, keys: list[str]) -> None:
    terminal.type(typed)
    terminal.until(lambda: "done" in terminal.text)
    assert [line.rstrip() for line in terminal.lines[:3]] == ["ready", "|".join(["keys", *keys]), "done"]


def test_the_terminal_gets_its_settings_back(terminal) -> None:
    assert not termios.tcgetattr(terminal.fd)[3] & (termios.ICANON | termios.ECHO)
    terminal.type("x")
    terminal.until(lambda: "done" in terminal.text)
    assert termios.tcgetattr(terminal.fd) == terminal.settings


def test_a_stream_that_is_no_terminal_has_no_keys(tmp_path) -> None:
    with (tmp_path / "file").open("w") as file:
        for stream in (None, file):
            keys = Keys(stream)
            assert keys.fd == -1
            assert not keys.grab()
            keys.release()


def test_a_terminal_that_is_gone_ends_the_keys() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave) as stream:
        keys = Keys(stream)
        os.close(master)
        assert keys.read() == []
        assert keys.fd == -1
