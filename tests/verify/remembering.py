"""Simulated captures that grow file by file, verified with a memory and without one."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec

from tests.verify.conftest import lines_of, write_lines
from tests.verify.recording import Recording
from tests.verify.sessions import Session
from tests.verify.world import SECOND
from wsrec.verify.memory import Memory
from wsrec.verify.model import Verification
from wsrec.verify.verify import verify

_DATE = 1_614_865_800 * SECOND


def simulated(seed: int, out: Path) -> Path:
    """A random session as a capture."""
    chance = random.Random(seed)
    session = Session(chance, "s0", _DATE)
    session.play()
    out.mkdir(parents=True)
    Recording(session, chance, out).run()
    return out


def settle() -> None:
    """Let the files become so old that a change of them shows in their times."""
    time.sleep(0.12)


def same(result: Verification) -> Any:
    """A verification without what it says of its memory."""
    found = msgspec.to_builtins(result)
    for capture in found["captures"]:
        for session in capture["sessions"]:
            del session["remembered"], session["remembered_since"]
    return found


def grown(seed: int, folder: Path, chance: random.Random) -> int:
    """Let a capture grow in a few steps, and verify it at each; how many sessions were continued from their memory.

    Raises:
        AssertionError: what is said with a memory is not what is said without one.

    """
    full = simulated(seed, folder / "full")
    out = folder / "out"
    shutil.copytree(full, out)
    lines = lines_of(full)
    steps = sorted(chance.sample(range(1, len(lines)), min(2, len(lines) - 1))) if lines else []
    continued = 0
    there = 0
    for kind in ("messages", "events"):
        shutil.rmtree(out / kind, ignore_errors=True)
    for step in [*steps, len(lines)]:
        for line in lines[there:step]:
            for name in (line["path"], line["events_path"]):
                if name is not None:
                    (out / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(full / name, out / name)
        write_lines(out, lines[:step])
        settle()
        found = verify([out], memory=Memory(folder / "memory"))
        assert same(found) == same(verify([out]))
        of = [each for capture in found.captures for each in capture.sessions]
        continued += sum(0 < each.remembered < each.files for each in of) if there else 0
        there = step
    # and once more, with nothing new
    found = verify([out], memory=Memory(folder / "memory"))
    assert same(found) == same(verify([out]))
    return continued
