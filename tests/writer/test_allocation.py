"""wsrec.writer.allocation: the columns of a row group are written to the pages of the one before."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# row groups of 16 arrays of 1 to 3.6 MB, all freed before the next: how many page faults all but the first take
_ROW_GROUPS = """
import resource, sys
import numpy as np
from wsrec.writer.allocation import keep_memory

if sys.argv[1] == "kept":
    keep_memory()
faults, sizes = [], np.random.default_rng(1)
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.full(int(sizes.integers(100_000, 450_000)), 1, np.int64) for _ in range(16)]
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    held = None
print(sum(faults[1:]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_used_again() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", _ROW_GROUPS, way], capture_output=True, check=True).stdout)
        for way in ("kept", "given back")
    )
    assert kept < given_back / 10, (kept, given_back)
