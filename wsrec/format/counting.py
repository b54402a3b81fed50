"""Counting rules of each counter over rows and events, shared by the writer and the readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.counts import Counts
from wsrec.ring.events import EventKind, refused_count

Bools = npt.NDArray[np.bool_]

_NOTHING = Counts()


def count_rows(received: Bools, data: Bools, sent: Bools, lengths: npt.NDArray[np.integer]) -> Counts:
    """The counters of rows.

    Args:
        received, sent: which of them were received, and which were sent.
        data: which of those received are text or binary.
        lengths: of their payloads (bytes).

    """
    messages = int(np.count_nonzero(data))
    return Counts(
        messages=messages,
        control=int(np.count_nonzero(received)) - messages,
        sent=int(np.count_nonzero(sent)),
        payload_bytes=int(lengths.sum(where=data)),
    )


def count_event(kind: str, detail: Mapping[str, Any]) -> Counts:
    """The counters of an event, whose detail may be anybody's."""
    match kind:
        case EventKind.GAP:
            return Counts(gaps=1)
        case EventKind.LOST_INTERVAL:
            return Counts(lost_intervals=1)
        case EventKind.REFUSED | EventKind.UNANSWERED:
            return Counts(refused=refused_count(detail), answered=_topics(detail))
        case EventKind.LATE:
            return Counts(refused=refused_count(detail))
        case EventKind.ACK:
            return Counts(answered=_topics(detail))
        case EventKind.NOT_INFLATED:
            count = detail.get("count")
            return Counts(not_inflated=count if isinstance(count, int) else 0)
        case _:
            return _NOTHING


def _topics(detail: Mapping[str, Any]) -> int:
    topics = detail.get("topics")
    return len(topics) if isinstance(topics, list | tuple) else 0
