"""The rows that each market's messages make: equal to those worked out by hand from the venues' documentation."""

import pytest

from tests.tables.golden import FOLDER, differences, markets
from wsrec.feed.load import catalogue

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="real messages are not beside the project: golden rows")


def test_every_market_of_the_catalogue_has_golden_rows() -> None:
    assert set(markets()) <= set(catalogue())
    assert len(markets()) >= 36


@pytest.mark.parametrize("market", catalogue())
def test_every_row_is_the_golden_one(market: str) -> None:
    assert differences(market) == []
