"""What all tests share: certificates, servers of their own on loopback, the real recordings, and the wsrec command."""

from __future__ import annotations

import gc
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme

from tests.effort import LONG
from tests.exchange import Exchange, Handler
from tests.https import Https
from tests.proxies import ScriptedProxy
from tests.stage_columns import with_stage_times

pytest_plugins = ["tests.capture_files", "tests.real_messages", "tests.rings", "tests.skips"]

SHARED_DATA = Path(__file__).parent.parent.parent / "shared" / "data"
RECORDING = SHARED_DATA / "binance-usdm-btcusdt-20240808.txt.gz"


# a background job of a shell and `nohup` ignore these, and what tests start would inherit that
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)


class Wsrec:
    """The command, as a user runs it."""

    def run(self, *arguments: object, timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False, **options
        )

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    @staticmethod
    def command(*arguments: object) -> list[str]:
        return [sys.executable, "-P", "-m", "wsrec", *map(str, arguments)]


# those that take longest, by a run of each: they begin first, so that none runs on when all others are done
FIRST = (
    "receive/test_machine.py",
    "engine/test_spark.py",
    "scripts/test_wheel.py",
    "test_package.py",
    "endurance/test_endurance.py",
    "supervise/test_restarts.py",
    "supervise/test_recover.py",
    "supervise/test_takeover.py",
    "faults/test_faults.py",
    "faults/test_disk.py",
    "test_docs.py",
    "cli/test_record.py",
    "supervise/test_supervisor.py",
    "receive/test_receiver.py",
    "client/test_autobahn.py",
    "cli/test_bench.py",
    "test_end_to_end.py",
)
# a receiver that polls all the time takes a processor while a test waits; how it differs is tested by
# receive/test_waiting.py and by these classes of receive/test_receiver.py
SPINNING = (
    "receive/test_connection.py",
    "receive/test_liveness.py",
    "receive/test_receiver.py",
    "receive/test_reconnector.py",
    "receive/test_tokens.py",
)
SPINNING_ALWAYS = ("TestRecording", "TestCpu", "TestEnd")


def _parameters(item: pytest.Item) -> set[str]:
    """The parts of an item's id in brackets."""
    return set(item.name.partition("[")[2].rstrip("]").split("-"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those that take longest first, and leave the rest of spinning to long runs."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    spinning = {here / name for name in SPINNING}
    for item in items:
        always = item.parent is not None and item.parent.name in SPINNING_ALWAYS
        if item.path in spinning and not always and not {"spin", "adaptive"}.isdisjoint(_parameters(item)):
            item.add_marker(pytest.mark.long)


def pytest_report_header() -> str | None:
    """Say what a default run leaves out."""
    return None if LONG else "long tests are left out, and a quarter of the examples is tried: scripts/test --long"


def pytest_collection_finish() -> None:
    """Have the collector leave out what is there for good: with thousands of tests each look at it took 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that is not the user's, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


@pytest.fixture
def wsrec() -> Wsrec:
    return Wsrec()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def exchange(authority: trustme.CA) -> Iterator[Any]:
    """Starts exchanges that a handler describes; all are stopped at the end."""
    running: list[Exchange] = []

    def start(handler: Handler, *, tls: bool = False, **options: Any) -> Exchange:
        server = Exchange(handler, authority=authority if tls else None, **options)
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def https(authority: trustme.CA) -> Iterator[Any]:
    """Starts HTTPS servers that answer as a function of the path says; all are stopped at the end."""
    running: list[Https] = []

    def start(answer: Callable[[str], Any]) -> Https:
        running.append(Https(authority, answer))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def scripted_proxy() -> Iterator[Callable[..., ScriptedProxy]]:
    """Starts proxies with scripted answers; all are stopped at the end."""
    running: list[ScriptedProxy] = []

    def start(**options: Any) -> ScriptedProxy:
        running.append(ScriptedProxy(**options))
        return running[-1]

    yield start
    for proxy in running:
        proxy.stop()


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses every connection: bound, so that it stays reserved, but without a listener."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="session")
def real_messages() -> list[bytes]:
    """Every message of the real Binance recording, in order."""
    if not RECORDING.exists():
        pytest.skip(f"the real recording is not here: {RECORDING}")
    with gzip.open(RECORDING) as lines:
        return [line.rstrip(b"\n").split(b" ", 1)[1] for line in lines]


def messages_of(out: Path, **options: Any) -> pa.Table:
    """All message rows below an output folder, in order of `seq`, with the times of their stages."""
    files = sorted((out / "messages").rglob("*.parquet"))
    return with_stage_times(pa.concat_tables([pq.ParquetFile(file).read(**options) for file in files]).sort_by("seq"))


def events_of(out: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """All events below an output folder: the time as ns since the epoch, the detail decoded."""
    rows: list[dict[str, Any]] = []
    for file in sorted((out / "events").rglob("*.parquet")):
        table = pq.ParquetFile(file).read()
        times = table["time"].cast(pa.int64()).to_pylist()
        for row, time in zip(table.drop(["time"]).to_pylist(), times, strict=True):
            rows.append({**row, "time": time, "detail": json.loads(row["detail"])})
    return [row for row in rows if kind is None or row["kind"] == kind]


def received(table: pa.Table) -> list[bytes]:
    """The payloads of the received text and binary messages."""
    rows = table.select(["direction", "opcode", "text", "data"]).to_pylist()
    return [
        row["text"].encode() if row["text"] is not None else row["data"]
        for row in rows
        if row["direction"] == "recv" and row["opcode"] in ("text", "binary")
    ]


os.environ.setdefault("NO_COLOR", "1")
# The tests start wsrec and its children thousands of times: where nothing compiled may be kept, each compiles it all
# anew, which takes half of a start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
