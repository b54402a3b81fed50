"""The engine that `--jobs` and `--spark` ask for."""

from __future__ import annotations

from wsrec.engine.processes import Processes
from wsrec.engine.work import Engine, InProcess
from wsrec.options.engine import EngineOptions


def engine_for(options: EngineOptions, module: str | None = None) -> Engine:
    """The engine of these options, to be used as a context manager.

    Args:
        options: the options.
        module: the module of the function that it will run, which worker processes import at once.

    Raises:
        EngineError: entering it: Spark is not installed, or its cluster cannot be used.

    """
    if options.spark is not None:
        # Spark is an extra
        from wsrec.engine.spark import Spark

        return Spark(options.spark)
    return InProcess() if options.jobs == 1 else Processes(options.jobs, module)
