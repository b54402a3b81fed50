"""Reported without any loss: a stall that ended, and a step of the clock. The exit status is 0."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import events_of, messages_of, received
from tests.supervise.conftest import Recording, Stream

ROOT = Path(__file__).parents[2]
SENTENCE = "Stalls that ended and clock steps lose nothing: they are recorded, but do not count."

# the realtime clock is 5 s ahead from when $STEP is there
STEPPED_CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
    int result = (int)syscall(SYS_clock_gettime, id, ts);
    const char *path = getenv("STEP");
    if (id == CLOCK_REALTIME && path && access(path, F_OK) == 0) ts->tv_sec += 5;
    return result;
}
"""


class Broad(Stream):
    """Numbered messages of 4 kB, enough to fill a small ring at once."""

    async def __call__(self, connection) -> None:
        for number in range(100_000):
            await connection.send(f"message {number}".ljust(4096))
            await asyncio.sleep(0.005)


@pytest.fixture
def stepped_clock(tmp_path) -> Path:
    """A library whose preloading steps the clock."""
    library = tmp_path / "step.so"
    source = tmp_path / "step.c"
    source.write_text(STEPPED_CLOCK)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.mark.long
def test_a_stall_that_ended_and_a_step_of_the_clock_are_reported_with_status_0(
    wsrec, exchange, stepped_clock, tmp_path
):
    stepped, out = tmp_path / "stepped", tmp_path / "out"
    environment = {**os.environ, "LD_PRELOAD": str(stepped_clock), "STEP": str(stepped), "WSREC_PASS_ENV": "STEP"}
    options = ("--out", out, "--ring-size", "64KiB", "--json")
    process = wsrec.start("record", exchange(Broad()).url, *options, env=environment)
    work = Recording(process, out, Broad())
    try:
        work.until(lambda: len(work.journalled()) > 20)
        writer = work.child("wsrec.writer")
        os.kill(writer, signal.SIGSTOP)
        stepped.touch()
        # the ring is full at once; the clock is looked at every second
        time.sleep(1.5)
        os.kill(writer, signal.SIGCONT)
        before = len(work.journalled())
        work.until(lambda: len(work.journalled()) > before + 100)
    finally:
        process.terminate()
        printed, log = work.end(0)
    summary = json.loads(printed)
    assert summary["stalls"] >= 1
    stalls = events_of(out, "stall")
    assert max(event["detail"]["duration_ns"] for event in stalls) > 1e9
    steps = [event["detail"]["step_ns"] for event in events_of(out, "clock_step")]
    assert len(steps) == 1
    assert steps[0] == pytest.approx(5e9, rel=0.01)
    assert f"the system clock stepped by {steps[0] / 1e9:+.6f} s" in log
    found = [int(message.split()[1]) for message in received(messages_of(out))]
    assert found == list(range(len(found)))

    verified = wsrec.run("verify", out)
    assert verified.returncode == 0, verified.stdout
    assert re.search(r"stalls .*nothing lost", verified.stdout)
    report = wsrec.run("report", out)
    assert report.returncode == 0
    assert "stall" in report.stdout
    assert re.search(r"clock.*step|step.*clock", report.stdout)


def test_the_readme_says_so():
    assert SENTENCE in " ".join((ROOT / "README.md").read_text().split())
