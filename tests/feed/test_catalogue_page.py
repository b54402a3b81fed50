"""docs/reference/catalogue.md says what the catalogue reads of real messages, and leaves none of them out."""

from __future__ import annotations

import pytest

from tests.feed import catalogue_page
from tests.feed.catalogue_page import (
    FEEDS_HEAD,
    FILES_HEAD,
    MESSAGES,
    PAGE,
    RULES_HEAD,
    TABLES_HEAD,
    feed_of,
    files,
    updated,
)
from wsrec.feed.load import catalogue
from wsrec.feed.sequence_rules import SequenceRule


@pytest.fixture(scope="module")
def read():
    if not MESSAGES.exists():
        pytest.skip(f"real messages are not beside the project: {MESSAGES}")
    return files()


def test_is_current():
    assert PAGE.read_text() == updated(PAGE.read_text()), "run scripts/update-docs"


def test_keeps_the_counts_where_there_are_no_messages(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue_page, "MESSAGES", tmp_path / "none")
    assert updated(PAGE.read_text()) == PAGE.read_text()


def test_every_feed_has_a_row():
    _, _, table = PAGE.read_text().partition(FEEDS_HEAD)
    table = "\n" + table.partition("\n\n")[0]
    for name in catalogue():
        assert table.count(f"\n| `{name}` | ") == 1, name


def test_every_rule_has_a_row_with_its_evidence():
    _, _, rows = PAGE.read_text().partition(RULES_HEAD)
    rows, _, _ = rows.partition("\n\n")
    for name in catalogue():
        mine = [row for row in rows.splitlines() if row.startswith(f"| `{name}` |")]
        for key, channel in feed_of(name).channels.items():
            (row,) = [row for row in mine if f"`{key}`" in row] or [""]
            assert bool(row) == (channel.sequence is not SequenceRule.NONE), (name, key)
            assert all(str(each) in row for each in channel.evidence), (name, key)


def test_every_feed_says_which_channels_make_tables():
    _, _, rows = PAGE.read_text().partition(TABLES_HEAD)
    rows, _, _ = rows.partition("\n\n")
    for name in catalogue():
        for key in feed_of(name).channels:
            found = [row.split(" | ")[1] for row in rows.splitlines() if f"| `{name}` |" in row and f"`{key}`" in row]
            assert sorted(found) == sorted(feed_of(name).table_names(key)), (name, key)


def test_every_message_has_a_row_or_a_reason(read):
    _, _, rows = PAGE.read_text().partition(FILES_HEAD)
    for file in read:
        assert rows.count(f"| {file.name} | ") == 1
        assert file.feeds or file.reason


def test_main_channels_give_symbols_and_the_numbers_of_their_rules(read):
    for file in read:
        for name, reading in file.feeds.items():
            feed = feed_of(name)
            channel = feed.channel_by_any_name[reading.channel]
            if channel.common and channel.per_symbol:
                assert reading.symbol is not None, (file.name, name)
            without_numbers = (SequenceRule.NONE, SequenceRule.CHECKSUM)
            if channel.common and feed.sequence_rule(reading.channel) not in without_numbers:
                assert reading.exchange_seq is not None, (file.name, name)
