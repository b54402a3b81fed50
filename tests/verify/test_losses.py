"""Lost intervals state their evidence: of each end, and whether they may have been shorter."""

from __future__ import annotations

from wsrec.plan.request_table import RequestTable
from wsrec.ring.events import EventKind
from wsrec.verify.streams import Streams


def test_the_evidence_of_a_loss_is_kept():
    streams = Streams(None, RequestTable(), {})
    stated = {"from_evidence": "the last row", "to_evidence": "the heartbeat", "bound": "upper"}
    streams.event(5, EventKind.LOST_INTERVAL, None, {"from": 1, "to": 4, "reason": "killed", **stated})
    (loss,) = streams.facts.losses
    assert (loss.start, loss.end, loss.bound) == (1, 4, "upper")
    assert (loss.start_evidence, loss.end_evidence) == ("the last row", "the heartbeat")
