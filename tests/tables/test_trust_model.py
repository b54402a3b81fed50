"""Random sessions, and a truth kept beside them: no row after a missing message is called sound, and none is lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.effort import thinned
from tests.verify.recording import Recording
from tests.verify.sessions import Session
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import STATES
from wsrec.format.reading import open_capture
from wsrec.format.schema import EVENT_SCHEMA
from wsrec.tables.file_rows import FileRows
from wsrec.tables.second_copies import CONTENT
from wsrec.tables.session_events import SessionEvents
from wsrec.tables.session_files import groups
from wsrec.tables.trust import COLUMNS, Trust

_AHEAD = 1_614_865_800_000_000_000


class Row(NamedTuple):
    topic: str
    time: int
    state: str


def rows(out: Path) -> Iterator[list[Row]]:
    """The messages of each feed, in order, and the states of their rows."""
    capture = open_capture(out, damaged=lambda _: None)
    for group in groups(capture.files, capture.event_files):
        about = group.files[-1].metadata
        events = [(file.number, batch) for file in group.event_files for batch in file.batches(EVENT_SCHEMA.names)]
        trust = Trust(
            SessionEvents(Feed.model_validate(about.feed_config), about.connections, events, FileRows.of(group.files))
        )
        found = []
        for file in group.files:
            trust.begin_file(file.number)
            for batch in file.batches([*COLUMNS, *CONTENT], among={"direction": ["recv"]}):
                states = trust.states(batch.select(list(trust.columns))).tolist()
                for state, text in zip(states, batch.column("text").to_pylist(), strict=True):
                    body = json.loads(text)
                    if "t" in body:
                        found.append(Row(f"{body['c']}.{body['s']}", body["t"], STATES[state]))
        yield found


def false_claims(session: Session, found: list[Row]) -> Iterator[str]:
    held = {(row.topic, row.time) for row in found}
    fresh = {(row.topic, row.time) for row in found if row.state != "history"}
    yield from (f"only a second copy of {topic} {time}" for topic, time in held - fresh)
    last: dict[str, int] = {}
    for row in found:
        if row.state == "history":
            continue
        before = last.get(row.topic)
        last[row.topic] = max(row.time, before or 0)
        if before is None or row.state == "suspect":
            continue
        for sent in session.exchange.sent[row.topic]:
            missing = before < sent.time < row.time and (row.topic, sent.time) not in held
            # what the exchange itself lost only numbers show, and without confirmations a subscription may fail unseen
            if missing and (row.state == "ok" or (session.acks and not sent.removed)):
                yield f"{row} is said after {before}, and {sent} is missing"


_ONCE_FALSE = {
    609: "a writer died twice, and its successor knew the numbers of the last file only",
    1155: "a number that may come late was missing later than the row that passed it over",
    1348: "a subscription failed without an answer, so nothing came twice",
    4410: "a writer died while one connection replaced another, before a subscription was confirmed",
    2032: "the recorder was killed before a number that may come late was given up",
}


def recorded(chance: random.Random, out: Path) -> Session | None:
    """Record a random session; None if there is no sound capture of it to check."""
    out.mkdir()
    session = Session(chance, "s0", _AHEAD)
    session.play()
    recording = Recording(session, chance, out)
    recording.run()
    if recording.unsound or recording.unrecovered or recording.unjournalled or not (out / "messages").exists():
        return None
    return session


def checked(seed: int, out: Path) -> Counter[str]:
    """Record a random session and check its rows; how many have each state."""
    counted = Counter[str]()
    session = recorded(random.Random(seed), out)
    if session is None:
        return counted
    for found in rows(out):
        assert list(false_claims(session, found)) == []
        counted.update(row.state for row in found)
    return counted


@pytest.mark.parametrize("seed", _ONCE_FALSE, ids=str)
def test_sessions_of_which_a_row_was_once_called_sound(seed: int, tmp_path: Path) -> None:
    assert checked(seed, tmp_path / "out")


@pytest.mark.parametrize("seed", thinned(range(0, 80, 10)))
def test_no_row_after_a_missing_message_is_called_sound_and_none_is_only_a_copy(seed: int, tmp_path: Path) -> None:
    counted = sum((checked(each, tmp_path / str(each)) for each in range(seed, seed + 10)), Counter[str]())
    assert counted["ok"] > counted["suspect"]


def spoil(out: Path, chance: random.Random) -> str:
    """Take away or damage one file of a capture, or both of a pair; what was done."""
    files = sorted((out / "messages").rglob("*.parquet"))
    chosen = chance.choice(files)
    events = out / "events" / chosen.relative_to(out / "messages")
    match chance.choice(["pair", "messages", "events", "damaged"]):
        case "pair":
            chosen.unlink()
            events.unlink(missing_ok=True)
            return f"{chosen.name} and its events are gone"
        case "messages":
            chosen.unlink()
            return f"{chosen.name} is gone"
        case "events":
            events.unlink(missing_ok=True)
            return f"the events of {chosen.name} are gone"
        case _:
            chosen.write_bytes(chosen.read_bytes()[:-9])
            return f"{chosen.name} is damaged"


@pytest.mark.parametrize("seed", thinned(range(0, 80, 10)))
def test_without_some_of_its_files_a_capture_proves_no_more(seed: int, tmp_path: Path) -> None:
    for each in range(seed, seed + 10):
        out, chance = tmp_path / str(each), random.Random(each)
        session = recorded(chance, out)
        if session is None:
            continue
        what = spoil(out, chance)
        for found in rows(out):
            proved = [claim for claim in false_claims(session, found) if "state='ok'" in claim]
            assert proved == [], (each, what)
