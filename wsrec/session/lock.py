"""One recorder an output folder: an flock(2) that the kernel lets go of however its holder ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class OutputLockedError(Exception):
    """Another recorder holds the output folder.

    Attributes:
        holder: its process id, as far as it could be read.

    """

    def __init__(self, out: Path, holder: str) -> None:
        super().__init__(f"{out} is held by another recorder (process {holder})")
        self.holder = holder


class OutputLock:
    """Holds an output folder while its descriptor is open, here or in a process that inherited it.

    Attributes:
        fd: the descriptor; -1 while it is not held.

    Raises:
        OutputLockedError: another recorder has it.
        OSError: the folder cannot be written.

    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.fd = -1

    def __enter__(self) -> OutputLock:
        folder = self._out / ".wsrec"
        folder.mkdir(parents=True, exist_ok=True)
        self.fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self.fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self.fd)
            raise OutputLockedError(self._out, holder) from None
        os.ftruncate(self.fd, 0)
        os.write(self.fd, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.fd)


def is_held(out: Path) -> bool | None:
    """Whether a recorder holds an output folder; None where that cannot be found out.

    The lock is taken for a moment, shared, and let go: a recorder that starts in that very moment would be refused.
    """
    try:
        fd = os.open(out / ".wsrec" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False
