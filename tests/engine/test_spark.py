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

import pytest
from click.testing import CliRunner

from tests.capture_files import Capture, message_columns
from tests.engine import work
from tests.spark_cluster import Cluster, spark_cluster
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
    """100 files of four sessions, one of them damaged."""
    capture = Capture(tmp_path_factory.mktemp("capture") / "out")
    for number in range(FILES):
        columns = message_columns(ROWS, seed=number, first_seq=number // 4 * ROWS)
        columns |= {"channel": ["trade"] * ROWS, "text": [_trade(number, row) for row in range(ROWS)]}
        events = [{"time": 7 + number, "kind": "stall", "conn": 0, "detail": {"duration_ns": number}}]
        capture.write(columns, session=f"20261122T130000Z-a{number % 4}", events=events)
    damaged = sorted(capture.out.glob("messages/**/*.parquet"))[50]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:300] + bytes(60) + content[360:])
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


EXPORT = ("export", "out", "--tables", "trades", "--out", "tables", "--json")
BOTH = f"""
import contextlib, sys
from click.testing import CliRunner
from wsrec.cli import export, verify
from wsrec.engine.spark import Spark

with Spark(sys.argv[1]) as engine:
    for command in (verify, export):
        command.engine_for = lambda options: contextlib.nullcontext(engine)
    for command, words in (verify.verify, ("out", "--json", "--again")), (export.export, {EXPORT[1:]}):
        print(CliRunner().invoke(command, words, prog_name="wsrec").stdout, end="")
"""


def run(command: list[str], cluster: Cluster, cwd: Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=cluster.environment, stdout=pipe, stderr=pipe)


def wsrec(cluster: Cluster, *arguments: object, cwd: Path) -> subprocess.Popen[bytes]:
    return run([sys.executable, "-P", "-m", "wsrec", *map(str, arguments)], cluster, cwd)


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    out, err = process.communicate(timeout=240)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out


@pytest.mark.long
class TestCluster:
    def test_same_bytes_as_one_process(self, cluster: Cluster, out: Path) -> None:
        """Both in one application, with relative paths, which are those of the caller's folder."""
        expected = outcome(wsrec(cluster, "verify", "out", "--json", "--again", cwd=out.parent))
        of_export = outcome(wsrec(cluster, *EXPORT, cwd=out.parent))
        written = files(out.parent / "tables")
        assert len(written) == FILES - 1
        shutil.rmtree(out.parent / "tables")
        with run([sys.executable, "-c", BOTH, cluster.url], cluster, out.parent) as process:
            assert outcome(process) == (0, b"".join((expected[1], of_export[1])))
        assert files(out.parent / "tables") == written
        assert len(expected[1]) > 1000

    def test_same_bytes_if_a_worker_is_killed_in_the_middle(self, cluster: Cluster, out: Path) -> None:
        command = "report", "out", "--json"
        expected = outcome(wsrec(cluster, *command, cwd=out.parent))
        with wsrec(cluster, *command, "--spark", cluster.url, cwd=out.parent) as process:
            deadline = time.monotonic() + 120
            while not cluster.working():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            cluster.kill_worker()
            assert process.poll() is None
            assert outcome(process) == expected
        assert len(expected[1]) > 1000


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
