"""The rows that each market's messages make: equal to those worked out by hand from the venues' documentation."""

import pytest

from tests.tables.golden import FOLDER, differences, markets
from wsrec.feed.load import find_feed

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="real messages are not beside the project: golden rows")


# the catalogue is declared market by market
DECLARED = [name for name in markets() if any(channel.tables for channel in find_feed(name).channels.values())]


@pytest.mark.parametrize("market", DECLARED)
def test_every_row_is_the_golden_one(market: str) -> None:
    assert differences(market) == []
