"""Every fault of the matrix, against the recorder as a user starts it: the files report every loss."""

from __future__ import annotations

import pytest

from tests.faults.matrix import FAULTS, run
from wsrec.verify.verify import verify

BROKEN = {
    "reset": ["lost"],
    "fin-in-frame": ["lost"],
    "half-open": ["timeout"],
    "tls-alert": ["tls"],
    "close-1001": ["closed"],
    "reset-429": ["lost", "limited", "limited"],
    "silent-successor": ["lost"],
}


# one that breaks the connection
QUICK = ("reset",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in FAULTS]
)
def test_what_is_missing_is_reported(name, authority, ca_file, tmp_path):
    found = run(name, authority, ca_file, tmp_path)
    assert found.unexplained == []
    assert found.data_ms is not None
    if name in BROKEN:
        assert found.causes == BROKEN[name]
        assert found.lost_ms is not None
        assert (found.status, found.overlaps_ms) == (4, [])
    else:
        assert found.causes == []
        # anyone who fell silent while its successor did not has lost something
        assert (found.lost_ms is not None) is (name == "silent")
        assert found.overlaps_ms
        assert all(overlap > 0 for overlap in found.overlaps_ms)
    if name == "reset-429":
        # both answers requested 2 s
        assert found.data_ms >= 4000
    elif name == "silent-successor":
        # the messages missing on the silent connection are in the lost interval, and the verifier reports it
        assert found.missing > 100
        assert [capture.status for capture in verify([tmp_path / "out"]).captures] == [4]
    elif name == "silent":
        # of the connection, and of its subscription, which may be replaced before the writer looks
        assert found.silent in (1, 2)
        assert found.status == 4
    elif name not in BROKEN:
        assert (found.missing, found.silent, found.status) == (0, 0, 0)
        assert found.twice
