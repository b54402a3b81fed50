"""Recovers copies of a folder, killing itself with SIGKILL before the first, second, third... operation on the disk.

Run as a program: FOLDER (an interrupted capture) and WORK (where the copies go). After each kill it recovers again, to
the end; the copies stay. Prints how many kills there were.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from wsrec.supervise.recover import recover_folder

OPERATIONS = ("write", "fsync", "fdatasync", "link", "unlink", "rename", "mkdir", "rmdir", "ftruncate")


def kill_before(number: int) -> None:
    """Have this process killed before its operation of this number (from 0)."""
    count = 0
    for name in OPERATIONS:
        real = getattr(os, name)

        def counted(*arguments: object, real=real, **options: object) -> object:
            nonlocal count
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return real(*arguments, **options)

        setattr(os, name, counted)


def in_child(out: Path, number: int | None) -> bool:
    """Recover in a child; whether it was killed."""
    pid = os.fork()
    if not pid:
        if number is not None:
            kill_before(number)
        recovery = recover_folder(out)
        if recovery.status:
            print(recovery, file=sys.stderr, flush=True)
        os._exit(recovery.status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def main(folder: Path, work: Path) -> int:
    number = 0
    while True:
        out = Path(shutil.copytree(folder, work / f"{number:04}"))
        if not in_child(out, number):
            return number
        in_child(out, None)
        number += 1


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
