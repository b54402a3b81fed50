"""The lock's file with any content: it names one process, or none."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.format.lock import OutputLock


@settings(deadline=None, max_examples=examples(200))
@given(content=st.binary(max_size=64) | st.text("0123456789-+ \n\0x٣", max_size=40).map(str.encode))
def test_any_content_names_a_single_process_or_none(tmp_path_factory, content):
    with OutputLock(tmp_path_factory.getbasetemp() / "lock") as lock:
        os.ftruncate(lock.fds[0], 0)
        os.pwrite(lock.fds[0], content, 0)
        # 0 and less are groups of processes to kill(2)
        assert lock.holder is None or 0 < lock.holder < 1 << 31
