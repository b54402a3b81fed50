"""The engine of `--spark`: items as the partitions of one RDD, results in their order.

Spark does what it is for: it schedules, repeats what a lost worker had in hand, ships functions and results, and shows
its own progress. What is added here is only what belongs to wsrec: a worker that lacks a file or has another version of
wsrec says so, and the caller's current folder counts for relative paths.

RDDs, not `DataFrame.mapInArrow`: that would have pandas in this process. Rows need neither, as functions read and write
Parquet themselves, and results are few.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from wsrec.engine.work import EngineError, Failure, Item, Progress, attempt
from wsrec.pandas_blocker import block_pandas
from wsrec.units import system_error
from wsrec.version import __version__

R = TypeVar("R")

_INSTALL = "pip install 'wsrec[spark]' (in a clone: '.[spark]')"
_STANDALONE = "spark://"
_IS_IT_ONE = "is that the address of a Spark master, of the same major version?"
# items of large results for each processor at a time, and as many on the way
_WAVE = 2
# seconds for a connection; until a notice, and the next; at the start Java is started, too
_TIMEOUT = 5.0
_PATIENCE, _REPEAT = 10.0, 60.0
_PATIENCE_AT_START = 20.0


class Spark:
    """A Spark application on a cluster, started by `with` and ended with it.

    Spark's own settings come from where Spark looks for them: `spark-defaults.conf` in SPARK_CONF_DIR, and its
    environment variables. PYSPARK_PYTHON is the workers' interpreter, if it is not at the path of this one.

    Args:
        master: the cluster's master URL.

    """

    parallelism = 1

    def __init__(self, master: str) -> None:
        self._master = master
        self._context: Any = None

    def __enter__(self) -> Self:
        try:
            from pyspark import SparkConf, SparkContext
            from pyspark.errors import PySparkException
        except ModuleNotFoundError as error:
            raise EngineError(f"--spark needs pyspark ({error}): {_INSTALL}") from error
        # pyspark would take the workers' first `python3`
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        conf = SparkConf().setMaster(self._master).setAppName("wsrec")
        for key, value in _settings().items():
            conf.setIfMissing(key, value)
        _check_address(self._master)
        try:
            with _notice_if_slow(self._master, self._connects_to, _PATIENCE_AT_START):
                self._context = SparkContext(conf=conf)
        except PySparkException as error:
            hint = "; Spark needs Java 17 or later: JAVA_HOME, or `java` in PATH" if "JAVA" in str(error) else ""
            raise EngineError(f"{self._master}: {_first_line(error).rstrip('.')}{hint}") from error
        except Exception as error:
            raise EngineError(f"{self._master}: {_reason(error)}") from error
        # the master names what it accepts; Spark gives up after a minute, without an error
        if self._master.startswith(_STANDALONE) and not self._context.applicationId.startswith("app-"):
            self.__exit__(None, None, None)
            raise EngineError(f"{self._master}: Spark gave up after its attempts to connect: {_IS_IT_ONE}")
        self.parallelism = max(self._context.defaultParallelism, 2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context is not None:
            self._context.stop()
            self._context = None

    def map(
        self,
        function: Callable[[Any], R],
        items: Sequence[Item],
        progress: Progress | None = None,
        *,
        large: bool = False,
    ) -> Iterator[R]:
        """As `wsrec.engine.work.Engine.map`; progress is Spark's own."""
        wave = _WAVE * self.parallelism if large else len(items)
        waves = [items[begin : begin + wave] for begin in range(0, len(items), wave or 1)]
        for result in self._results(function, waves):
            if isinstance(result, Failure):
                raise result.raised()
            yield result

    def _results(self, function: Callable[[Any], R], waves: Sequence[Sequence[Item]]) -> Iterator[R | Failure]:
        """The results of the waves; the cluster works on the next one while those of one are used."""
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._collect, function, waves[0] if waves else ())
            try:
                for some in [*waves[1:], ()]:
                    results, following = following.result(), ahead.submit(self._collect, function, some)
                    yield from results
            except BaseException:
                with contextlib.suppress(Exception):
                    self._context.cancelAllJobs()
                raise

    def _collect(self, function: Callable[[Any], R], items: Sequence[Item]) -> list[R | Failure]:
        """The results of some items, all at once."""
        if not items:
            return []
        try:
            with _notice_if_slow(self._master, self._waits_for):
                parts = self._context.parallelize(list(items), len(items))
                found: list[R | Failure] = parts.map(_OnWorker(function, str(Path.cwd()))).collect()
        except Exception as error:
            raise EngineError(f"{self._master}: {_reason(error)}") from error
        return found

    def _connects_to(self) -> str | None:
        """What is waited for at the start; None if it is no standalone master."""
        return f"no answer yet: {_IS_IT_ONE}" if self._master.startswith(_STANDALONE) else None

    def _waits_for(self) -> str | None:
        """What the cluster waits for; None if a worker is at work, or may be."""
        # the first one is this process, which is all of them where Spark is in it
        if self._master.startswith("local") or len(self._context.statusTracker().getExecutorInfos()) > 1:
            return None
        return (
            "no worker has taken the work yet: are workers registered with the master, with free processors, and the "
            "memory that spark.executor.memory asks for (1 GiB, if nothing else is set)?"
        )


class _OnWorker(Generic[R]):
    """The function as a worker runs it."""

    def __init__(self, function: Callable[[Any], R], folder: str) -> None:
        self._function, self._folder = function, folder
        self._version = __version__

    def __call__(self, item: Item) -> R | Failure:
        block_pandas()
        here = f"the Spark worker on {socket.gethostname()}"
        if self._version != __version__:
            return Failure(f"{here} has wsrec {__version__}, this is {self._version}: install the same version", "")
        with contextlib.suppress(OSError):
            # not there: its files will not be, either
            os.chdir(self._folder)
        for file in item.files:
            if not Path(file).exists():
                where = f"not visible to {here}"
                hint = "every worker has to see the capture under the same path (a shared file system)"
                return Failure(f"{Path(self._folder, file)}: {where}; {hint}", "")
        return attempt(self._function, item)


def _check_address(master: str) -> None:
    """Check that a standalone master listens: Spark itself tries for a minute and a half.

    Raises:
        EngineError: none of its addresses can be connected to.

    """
    if not master.startswith(_STANDALONE):
        return
    problems = []
    for address in master.removeprefix(_STANDALONE).split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT).close()
        except (OSError, OverflowError) as error:
            said = (
                f"does not answer within {_TIMEOUT:.0f} s" if isinstance(error, TimeoutError) else system_error(error)
            )
            problems.append(f"{address}: {said}")
        else:
            return
    hint = "is the cluster's master running? its log and its web page state its address"
    raise EngineError(f"{master}: cannot be connected to ({'; '.join(problems)}): {hint}")


@contextlib.contextmanager
def _notice_if_slow(master: str, waits_for: Callable[[], str | None], patience: float | None = None) -> Iterator[None]:
    """Say on standard error what a block waits for, after some seconds and then now and again."""
    done = threading.Event()

    def watch() -> None:
        wait = _PATIENCE if patience is None else patience
        while not done.wait(wait):
            # the application may have ended meanwhile
            with contextlib.suppress(Exception):
                if (words := waits_for()) is not None:
                    sys.stderr.write(f"wsrec: {master}: {words}\n")
            wait = _REPEAT

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _settings() -> dict[str, str]:
    """Settings that neither the user nor the cluster made otherwise."""
    return {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.log.level": "ERROR",
        # numpy's own threads would be more than the cores that Spark gave
        "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
        "spark.executorEnv.OMP_NUM_THREADS": "1",
    }


def _reason(error: Exception) -> str:
    """Why a run failed, from what Spark says in many lines."""
    text = str(error)
    if "No module named 'wsrec" in text:
        return f"the workers' Python has no wsrec: install {__version__} there, or set PYSPARK_PYTHON to one with it"
    if "PYTHON_VERSION_MISMATCH" in text:
        return f"the workers' Python is not {platform.python_version()}, as this is: set PYSPARK_PYTHON"
    # the exception of Python, if there is one, else the first of Java
    told = re.findall(r"^[A-Z]\w*(?:Error|Exception): .*", text, re.MULTILINE)
    java = re.search(r"^: (?:[a-z]\w*\.)*(.+)", text, re.MULTILINE)
    return str(told[-1] if told else java[1] if java else _first_line(error)).strip()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
