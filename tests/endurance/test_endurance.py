"""A few rounds of the kill matrix, a short soak and some connections: scripts/kill-matrix, soak and many have more."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.endurance import kill_matrix, many, soak


def may_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("victim", "phase"),
    [
        pytest.param("all", "recovering", marks=pytest.mark.long),
        pytest.param("supervisor+receiver", "streaming", marks=pytest.mark.long),
        pytest.param("receiver", "streaming", marks=pytest.mark.long),
        pytest.param("supervisor+writer", "finishing", marks=pytest.mark.long),
        pytest.param("writer", "rotating", marks=pytest.mark.long),
        pytest.param("writer", "finishing", marks=pytest.mark.long),
        pytest.param("receiver", "connecting", marks=pytest.mark.long),
    ],
)
def test_nothing_is_lost_beyond_the_bound(victim, phase):
    (result,) = kill_matrix.run(1, 2000, 1, victims=[victim], phases=[phase])
    assert result.faults == ()
    # the end may come before the kill
    assert result.killed >= 1 or phase == "finishing"


@pytest.mark.skipif(not may_mount(), reason="needs root that may mount and drop capabilities")
@pytest.mark.parametrize("phase", ["disk full", "forbidden"])
@pytest.mark.long
def test_nor_while_the_output_cannot_be_written(phase):
    (result,) = kill_matrix.run(1, 2000, 1, victims=["writer"], phases=[phase])
    assert result.faults == ()


@pytest.mark.long
def test_every_message_of_a_short_soak_is_accounted_for(tmp_path):
    lines: list[str] = []
    report = soak.soak(tmp_path, seconds=40, rate=1000, every=6, rotate="10s", seed=1, say=lines.append)
    assert [fault for one in report for fault in one["faults"]] == [], "\n".join(lines)
    assert all(one["recorded"] for one in report)


@pytest.mark.long
def test_many_connections_share_their_memory_and_end_in_order(tmp_path):
    result = many.run(tmp_path, 60, tls=True, seconds=1, rate=300, burst=(100, 60))
    assert result.faults == ()
    assert result.sent == result.recorded >= 6000
    # with rings of 8 MiB they alone would take more
    assert sum(result.pss_end.values()) < 60 * 8 << 20
    # each of them has a ring and a socket
    assert result.descriptors["receiver"] >= 120
