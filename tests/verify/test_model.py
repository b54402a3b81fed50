"""Random sessions, and a truth that is kept beside them: nothing that misses a message is called proved or unbroken.

`scripts/verify-model` plays thousands of them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.verify.sessions import Session, false_claims
from wsrec.verify.model import Kind
from wsrec.verify.verify import verify


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_no_interval_that_misses_a_message_is_called_proved_or_unbroken(seed, tmp_path):
    for each in range(seed, seed + 10):
        chance = random.Random(each)
        session = Session(chance, acks=chance.random() < 0.8)
        session.play()
        out = tmp_path / str(each)
        status = session.record(Path(out))
        found = verify([out])
        assert false_claims(session, found) == [], f"session {each}"
        (capture,) = found.captures
        wrong = [finding for finding in capture.findings if finding.kind in (Kind.DAMAGED, Kind.CONTRADICTION)]
        assert wrong == [], f"session {each}"
        if not session.killed:
            # one judgement: what ends one with a status ends the other with it
            assert (each, found.status) == (each, status)
