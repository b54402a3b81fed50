"""The figures as JSON."""

from __future__ import annotations

import msgspec

from tests.pictures.made_up import HOSTILE, pictures
from wsrec.pictures.model import Pictures


def test_json_holds_everything() -> None:
    made = pictures()
    assert any(stream.symbol == HOSTILE for stream in made.figures[0].coverage.streams)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Pictures) == made
