"""`wsrec doctor`, as a user runs it."""

from __future__ import annotations

import json
import os

import pytest

from wsrec.host.processor import interfaces
from wsrec.supervise.doctor import State


class TestDoctor:
    def test_for_people(self, wsrec):
        result = wsrec.run("doctor")
        assert (result.returncode, result.stderr) == (0, "")
        for subject in ("hot path", "stage 1: kernel", "--tls stamped", "clock", "--wait spin", "receive buffer"):
            assert subject in result.stdout

    def test_for_programs(self, wsrec):
        result = wsrec.run("doctor", "--json")
        assert (result.returncode, result.stderr) == (0, "")
        findings = json.loads(result.stdout)
        assert {tuple(finding) for finding in findings} == {("subject", "state", "found", "meaning", "hint")}
        assert {finding["state"] for finding in findings} <= {state.value for state in State}

    def test_a_processor(self, wsrec):
        cpu = min(os.sched_getaffinity(0))
        result = wsrec.run("doctor", "--cpu", cpu, "--json")
        assert f"processor {cpu}: isolation" in [finding["subject"] for finding in json.loads(result.stdout)]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--cpu", "99999"], ["--cpu: found 99999", "expected 0"]),
            (["--cpu", "x"], ["'x'", "2,3"]),
            (["--interface", "nosuch0"], ["no network interface 'nosuch0'"]),
        ],
    )
    def test_wrong_usage(self, wsrec, arguments, words):
        result = wsrec.run("doctor", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        for word in words:
            assert word in result.stderr
        assert "Traceback" not in result.stderr

    def test_an_interface_is_completed(self, wsrec):
        words = {"COMP_WORDS": "wsrec doctor --interface ", "COMP_CWORD": "3", "_WSREC_COMPLETE": "bash_complete"}
        completed = wsrec.run(env={**os.environ, **words}).stdout.split()
        assert completed == [f"plain,{name}" for name in interfaces()]
