"""The live view of a real recording, on a terminal of its own: keys, sizes, signals, and what is there afterwards."""

from __future__ import annotations

import os
import signal
import termios
import time

import pytest

from tests.supervise.own_terminal import OwnTerminal


@pytest.fixture
def terminal(wsrec, tmp_path):
    with OwnTerminal(wsrec.command("record", "demo", "--out", tmp_path / "out", "--duration", "5m")) as own:
        own.until(lambda: own.screen.alternate and " open " in own.text)
        yield own


def test_keys_sizes_and_the_end(terminal) -> None:
    assert terminal.lines[0].startswith("recording demo")
    terminal.type("?")
    terminal.until(lambda: "pause this view" in terminal.text)
    terminal.type("?s")
    terminal.until(lambda: "sort: trouble" in terminal.text)
    for columns, lines in ((120, 40), (50, 12), (200, 50), (80, 24)):
        terminal.resize(columns, lines)
        # the picture fills the screen again: the first line has the time, the last one the keys
        terminal.until(
            lambda lines=lines: "left" in terminal.lines[0] and terminal.lines[lines - 1].startswith("q end")
        )
        assert sum(line.startswith("recording demo") for line in terminal.lines) == 1
        assert sum("q end" in line for line in terminal.lines) == 1
    terminal.type("q")
    terminal.until(lambda: "q again" in terminal.text)
    terminal.type("q")
    assert terminal.process.wait(60) == 0
    terminal.until(lambda: "exit status 0" in terminal.text)
    assert not terminal.screen.alternate
    # what was logged meanwhile is printed now, in order and once
    printed = [
        terminal.raw.index(word) for word in (b"starting a synth", b"connected to", b"nothing known to be missing")
    ]
    assert printed == sorted(printed)
    assert terminal.raw.count(b"connected to") == 1
    assert "ended: SIGINT" in terminal.text
    assert termios.tcgetattr(terminal.fd) == terminal.settings


def test_ctrl_z_leaves_the_screen_and_fg_brings_it_back(terminal) -> None:
    terminal.type("\x1a")
    pid = terminal.process.pid
    terminal.until(lambda: not terminal.screen.alternate)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert "connected to" in terminal.text
    assert termios.tcgetattr(terminal.fd) == terminal.settings
    os.kill(pid, signal.SIGCONT)
    terminal.until(lambda: terminal.screen.alternate and "recording demo" in terminal.lines[0])
    terminal.type("\x03")
    assert terminal.process.wait(60) == 0
    terminal.until(lambda: "exit status 0" in terminal.text)
    assert termios.tcgetattr(terminal.fd) == terminal.settings


def test_nothing_is_drawn_without_a_terminal_that_can(wsrec, tmp_path) -> None:
    command = ["/usr/bin/env", "TERM=dumb", *wsrec.command("record", "demo", "--out", tmp_path / "out", "-q")]
    with OwnTerminal([*command, "--duration", "1s"]) as quiet:
        assert quiet.process.wait(60) == 0
        time.sleep(0.1)
        assert not quiet.text.strip()
        assert not quiet.screen.entered
