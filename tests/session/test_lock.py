"""wsrec.session.lock: one recorder an output folder, however the last one ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wsrec.session.lock import OutputLock, OutputLockedError

HOLD = "import sys, time\nfrom pathlib import Path\nfrom wsrec.session.lock import OutputLock\n"
HOLD += "with OutputLock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


class TestOutputLock:
    def test_a_second_holder_is_told_who_has_it(self, holder, tmp_path):
        with pytest.raises(OutputLockedError, match=rf"process {holder.pid}\)") as caught, OutputLock(tmp_path):
            pass
        assert caught.value.holder == str(holder.pid)

    def test_it_is_free_when_its_holder_was_killed(self, holder, tmp_path):
        holder.kill()
        holder.wait()
        with OutputLock(tmp_path):
            assert (tmp_path / ".wsrec" / "lock").read_text() == f"{os.getpid()}\n"

    def test_it_can_be_taken_again(self, tmp_path):
        for _ in range(2):
            with OutputLock(tmp_path):
                pass

    def test_a_process_that_inherited_it_holds_it_on(self, tmp_path):
        with OutputLock(tmp_path) as lock:
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fd])
        with pytest.raises(OutputLockedError), OutputLock(tmp_path):
            pass
        child.communicate()
        with OutputLock(tmp_path):
            pass

    def test_other_folders_do_not_matter(self, holder, tmp_path):
        with OutputLock(tmp_path / "other"):
            pass
