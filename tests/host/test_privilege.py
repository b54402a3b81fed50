"""wsrec.host.privilege: what the system refuses is named with its hint, and never an exception."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from wsrec.host import privilege

UNPRIVILEGED = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"


def in_another_process(code: str, before: str = "") -> list[object]:
    """The value of `code`, by way of JSON."""
    code = f"import json, os, resource; from wsrec.host import privilege; {before}\nprint(json.dumps({code}))"
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=99, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class TestInForce:
    def test_reports_the_systems_error(self):
        found = privilege.in_force()
        assert found["cpus"] == sorted(os.sched_getaffinity(0))
        assert found["priority"] == os.sched_getparam(0).sched_priority
        assert found["policy"] in {"other", "fifo", "rr", "batch", "idle"}
        assert found["locked_bytes"] >= 0


class TestPin:
    def test_to_a_processor(self):
        cpu = max(os.sched_getaffinity(0))
        assert in_another_process(f"[privilege.pin({cpu}), privilege.in_force()['cpus']]") == [None, [cpu]]

    @pytest.mark.parametrize("cpu", [-1, 1000, 10**6, 2**40])
    def test_to_one_that_is_not_there(self, cpu):
        before = os.sched_getaffinity(0)
        refusal = privilege.pin(cpu)
        assert refusal.what == f"running on processor {cpu} only"
        assert refusal.reason
        assert str(min(before)) in refusal.hint
        assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give its privileges up")
class TestWithoutPrivileges:
    def test_realtime_is_refused_with_the_hint(self):
        code = "[privilege.realtime(99), privilege.in_force()['policy']]"
        (what, reason, hint), policy = in_another_process(code, UNPRIVILEGED)
        assert what == "SCHED_FIFO priority 99"
        assert reason == "Operation not permitted"
        assert "CAP_SYS_NICE" in hint
        assert "LimitRTPRIO" in hint
        assert policy == "other"

    def test_busy_poll_is_given_or_refused_with_the_hint(self):
        """Kernels differ: socket(7) has CAP_NET_ADMIN for it, newer ones give it to everybody."""
        before = f"import socket; {UNPRIVILEGED}; sock = socket.socket()"
        refusal = in_another_process("privilege.busy_poll(sock, prefer=True)", before)
        if refusal is not None:
            what, reason, hint = refusal
            assert (what, reason) == ("SO_BUSY_POLL", "Operation not permitted")
            assert "CAP_NET_ADMIN" in hint
            assert "net.core.busy_read" in hint

    def test_locking_memory_is_refused_with_the_hint(self):
        limit = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))"
        what, reason, hint = in_another_process("privilege.lock_memory()", f"{limit}; {UNPRIVILEGED}")
        assert what == "locking memory"
        assert reason
        assert "LimitMEMLOCK" in hint


def test_a_process_that_dies_first_says_so_to_the_kernel():
    code = "(privilege.prefer_oom_kill(), open('/proc/self/oom_score_adj').read())"
    _, score = in_another_process(code)
    assert int(score) > 0
