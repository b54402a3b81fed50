"""Every kind of event that the format page lists is written by something."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsrec.ring.events import EventKind

WSREC = Path(__file__).parents[2] / "wsrec"
SOURCES = "".join(path.read_text() for path in sorted(WSREC.rglob("*.py")) if path.name != "events.py")
# written under the word that the acknowledgement's outcome has
BY_OUTCOME = {EventKind.ACK, EventKind.REFUSED, EventKind.UNANSWERED}


@pytest.mark.parametrize("kind", sorted(set(EventKind) - BY_OUTCOME))
def test_is_written(kind: EventKind):
    assert f"EventKind.{kind.name}" in SOURCES
