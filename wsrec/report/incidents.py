"""Which events a report shows: the first of each kind, whichever files were read first."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.histogram import Int64s
from wsrec.report.model import Incident

INCIDENTS_A_KIND = 20
"""Events of a kind that are shown; the others are counted."""


def json_texts(column: pa.Array) -> list[msgspec.Raw]:
    """The details of events, each of them JSON.

    Raises:
        msgspec.DecodeError: one is not.

    """
    texts = [text or "{}" for text in column.to_pylist()]
    # together, in a fraction of the time
    found = msgspec.json.decode(f"[{','.join(texts)}]", type=list[msgspec.Raw])
    if len(found) != len(texts):
        for text in texts:
            msgspec.json.decode(text)
    return found


def earliest(rows: npt.NDArray[np.intp], moments: Int64s, most: int = INCIDENTS_A_KIND) -> npt.NDArray[np.intp]:
    """Those of these rows that may be among the first ones to be kept, at most so many."""
    if len(rows) <= most:
        return rows
    found: npt.NDArray[np.intp] = rows[moments[rows] <= np.partition(moments[rows], most - 1)[most - 1]]
    return found


def order(incident: Incident) -> tuple[Any, ...]:
    """The order of incidents, the same whichever files were read first."""
    where = incident.conn or 0, incident.channel or "", incident.symbol or ""
    return incident.time, incident.session, incident.kind, *where, msgspec.json.encode(incident.detail)
