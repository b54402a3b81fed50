"""CPU time of a process and those below it, from a moment on."""

from __future__ import annotations

import subprocess
import sys
import time

from wsrec.bench.tree_meter import TreeMeter

# a child of its own works for as long as it does itself, with a pause in between
_WORK = """
import subprocess, sys, time

def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

work(0.2)
print(time.time_ns(), flush=True)
time.sleep(0.2)
if sys.argv[1:]:
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
work(0.2)
"""


def test_what_was_used_before_does_not_count_and_children_do() -> None:
    began = time.process_time()
    process = subprocess.Popen([sys.executable, "-c", _WORK, _WORK], stdout=subprocess.PIPE, text=True)
    meter = TreeMeter(process.pid)
    output, _ = process.communicate()
    meter.stop()
    first, second = (int(line) for line in output.split())
    everything, behind, child_behind = (meter.since(moment) / 1e9 for moment in (0, first, second))
    # 0.2 s before and after its pause, and the same of its child; the start of the interpreters is on top
    assert everything >= 0.8
    assert 0.15 < everything - behind < everything
    assert behind >= 0.55
    assert 0.35 < child_behind < behind - 0.15
    # what this process used itself is not part of it
    assert time.process_time() - began < everything
