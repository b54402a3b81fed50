"""Every command in README.md and docs/ runs, and README and docs/ say what the code says."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
from websockets.asyncio.server import ServerConnection

import wsrec
from tests.capture_files import START, Capture, message_columns
from tests.page_blocks import ELSEWHERE, PAGES, ROOT, commands, would_record
from wsrec.cli.bench import bench
from wsrec.cli.main import main
from wsrec.client.consumer import Message
from wsrec.feed.load import find_feed
from wsrec.format.reading import DERIVED
from wsrec.supervise.outcome import ExitStatus
from wsrec.supervise.status_query import StatusExit
from wsrec.verify.model import Kind, State, VerifyStatus

FEED = """
name: my-exchange
description: A feed of one's own
sockets: {main: {url: "wss://example.com/ws"}}
symbols: {pattern: "[A-Z]+-[A-Z]+", words: letters, example: BTC-USDT}
limits: {connects: 1, connects_interval: 1}
subscribe: {message: '{"ask":{topics}}'}
fields: {channel: [type], symbol: [s]}
channels: {trade: {topic: "{symbol}", default: true}}
default_symbols: [BTC-USDT]
"""
README_RUN = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands take for granted: a capture and a YAML file."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "my-exchange.yaml").write_text(FEED)
    (folder / "trade.json").write_text('{"type": "trade", "s": "BTC-USDT"}')
    (folder / "symbols.txt").write_text("BTC-USDT\n")
    (folder / "run.yaml").write_text(README_RUN)
    record_demo(["record", "demo"], folder)
    for host in ("host-a", "host-b"):
        (folder / host).symlink_to("captures")
    return folder


def run(words: list[str], folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "wsrec", *words]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == status, f"{words}: {result.stderr}"
    return result


def record_demo(words: list[str], folder: Path) -> None:
    """Two seconds of the synthetic market, however long it takes a busy machine to connect to it."""
    command = [sys.executable, "-P", "-m", "wsrec", *words]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        stated = list(itertools.takewhile(lambda line: "connected to" not in line, process.stderr))
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, f"{words}: {''.join(stated)}{errors}"


class TestCommands:
    def test_there_are_some(self):
        assert len(commands()) > 20

    @pytest.mark.parametrize(
        ("page", "command"),
        # the README's always; each starts at least a process
        [case if case[0] == "README.md" else pytest.param(*case, marks=pytest.mark.long) for case in commands()],
    )
    def test_runs(self, page: str, command: str, workplace: Path):
        if command.startswith(ELSEWHERE):
            return
        program, *words = shlex.split(command.removesuffix("&").strip())
        assert program == "wsrec", f"{page}: {command}"
        if words[0] == "replay":
            self.serves(words, workplace)
        elif words[:2] == ["record", "demo"]:
            record_demo(["1h" if word == "10s" else word for word in words], workplace)
        elif words[0] == "record":
            would_record(words[1:], workplace)
        elif words[0] == "status":
            # nothing is being recorded there
            run([word for word in words if word != "--watch"], workplace, status=StatusExit.NOTHING)
        elif words[0] == "bench":
            self.would_measure(words[1:], workplace)
        else:
            run(words, workplace)

    def serves(self, words: list[str], folder: Path) -> None:
        command = [sys.executable, "-P", "-m", "wsrec", *words]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"serving ")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)
            assert process.returncode == 0

    def would_measure(self, words: list[str], folder: Path) -> None:
        """What takes minutes: its options are taken."""
        (folder / "bench.json").touch()
        with contextlib.chdir(folder):
            bench.make_context("bench", list(words))


def programs() -> list[str]:
    """Every program on `wsrec.connect` in the pages."""
    blocks = [re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL) for page in PAGES]
    return [block for found in blocks for block in found if "wsrec.connect(" in block]


class TestPrograms:
    """The programs on `wsrec.connect`, with a server of ours where they name an exchange."""

    PAGE = (ROOT / "docs" / "how-to" / "library.md").read_text()
    PROGRAMS = programs()

    def test_there_are_some(self):
        assert len(self.PROGRAMS) == 7

    @pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
    def test_runs(self, program: str, exchange: Any, ca_file: Path):
        async def handler(connection: ServerConnection) -> None:
            if "SUBSCRIBE" in program:
                assert "btcusdt@trade" in await connection.recv()
            for number in range(3):
                await connection.send(f'{{"e":"trade","n":{number}}}')

        url = exchange(handler, tls=True).url
        program = re.sub(r"wss://[^\"]+", url, program).replace("sleep(10)", "sleep(0.5)")
        command = [sys.executable, "-P", "-u", "-c", program]
        environment = {**os.environ, "SSL_CERT_FILE": str(ca_file)}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            if "async for" in program:
                assert process.stdout is not None
                # of three connections, or of one and those after it
                stated = "".join(process.stdout.readline() for _ in range(12))
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=120)
                assert stated.count('"n":2') >= 3, "it connected again"
                return
            stated, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        read = "MessageFieldReader" in program and stated.count("trade None None None") == 3
        assert stated.count('"n":') == 3 or stated.startswith("3 messages") or read, stated

    def test_its_tables_are_the_librarys(self):
        for name in wsrec.__all__:
            assert hasattr(wsrec, name)
        for member in (name for name in vars(Message) if not name.startswith("_")):
            assert f"`{member}`" in self.PAGE, member
        for member in (name for name in vars(wsrec.Connection) if not name.startswith("_")):
            assert f"connection.{member}" in self.PAGE, member


def readings() -> list[str]:
    """Every program on `wsrec.open_capture` in the pages."""
    blocks = [re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL) for page in PAGES]
    return [block for found in blocks for block in found if "wsrec.open_capture(" in block]


class TestReadings:
    """The programs on `wsrec.open_capture`, on a capture."""

    PAGE = (ROOT / "docs" / "how-to" / "reading.md").read_text()
    READINGS = readings()

    def test_there_are_some(self):
        assert len(self.READINGS) == 10

    @pytest.mark.parametrize("program", READINGS, ids=range(len(READINGS)))
    def test_runs(self, program: str, capture: Capture, monkeypatch: pytest.MonkeyPatch):
        for library in ("duckdb", "polars", "pandas"):
            if library in program or (library == "pandas" and "read_pandas" in program):
                importlib.import_module(library) if os.environ.get("CI") else pytest.importorskip(library)
        for feed in ("demo", "binance"):
            gap = {"time": START, "monotonic": 1, "kind": "gap", "conn": 0}
            about = {"session": f"20261122T130000Z-{feed}", "feed_config": find_feed("binance").public_config()}
            capture.write(message_columns(50), feed=feed, events=[gap], **about)
        (capture.out.parent / "captures").symlink_to(capture.out)
        monkeypatch.chdir(capture.out.parent)
        names: dict[str, Any] = {"__name__": "example"}
        exec(compile(program, "example", "exec"), names)
        read = [value for value in names.values() if hasattr(value, "num_rows") or hasattr(value, "shape")]
        assert all(len(value) for value in read if not isinstance(value, pa.RecordBatch))

    def test_its_tables_are_the_librarys(self):
        for member in (name for name in vars(wsrec.Capture) if not name.startswith("_")):
            assert f"`{member}" in self.PAGE, member
        for member in (*wsrec.SessionInfo._fields, *wsrec.DamagedFile._fields):
            assert f"`{member}`" in self.PAGE, member
        for method in (wsrec.Capture.messages, wsrec.Capture.events):
            for name in list(inspect.signature(method).parameters)[1:]:
                assert f"`{name}`" in self.PAGE, name
        for column in DERIVED:
            assert f"`{column.name}`" in self.PAGE, column.name


def anchors(page: Path) -> set[str]:
    """What a link can name of a page: its headings, as hosts of repositories write them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def texts_of(statuses: type[IntEnum]) -> list[tuple[str, str]]:
    """The names of exit statuses, and the texts below them in their file."""
    return re.findall(r'^    (\w+) = \S+\n    """(.+)"""$', inspect.getsource(statuses), re.MULTILINE)


class TestPages:
    def test_exit_statuses(self):
        page = (ROOT / "docs" / "reference" / "exit-status.md").read_text()
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
        assert [(int(number), name) for number, name, _ in rows] == [(s.value, s.name) for s in ExitStatus]
        assert [(name, text) for _, name, text in rows] == texts_of(ExitStatus)

    def test_words_of_verify(self):
        page = (ROOT / "docs" / "how-to" / "verify.md").read_text()
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
        assert [(int(number), name) for number, name, _ in rows] == [(s.value, s.name) for s in VerifyStatus]
        assert [(name, text) for _, name, text in rows] == texts_of(VerifyStatus)
        words = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
        assert words == [*Kind, *State]

    def test_exit_statuses_of_status(self):
        page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
        assert [(int(number), name) for number, name, _ in rows] == [(s.value, s.name) for s in StatusExit]
        assert [(name, text) for _, name, text in rows] == texts_of(StatusExit)

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
                if not link.startswith("http"):
                    assert (page.parent / link).exists(), f"{page.name}: {link}"

    def test_links_into_a_page_lead_to_a_heading(self):
        for page in PAGES:
            for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text()):
                if not link.startswith("http"):
                    assert anchor in anchors((page.parent / link) if link else page), f"{page.name}: {link}#{anchor}"

    def test_every_command_is_in_the_readme(self):
        text = (ROOT / "README.md").read_text()
        for name in main.list_commands(click.Context(main)):
            assert f"wsrec {name}" in text


class TestCrontab:
    def test_its_commands_are_some(self, workplace: Path):
        lines = (ROOT / "scripts" / "crontab.example").read_text().splitlines()
        commands = [shlex.split(line.split(None, 5)[5]) for line in lines if re.match(r"[\d*]", line)]
        assert commands
        for words in commands:
            words = ["run.yaml" if word == "/etc/wsrec/run.yaml" else word for word in words]
            assert words[:2] == ["wsrec", "record"]
            would_record(words[2:], workplace)
