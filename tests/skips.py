"""Reports what a run could not test, one line per reason. Under `CI=true` an unexpected skip fails the run.

Loaded by tests/conftest.py. Anyone who skips a test gives a reason; one that CI cannot mend is listed in `EXPECTED`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict

import pytest

from tests.conftest import SHARED_DATA

# real messages, sessions and recordings of exchanges, which are not the project's to publish
_NEEDS_DATA = re.compile(r"beside the project|/shared\b")
EXPECTED = {
    r"root may (read|write) every": "CI runs as root, whom no permission stops",
    r"the kernel has no TLS": "a container cannot load the module; an emulated machine runs them (--long)",
    r"this machine's kernel does decrypt TLS": "the counterpart of the tests that need it",
    r"this OpenSSL receives TLS 1\.3 in the kernel": "the counterpart of a test for older ones",
    r"the compiled core reads its clock itself": "for the Python implementation alone",
    r"no trusted counter here": "a virtual machine may hide the processor's counter",
    r"systemd-analyze is not installed": "containers have no systemd",
    r"netem": "the kernel has no network emulation",
    r"no group of ours": "a container may not make control groups",
    r"no segments can be captured here": "a container may not have CAP_NET_RAW",
    r"no TUN device here": "a container may have no /dev/net/tun",
    r"not a git checkout": "an exported tree has no history to copy from",
}
"""Reason (a regular expression) to why no machine of CI can do without it."""


UNEXPECTED = 6
"""Exit status of a run with unexpected skips, whatever failed besides: running tests again does not mend it."""


class SkipReport:
    """Collects the skips of a run, prints a line for each reason, and judges them."""

    def __init__(self) -> None:
        self._tests: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test; an expected failure (`xfail`) is none."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a skipped file."""
        if report.skipped:
            self._note(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run of CI with unexpected skips."""
        if self.unexpected() and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            session.exitstatus = UNEXPECTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was not tested."""
        unexpected = self.unexpected()
        data = {reason: tests for reason, tests in self._tests.items() if _NEEDS_DATA.search(reason)}
        if data:
            count = len(set().union(*data.values()))
            terminalreporter.write_line(
                f"not tested: {count} that need real messages, which are not beside the project: {SHARED_DATA}"
            )
        for reason, tests in sorted(self._tests.items()):
            if reason not in data:
                verdict = " [unexpected here: fails the run]" if reason in unexpected else ""
                terminalreporter.write_line(f"not tested: {len(tests)} in {_files(tests)}: {reason}{verdict}")

    def unexpected(self) -> set[str]:
        """The reasons that fail this run: none outside CI."""
        if os.environ.get("CI") != "true":
            return set()
        expected = "|".join(filter(None, [*EXPECTED, os.environ.get("WSREC_EXPECTED_SKIPS")]))
        if not SHARED_DATA.exists():
            expected += f"|{_NEEDS_DATA.pattern}"
        return {reason for reason in self._tests if not re.search(expected, reason)}

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self._tests[reason.removeprefix("Skipped: ")].add(report.nodeid)


def _files(tests: set[str]) -> str:
    files = sorted({test.partition("::")[0].removeprefix("tests/") for test in tests})
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def pytest_configure(config: pytest.Config) -> None:
    """Judge skips once: where the tests run in several processes, in the one that reports."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipReport(), "skip-report")
