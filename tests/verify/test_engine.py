"""wsrec.verify over an engine: several processes say what one says, byte for byte, and remember it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import msgspec
import pytest

from tests.verify.damage import damage_capture
from tests.verify.remembering import same, settle, simulated
from wsrec.engine.choose import engine_for
from wsrec.options.engine import EngineOptions
from wsrec.verify.memory import Memory
from wsrec.verify.verify import verify

SEEDS = 8


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """Simulated captures, some of them damaged."""
    folder = tmp_path_factory.mktemp("captures")
    for seed in range(SEEDS):
        out = simulated(seed, folder / str(seed))
        if seed % 3 == 2:
            damage_capture(out, random.Random(seed))
    settle()
    return folder


@pytest.fixture(scope="module")
def processes():
    with engine_for(EngineOptions(jobs=2)) as engine:
        yield engine


def test_several_processes_say_what_one_says(captures, processes):
    seen: list[tuple[int, int]] = []
    found = verify([captures], lambda done, total: seen.append((done, total)), engine=processes)
    assert len(found.captures) == SEEDS
    assert msgspec.json.encode(found) == msgspec.json.encode(verify([captures]))
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_sigterm_ends_the_workers_too(captures, wsrec, tmp_path):
    command = wsrec.start("verify", captures, "--jobs", "2", "--memory", tmp_path)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    until = time.monotonic() + 60
    workers: list[int] = []
    while not workers or "libarrow" not in Path(f"/proc/{workers[0]}/maps").read_text():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
        workers = [int(pid) for pid in children.read_text().split()]
    # the command cannot end before it has read what this one is given
    os.kill(workers[0], signal.SIGSTOP)
    command.send_signal(signal.SIGTERM)
    try:
        assert command.wait(timeout=60) == 128 + signal.SIGTERM
        assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers[0], signal.SIGKILL)
        command.communicate(timeout=60)


def test_what_they_proved_is_remembered(captures, processes, tmp_path):
    first = verify([captures], memory=Memory(tmp_path), engine=processes)
    second = verify([captures], memory=Memory(tmp_path), engine=processes)
    assert same(second) == same(first)
    kept = [session for capture in second.captures for session in capture.sessions if session.remembered]
    assert kept
    assert all(session.remembered == session.files for session in kept)
