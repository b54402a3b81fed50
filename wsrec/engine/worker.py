"""A worker process of `--jobs N`: items in, results out, until the engine hangs up. Run as a module."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from wsrec import parent_death
from wsrec.engine.work import Failure, attempt
from wsrec.pandas_blocker import block_pandas


def main() -> None:
    """Work until the engine hangs up."""
    block_pandas()
    # a worker is for one processor
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with Connection(int(sys.argv[1])) as connection:
        sys.path[:], module = connection.recv()
        if module is not None:
            # otherwise the first item says so
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        while True:
            try:
                result = _result(connection)
                connection.send(result)
            except (EOFError, ConnectionError):
                return


def _result(connection: Connection) -> Any:
    try:
        function, item = connection.recv()
    except (AttributeError, ImportError) as error:
        return Failure(f"a worker process cannot import what it is to run: {error}", traceback.format_exc())
    return attempt(function, item)


if __name__ == "__main__":
    parent_death.hold()
    main()
