"""A real Apache Spark cluster on loopback: a master and workers, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_LIMIT = 90
# none of them lives long enough for more
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def require_spark() -> None:
    """Skip without pyspark or Java."""
    try:
        import pyspark  # noqa: F401
    except ModuleNotFoundError:
        pytest.skip("pyspark is not installed: pip install 'wsrec[spark]'")
    java = Path(os.environ.get("JAVA_HOME", "/nowhere"), "bin/java")
    if shutil.which("java") is None and not java.exists():
        pytest.skip("Java is not installed: apt-get install openjdk-17-jre-headless")


class Cluster:
    """A master, and workers with a processor each.

    Attributes:
        url: of the master.
        environment: for the processes that use it.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        conf = folder / "conf"
        conf.mkdir()
        self._log = folder / "events"
        self._log.mkdir()
        settings = (
            "spark.eventLog.enabled true",
            f"spark.eventLog.dir {self._log.as_uri()}",
            "spark.eventLog.compress false",
            "spark.eventLog.rolling.enabled false",
            "spark.executor.memory 512m",
            "spark.driver.memory 512m",
            f"spark.executor.extraJavaOptions {_JAVA}",
        )
        (conf / "spark-defaults.conf").write_text("\n".join(settings))
        self.environment = {
            **os.environ,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_CONF_DIR": str(conf),
            "SPARK_DAEMON_MEMORY": "128m",
            "SPARK_DAEMON_JAVA_OPTS": f"-Dspark.master.rest.enabled=false {_JAVA}",
            "SPARK_SUBMIT_OPTS": _JAVA,
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._workers = 0
        self.url = ""

    def start(self) -> None:
        """Start the master, and wait for it: an application waits for workers itself."""
        self._start("Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        self.url = self._line("Master", r"Starting Spark master at (spark://127\.0\.0\.1:\d+)")

    def start_workers(self, count: int) -> None:
        """Start workers until so many run."""
        while len(self._processes) < count + 1:
            self._start_worker()

    def _start_worker(self) -> None:
        self._workers += 1
        name = f"Worker-{self._workers}"
        place = ("--work-dir", str(self._folder / name), "--webui-port", "0", "--cores", "1", "--memory", "600m")
        self._start("Worker", "--host", "127.0.0.1", *place, self.url, log=name)

    def kill_worker(self) -> None:
        """Kill the last worker with all that it started, as a machine that fails."""
        worker = self._processes.pop()
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def kill_worker_at_work(self) -> None:
        """Kill the last worker in the middle of its first task.

        Its first Python process is one that a task waits for; it is stopped before that can go on.
        """
        deadline = time.monotonic() + _LIMIT
        while not (working := self._working()):
            assert time.monotonic() < deadline, "no task came to the last worker"
            time.sleep(0.005)
        for pid in working:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        self.kill_worker()

    def lost_tasks(self) -> set[str]:
        """The executors that were lost while a task ran on them, by the log of the applications that ended."""
        found = set()
        for log in self._log.iterdir():
            for line in log.read_text().splitlines():
                event = json.loads(line)
                if event.get("Task End Reason", {}).get("Reason") == "ExecutorLostFailure":
                    found.add(f"{log.name} {event['Task End Reason']['Executor ID']}")
        return found

    def _working(self) -> list[int]:
        """The Python processes of the last worker's executors."""
        group = self._processes[-1].pid
        found = []
        for status in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"pyspark.daemon" in (status / "cmdline").read_bytes() and os.getsid(int(status.name)) == group:
                    found.append(int(status.name))
        return found

    def stop(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, role: str, *arguments: str, log: str = "") -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        command = [home / "bin/spark-class", f"org.apache.spark.deploy.{role.lower()}.{role}", *arguments]
        with (self._folder / f"{log or role}.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**self.environment, "SPARK_HOME": str(home)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)

    def _line(self, log: str, pattern: str) -> str:
        """Wait for a line of a log, and return its group."""
        path = self._folder / f"{log}.log"
        deadline = time.monotonic() + _LIMIT
        while True:
            found = re.search(pattern, path.read_text())
            if found is not None:
                return found[1]
            assert self._processes[-1].poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.05)


@contextlib.contextmanager
def spark_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster without workers, until the end of the block."""
    require_spark()
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
