"""wsrec.supervise.process_supervisor: which child is taken for hung, with real processes that work, or do nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import msgspec
import pytest

from wsrec.ipc import LogLine, Stop
from wsrec.supervise import process_supervisor as process_supervisor_module
from wsrec.supervise.child_process import ChildProcess
from wsrec.supervise.process_supervisor import LOOKS, ProcessSupervisor

LOOK = 0.1
# what works may take so many looks in a test
BUSY_LOOKS = 20


class Job(msgspec.Struct):
    """Nothing to do."""


@pytest.fixture
def lived(monkeypatch, tmp_path):
    """Runs a child with `code` after its first heartbeat; returns the supervisor's lines, and how it ended."""
    monkeypatch.setattr(process_supervisor_module, "_LOOK_SECONDS", LOOK)
    monkeypatch.setattr(process_supervisor_module, "_LOOKS_BUSY", BUSY_LOOKS, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def live(code: str, finish_after: float | None = None, *, beats: bool = True) -> tuple[str, list[str]]:
        Path(tmp_path / "grandchild.py").write_text(f"import time\n{code}\n")
        log: list[LogLine] = []
        reported = itertools.chain([0, 0], itertools.repeat(1))

        async def run() -> str:
            child = ChildProcess("receiver", "grandchild", log.append)
            supervisor = ProcessSupervisor(
                child,
                lambda _: child.start(Job(), ()),
                heartbeat=lambda: next(reported),
                beats_to_the_end=beats,
                held=lambda: False,
                on_log=log.append,
                costs="",
            )
            await supervisor.start()
            running = asyncio.ensure_future(supervisor.run())
            if finish_after is not None:
                await asyncio.sleep(finish_after)
                supervisor.finish(Stop(), again=False)
                await asyncio.wait((running,), timeout=finish_after + LOOK * LOOKS * 1.5)
            while finish_after is None and not running.done() and supervisor.restarts == 0:
                await asyncio.sleep(0.01)
            how = supervisor._how
            supervisor.abandon()
            await running
            return how

        return asyncio.run(run()), [line.message for line in log]

    return live


def test_one_that_works_is_not_hung(lived):
    how, log = lived(f"end = time.time() + {LOOK * 15}\nwhile time.time() < end: pass")
    assert how == ""
    (reported,) = log
    assert "it is working" in reported


def test_one_that_works_for_ever_is_in_the_end(lived):
    how, log = lived("while True: pass")
    assert "and was killed" in how
    assert len([line for line in log if "it is working" in line]) == 1


def test_one_that_does_nothing_is_soon(lived):
    began = time.monotonic()
    how, log = lived("time.sleep(600)")
    assert "and was killed" in how
    assert not [line for line in log if "it is working" in line]
    # not after as long as one that works
    assert time.monotonic() - began < 60


def test_a_receiver_that_works_and_gives_no_sign_while_it_finishes_is_killed(lived):
    how, log = lived("while True: pass", LOOK * 5)
    assert "had no heartbeat" in how
    (reported,) = [line for line in log if "was ordered to finish" in line]
    assert "received data is kept" in reported


def test_a_writer_that_does_is_not(lived):
    how, log = lived("while True: pass", LOOK * 5, beats=False)
    assert (how, log) == ("", [])
