"""scripts/autobahn: a few cases of each section of the Autobahn|Testsuite; all of them are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = "1.1.6,1.2.6,2.5,2.10,3.2,4.1.3,5.6,5.15,6.2.3,6.3.1,6.4.1,7.1.5,7.3.1,7.7.1,7.9.1,9.1.1,9.3.1,10.1.1,12.1.1"


@pytest.mark.timeout(600)
@pytest.mark.long
@pytest.mark.parametrize("tls", [(), ("--tls", "direct")], ids=["plain", "direct"])
def test_a_few_cases_of_each_section_pass(tls: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.client.autobahn", "--cases", CASES, *tls],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        cwd=ROOT,
    )
    if result.returncode == 2:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].split()[0] == "all"
