"""`--spark`: what a real cluster makes of 100 files is what one process does, also where a worker is killed."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner

from tests.capture_files import Capture, message_columns
from tests.engine import work
from tests.order_books.book_capture import opened, record
from tests.order_books.small_books import START, message, small_feed, snapshot
from tests.spark_cluster import Cluster, spark_cluster
from wsrec.cli.main import main
from wsrec.engine import spark
from wsrec.engine.spark import _OnWorker, _reason
from wsrec.engine.work import EngineError, Failure, Item

FILES, ROWS = 100, 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with spark_cluster(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 files of four sessions, one of them damaged; and in `books` 100 files of ten sessions of a book."""
    folder = tmp_path_factory.mktemp("capture")
    capture = Capture(folder / "out")
    for number in range(FILES):
        columns = message_columns(ROWS, seed=number, first_seq=number // 4 * ROWS)
        columns |= {"channel": ["trade"] * ROWS, "text": [_trade(number, row) for row in range(ROWS)]}
        events = [{"time": 7 + number, "kind": "stall", "conn": 0, "detail": {"duration_ns": number}}]
        capture.write(columns, session=f"20261122T130000Z-a{number % 4}", events=events)
    damaged = sorted(capture.out.glob("messages/**/*.parquet"))[50]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:300] + bytes(60) + content[360:])
    for number in range(10):
        entries = [*opened(START, ["book.A"]), snapshot(1, 10)]
        entries += [message(n, 9 + n + (n > 30), {n % 9 + 1: n % 4}) for n in range(2, 60)]
        session = f"20261122T13000{number}Z-a"
        record(folder / "books", small_feed(), entries, "book", "A", files=FILES // 10, session=session)
    return capture.out


def _trade(number: int, row: int) -> str:
    trade = {
        "e": "trade",
        "E": 1795352400123 + row,
        "s": "BTCUSDT",
        "t": number * ROWS + row,
        "p": f"{60_000 + row / 100}",
    }
    return json.dumps({"stream": "btcusdt@trade", "data": {**trade, "q": "0.1", "T": 1795352400123 + row, "m": True}})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = {
    "report": ("report", "out", "--json"),
    "verify": ("verify", "out", "--json", "--again"),
    "export": ("export", "out", "--tables", "trades", "--out", "tables", "--json"),
    "book": ("book", "books", "--json"),
}

APPLICATION = """
import contextlib, importlib, io, json, sys, time
from wsrec.cli.main import main
from wsrec.engine.spark import Spark

with Spark(sys.argv[1]) as engine:
    for name in ("wsrec.cli.report", "wsrec.cli.verify", "wsrec.cli.export", "wsrec.order_books.books"):
        importlib.import_module(name).engine_for = lambda *_: contextlib.nullcontext(engine)
    for line in sys.stdin:
        command, workers = json.loads(line)
        # beside this process
        while len(engine._context.statusTracker().getExecutorInfos()) - 1 < workers:
            time.sleep(0.05)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                main([*command, "--spark", sys.argv[1]])
            except SystemExit as end:
                status = end.code
        print(json.dumps([status, printed.getvalue()]), flush=True)
"""


class Application:
    """A Spark application that runs commands one after the other.

    Args:
        cluster: where it runs.
        cwd: the folder of the commands.

    """

    def __init__(self, cluster: Cluster, cwd: Path) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", APPLICATION, cluster.url]
        self._process = subprocess.Popen(
            command, cwd=cwd, env=cluster.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def give(self, command: tuple[str, ...], workers: int = 2) -> None:
        """Have it run a command once it has so many workers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, workers]) + "\n")
        self._process.stdin.flush()

    def outcome(self) -> tuple[int, str]:
        """Exit status and output of the command."""
        assert self._process.stdout is not None
        status, printed = json.loads(self._process.stdout.readline())
        return status, printed

    def notice(self, words: str) -> None:
        """Wait for a line on standard error."""
        assert self._process.stderr is not None
        said = []
        while words not in (line := self._process.stderr.readline()):
            assert line, "".join(said)
            said.append(line)

    def end(self) -> None:
        """Have it end in order."""
        _, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def written(folder: Path) -> dict[str, bytes]:
    """What `export` wrote, which is deleted."""
    tables = folder / "tables"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in tables.rglob("*") if path.is_file()}
    shutil.rmtree(tables, ignore_errors=True)
    return found


@pytest.mark.long
def test_on_a_cluster_all_commands_give_the_bytes_of_one_process_also_if_workers_are_killed(
    cluster: Cluster, out: Path
) -> None:
    """Each command with a worker killed in the middle of a task, and with all alive; one begins without workers.

    The paths are relative: those of the caller's folder.
    """
    folder, expected = out.parent, {}
    with Application(cluster, folder) as application:
        application.give(COMMANDS["report"], workers=0)
        with contextlib.chdir(folder):
            for name, command in COMMANDS.items():
                result = CliRunner().invoke(main, command)
                expected[name] = (result.exit_code, result.stdout), written(folder)
                assert len(result.stdout) > 300
        assert len(expected["export"][1]) == FILES - 1
        application.notice("no worker has taken the work yet")
        cluster.start_workers(2)
        for name, command in COMMANDS.items():
            if name != "report":
                application.give(command)
            cluster.kill_worker_at_work()
            cluster.start_workers(2)
            assert (application.outcome(), written(folder)) == expected[name], f"{name}, killed"
        for name, command in COMMANDS.items():
            application.give(command)
            assert (application.outcome(), written(folder)) == expected[name], name
        application.end()
    # each of those that were killed had a task then
    assert len(cluster.lost_tasks()) == len(COMMANDS)


class TestOnWorker:
    """What a worker does before it reads, as far as it needs no Spark."""

    def test_a_file_that_it_does_not_see(self, tmp_path: Path) -> None:
        (tmp_path / "here").write_text("1")
        item = Item(files=("here", "gone"))
        with contextlib.chdir("/"):
            failure = _OnWorker(work.read, str(tmp_path))(item)
        assert isinstance(failure, Failure)
        assert failure.message.startswith(f"{tmp_path}/gone: not visible to the Spark worker on ")
        assert "under the same path" in failure.message

    def test_relative_paths_are_the_callers(self, tmp_path: Path) -> None:
        (tmp_path / "here").write_text("1")
        with contextlib.chdir("/"):
            assert _OnWorker(work.read, str(tmp_path))(Item(files=("here",))) == ["1"]

    def test_another_version_of_wsrec(self, tmp_path: Path) -> None:
        sent = _OnWorker(work.read, str(tmp_path))
        sent._version = "0.0.1"
        failure = sent(Item(files=()))
        assert isinstance(failure, Failure)
        assert "has wsrec" in failure.message
        assert "this is 0.0.1: install the same version" in failure.message


class TestReasons:
    """What is told of the many lines of an error of Spark's."""

    JAVA = "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n: "

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext.\nAt:\n", "IllegalStateE"),
            (
                "org.apache.spark.SparkException: Job 0 cancelled\n\tat org.apache.X: y",
                "SparkException: Job 0 cancelled",
            ),
            ("x.PythonException: Traceback:\n  File\nKeyError: 'a'\n SQLSTATE: 38000\n\tat org.x", "KeyError: 'a'"),
            ("x.PythonException: \nModuleNotFoundError: No module named 'wsrec'\n", "the workers' Python has no wsrec"),
        ],
    )
    def test_the_line_that_says_why(self, said: str, told: str) -> None:
        assert _reason(RuntimeError(self.JAVA + said)).startswith(told)


class TestSlowness:
    def test_what_is_waited_for_is_told_again_and_again(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spark, "_PATIENCE", 0.01)
        monkeypatch.setattr(spark, "_REPEAT", 0.01)
        asked: list[int] = []

        def waits_for() -> str | None:
            asked.append(1)
            return "no worker yet" if len(asked) < 3 else None

        with spark._notice_if_slow("spark://h:1", waits_for):
            deadline = time.monotonic() + 20
            while len(asked) < 5:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        count = len(asked)
        assert capsys.readouterr().err == "wsrec: spark://h:1: no worker yet\n" * 2
        time.sleep(0.05)
        assert len(asked) == count

    def test_where_spark_is_in_this_process_there_is_no_worker_to_wait_for(self) -> None:
        assert spark.Spark("local[2]")._waits_for() is None
        assert spark.Spark("local[2]")._connects_to() is None
        assert "address of a Spark master" in str(spark.Spark("spark://h:1")._connects_to())


class TestAddress:
    def test_nothing_listens(self, capture: Capture) -> None:
        """Said without starting Java, and once."""
        pytest.importorskip("pyspark")
        capture.write(message_columns(3))
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        command = importlib.import_module("wsrec.cli.report").report
        result = CliRunner().invoke(command, [str(capture.out), "--spark", f"spark://127.0.0.1:{port}"])
        assert (result.exit_code, result.stdout) == (66, "")
        (line,) = result.stderr.splitlines()
        assert f"spark://127.0.0.1:{port}: cannot be connected to (127.0.0.1:{port}: Connection refused)" in line
        assert "is the cluster's master running?" in line

    def test_one_of_several_masters_is_enough(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as there:
            spark._check_address(f"spark://127.0.0.1:{port},127.0.0.1:{there.getsockname()[1]}")
        spark._check_address("local[2]")
        with pytest.raises(EngineError, match=r"cannot be connected to .127.0.0.1:99999: "):
            spark._check_address("spark://127.0.0.1:99999")


class TestWithoutIt:
    def test_no_pyspark(self, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        capture.write(message_columns(3))
        monkeypatch.setitem(sys.modules, "pyspark", None)
        command = importlib.import_module("wsrec.cli.report").report
        result = CliRunner().invoke(command, [str(capture.out), "--spark", "spark://127.0.0.1:1"])
        assert (result.exit_code, result.stdout) == (66, "")
        assert "--spark needs pyspark" in result.stderr
        assert "pip install 'wsrec[spark]'" in result.stderr
