"""Network faults, against the recorder as a user starts it: data arrives again, and the loss is reported.

Those that need netem, and what differs little from these, are run by hand (`scripts/faults --network`).
"""

from __future__ import annotations

import pytest

from tests.faults.network import FAULTS, run, unable

pytestmark = pytest.mark.skipif(bool(unable()), reason=unable() or "-")
# s; on a machine that has nothing else to do it takes a tenth of that, and before it took 11 to 28
END = 8.0
BROKEN = {"one-path": ["timeout"], "names-hang": ["closed"], "proxy-killed": None, "end-without-names": None}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.long
def test_what_is_missing_is_reported(name, tmp_path):
    found = run(name, tmp_path)
    assert found.unexplained == []
    assert found.lost_ms is not None
    assert found.status == (1 if name == "end-without-names" else 4)
    assert found.end_ms < END * 1e3
    if BROKEN[name] is not None:
        assert found.causes == BROKEN[name]
    if FAULTS[name].ends_in_it:
        assert found.missing > 0
        assert found.data_ms is None
    else:
        assert found.data_ms is not None
