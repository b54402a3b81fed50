"""wsrec.format.lock: one recorder an output folder, however the last one ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wsrec.format.lock import OutputLock, OutputLockedError, is_held

HOLD = "import sys, time\nfrom pathlib import Path\nfrom wsrec.format.lock import OutputLock\n"
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
    def test_a_second_holder_learns_who_has_it(self, holder, tmp_path):
        with pytest.raises(OutputLockedError, match=rf"process {holder.pid}\)") as caught, OutputLock(tmp_path):
            pass
        assert caught.value.holder == holder.pid

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
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=lock.fds)
        with pytest.raises(OutputLockedError), OutputLock(tmp_path):
            pass
        child.communicate()
        with OutputLock(tmp_path):
            pass

    def test_other_folders_do_not_matter(self, holder, tmp_path):
        with OutputLock(tmp_path / "other"):
            pass

    def test_a_check_in_that_moment_refuses_no_recorder(self, tmp_path):
        with OutputLock(tmp_path):
            pass
        looks = "import sys\nfrom pathlib import Path\nfrom wsrec.format.lock import is_held\n"
        looks += "while True: is_held(Path(sys.argv[1]))"
        looking = subprocess.Popen([sys.executable, "-P", "-c", looks, str(tmp_path)])
        try:
            for _ in range(200):
                with OutputLock(tmp_path):
                    pass
        finally:
            looking.kill()
            looking.wait()


class TestTakeover:
    def test_one_waits_and_all_others_are_refused(self, holder, tmp_path):
        with OutputLock(tmp_path, takeover=True) as lock:
            assert (lock.held, lock.take(), lock.holder) == (False, False, holder.pid)
            for takeover in (False, True):
                with (
                    pytest.raises(OutputLockedError, match=rf"taken over by .*process {os.getpid()}\)"),
                    OutputLock(tmp_path, takeover=takeover),
                ):
                    pass

    def test_what_it_takes_later_its_children_hold_too(self, holder, tmp_path):
        with OutputLock(tmp_path, takeover=True) as lock:
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=lock.fds)
            holder.kill()
            holder.wait()
            assert lock.take()
        assert is_held(tmp_path)
        child.communicate()
        assert not is_held(tmp_path)

    def test_no_third_recorder_gets_in_between(self, holder, tmp_path):
        with OutputLock(tmp_path, takeover=True) as lock:
            holder.kill()
            holder.wait()
            with pytest.raises(OutputLockedError), OutputLock(tmp_path):
                pass
            assert is_held(tmp_path)
            assert lock.take()

    def test_without_a_holder_it_has_the_lock_at_once(self, tmp_path):
        with OutputLock(tmp_path, takeover=True) as lock:
            assert lock.held
            with pytest.raises(OutputLockedError, match="held by"), OutputLock(tmp_path):
                pass

    def test_who_locked_the_file_is_known_from_who_only_opened_it(self, holder, tmp_path):
        with OutputLock(tmp_path, takeover=True) as lock:
            with (tmp_path / ".wsrec" / "lock").open() as file:
                opened = subprocess.Popen(["sleep", "60"], stdin=file)
            assert lock.is_locked_by(holder.pid)
            assert not lock.is_locked_by(opened.pid)
            assert not lock.is_locked_by(os.getpid())
            opened.kill()
            opened.wait()
