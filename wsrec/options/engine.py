"""Declarations of the options of every command that reads many files: where its work runs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wsrec.options.option import Option
from wsrec.options.value_types import Number, SparkMaster


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a command's work runs; the result is the same."""

    jobs: Annotated[
        int,
        Option("Work in this many processes on this machine.", Number(1), metavar="N", in_run=False),
    ] = 1
    spark: Annotated[
        str | None,
        Option(
            "Work on an Apache Spark cluster, whose workers see the files under the same paths.",
            SparkMaster(),
            metavar="spark://HOST:PORT",
            excludes="jobs",
            in_run=False,
        ),
    ] = None
