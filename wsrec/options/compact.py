"""Declarations of the options of `wsrec compact`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wsrec.options.option import Option
from wsrec.options.value_types import Duration


class CompactOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is removed."""

    keep: Annotated[
        float | None,
        Option(
            "Remove hours of finished sessions that ended longer ago, such as 90d.",
            Duration(unit_needed=True),
            in_run=False,
        ),
    ] = None
