"""What a recording ends with its verification ends with: both judge by what the writer found, and by nothing else."""

from __future__ import annotations

import pytest

from tests.conftest import events_of
from tests.effort import thinned
from tests.verify.conftest import Numbered
from wsrec.ring.events import EventKind
from wsrec.verify.verify import verify


@pytest.mark.parametrize(
    ("exchange", "status"),
    thinned(
        [
            (Numbered(40, skip=(7,)), 4),
            (Numbered(40, breaks=1), 4),
            (Numbered(40), 0),
            (Numbered(40, refuse=True), 4),
            # shorter than the time that answers may take
            (Numbered(40, confirm=False), 4),
        ],
        keep=2,
    ),
    ids=["gap", "lost", "clean", "refused", "unanswered"],
)
def test_recorder_and_verification_agree(record, exchange, status):
    out = record(exchange, status=status)
    assert verify([out]).status == status


def test_requests_never_answered_are_reported_at_the_end(record):
    out = record(Numbered(40, confirm=False), status=4)
    (event,) = events_of(out, EventKind.UNANSWERED)
    # the others have brought messages: that is an answer
    assert event["detail"]["topics"] == ["quiet.AB", "quiet.CD"]
    assert event["detail"]["message"] == "not answered before the session's end"
