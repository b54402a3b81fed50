"""wsrec.tables.facts: a table is current as long as its session's files tell the same of its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effort import thinned
from tests.tables.test_restricted import TABLES, differing, feeds_of, of_file, recorded
from wsrec.tables.facts import Extent
from wsrec.tables.session_files import groups
from wsrec.tables.session_tables import SessionTables


@pytest.mark.parametrize("seed", thinned(range(0, 60, 6)))
def test_rows_with_the_same_facts_stay_the_same_when_later_files_come(seed: int, tmp_path: Path) -> None:
    for each in range(seed, seed + 6):
        capture = recorded(each, tmp_path / str(each))
        if capture is None or not capture.files:
            continue
        feeds = feeds_of(capture)
        for group in groups(capture.files, capture.event_files):
            feed = feeds[group.feed]
            whole = SessionTables(feed, group.whole, group.event_files, TABLES)
            of_whole = {
                file.number: (of_file(whole, file), whole.facts_sha256(Extent.of(file))) for file in group.whole
            }
            for count in range(1, len(group.whole)):
                so_far = group.whole[:count]
                events = [file for file in group.event_files if file.number <= so_far[-1].number]
                before = SessionTables(feed, so_far, events, TABLES)
                for file in so_far:
                    rows, digest = of_whole[file.number]
                    if before.facts_sha256(Extent.of(file)) == digest:
                        assert differing(of_file(before, file), rows) == [], (each, count, file.number)
