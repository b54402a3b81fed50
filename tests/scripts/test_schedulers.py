"""scripts/crontab.example and scripts/systemd: their commands really run, as cron and systemd run them."""

from __future__ import annotations

import asyncio
import configparser
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import messages_of
from wsrec.format.lock import OutputLock
from wsrec.shutdown import worst_case
from wsrec.supervise.outcome import ExitStatus

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
CRONTAB = (SCRIPTS / "crontab.example").read_text().splitlines()
ENTRIES = [line for line in CRONTAB if re.match(r"[\d*]", line)]
SETTINGS = dict(line.split("=", 1) for line in CRONTAB if re.match(r"[A-Z]+=", line))
UNITS = sorted((SCRIPTS / "systemd").iterdir())
RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


async def ticks(connection) -> None:
    for number in range(1_000_000):
        await connection.send(f"tick {number}")
        await asyncio.sleep(0.01)


@pytest.fixture
def binaries(tmp_path) -> Path:
    """A folder with a `wsrec`, as an installation has it."""
    path = tmp_path / "bin" / "wsrec"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m wsrec "$@"\n')
    path.chmod(0o755)
    return path.parent


class Cron:
    """Runs a line of a crontab as cron(8) does: /bin/sh, nearly no environment, no terminal, the home as folder."""

    def __init__(self, home: Path, binaries: Path, url: str) -> None:
        self.home, self._binaries, self._url = home, binaries, url

    def run(self, entry: str) -> subprocess.CompletedProcess[str]:
        command = entry.split(None, 5)[5]
        command = re.sub(r"record \S+", f"record {self._url}", command).replace("/data", str(self.home))
        if "--until" in command:
            # a busy machine takes its time to start
            moment = f"{datetime.now(UTC) + timedelta(seconds=12):%Y-%m-%dT%H:%M:%SZ}"
            command = re.sub(r"--until \S+", f"--until {moment}", command)
        else:
            command += " --duration 4s"
        path = SETTINGS["PATH"].replace("/opt/wsrec/bin", str(self._binaries))
        return subprocess.run(
            ["/bin/sh", "-c", command],
            env={"HOME": str(self.home), "LOGNAME": "ops", "SHELL": "/bin/sh", "PATH": path},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def cron(exchange, tmp_path, binaries) -> Cron:
    home = tmp_path / "home"
    home.mkdir()
    return Cron(home, binaries, exchange(ticks).url)


class TestCrontab:
    @pytest.mark.parametrize("entry", ENTRIES)
    def test_when_it_runs_is_a_time_of_cron_s(self, entry):
        for field, (least, most) in zip(entry.split()[:5], RANGES, strict=True):
            for part in field.split(","):
                match = re.fullmatch(r"(\*|(\d+)(-(\d+))?)(/\d+)?", part)
                assert match
                assert all(least <= int(number) <= most for number in (match[2], match[4]) if number)
        assert not re.search(r"(?<!\\)%", entry)

    @pytest.mark.long
    @pytest.mark.parametrize("entry", ENTRIES)
    def test_it_records_and_says_nothing(self, cron, entry):
        result = cron.run(entry)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        (out,) = {path.parent for path in cron.home.rglob("messages")}
        assert len(messages_of(out)) > 10

    def test_one_that_finds_the_folder_held_says_nothing_either(self, cron):
        with OutputLock(cron.home / "binance"):
            result = cron.run(ENTRIES[0])
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    @pytest.mark.long
    def test_trouble_is_reported(self, cron, tmp_path, binaries):
        without = Cron(cron.home, binaries, "ws://localhost:1/")
        result = without.run(ENTRIES[0])
        assert (result.returncode, result.stdout) == (1, "")
        assert "localhost:1" in result.stderr
        (cron.home / "binance-usdm").write_text("no folder")
        result = cron.run(ENTRIES[2])
        assert result.returncode == 2
        assert "binance-usdm" in result.stderr


class TestSystemd:
    @pytest.fixture
    def unit(self) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(SCRIPTS / "systemd" / "wsrec@.service")
        return parser

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
    def test_systemd_takes_the_units(self, tmp_path, binaries):
        for path in UNITS:
            (tmp_path / path.name).write_text(path.read_text().replace("/opt/wsrec/bin", str(binaries)))
        names = [str(tmp_path / path.name.replace("@", "@binance")) for path in UNITS]
        result = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout + result.stderr) == (0, "")

    def test_it_waits_longer_than_the_recorder_does(self, unit):
        # a margin for the kernel to end what is killed, and for a busy machine
        assert int(unit["Service"]["TimeoutStopSec"]) >= worst_case() + 30
        assert (unit["Service"]["KillSignal"], unit["Service"]["KillMode"]) == ("SIGTERM", "mixed")

    def test_it_knows_the_exit_status(self, unit):
        assert unit["Service"]["SuccessExitStatus"].split() == [str(ExitStatus.NOTHING), str(ExitStatus.GAPS)]
        assert unit["Service"]["RestartPreventExitStatus"].split() == [
            str(ExitStatus.USAGE),
            str(ExitStatus.UNREADABLE),
        ]

    @pytest.mark.long
    def test_its_command_records(self, unit, exchange, tmp_path, binaries):
        command = unit["Service"]["ExecStart"].replace("/opt/wsrec/bin", str(binaries))
        assert command.count("%i") == 2
        command = command.replace("record %i", f"record {exchange(ticks).url}").replace("/var/lib/wsrec/%i", "state")
        result = subprocess.run(
            shlex.split(command),
            env={"PATH": "/usr/bin:/bin", "WSREC_RECORD_DURATION": "2s"},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert len(messages_of(tmp_path / "state")) > 10
        assert "\x1b" not in result.stdout + result.stderr
