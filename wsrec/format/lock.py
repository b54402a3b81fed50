"""Output folder lock: an flock(2) that admits one recorder, released by the kernel in whatever way its holder ends.

There are two files under `.wsrec`. `lock` is held by the recorder and by its writers, which inherit it. `next` is the
place in front of it: held briefly by every recorder that starts, and by one that takes over until the old one has
ended. So no third recorder can get in between, and a writer that outlives its supervisor always holds one of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from wsrec.format.layout import own_folder

# `is_held` holds the lock for a moment: a process that starts in that moment retries
_PASSING = 0.1
# and a starting process keeps the place in front of it that long
_STARTING = 0.4
_LOCK, _NEXT = "lock", "next"


class OutputLockedError(Exception):
    """Another recorder is using the output folder.

    Attributes:
        holder: its process id, if readable.

    """

    def __init__(self, out: Path, holder: int | None, what: str = "is held by") -> None:
        super().__init__(f"{out} {what} another recorder (process {holder or 'unknown'})")
        self.holder = holder


class OutputLock:
    """Holds an output folder while its descriptors are open, here or in a process that inherited them.

    Args:
        out: the output folder.
        takeover: whether to wait in front of the lock if another recorder holds it, instead of failing.

    Attributes:
        out: the output folder.
        fds: the descriptors; a child that inherits them holds the same locks, including ones taken later.
        held: whether the lock itself is held, or only the place in front of it.

    Raises:
        OutputLockedError: another recorder holds it, or is taking it over.
        OSError: the folder cannot be written.

    """

    def __init__(self, out: Path, *, takeover: bool = False) -> None:
        self.out = out
        self._takeover = takeover
        self.fds: tuple[int, ...] = ()
        self.held = False

    def __enter__(self) -> OutputLock:
        folder = own_folder(self.out)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link, which wsrec does not follow: remove it", str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name in (_LOCK, _NEXT):
                self.fds += (_open(folder / name, os.O_RDWR | os.O_CREAT),)
            place = self.fds[1]
            if not _taken(place, _STARTING):
                raise OutputLockedError(self.out, _read_pid(place), "is being taken over by")
            _write_pid(place)
            if not self._take(0.0 if self._takeover else _PASSING) and not self._takeover:
                raise OutputLockedError(self.out, self.holder)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    @property
    def holder(self) -> int | None:
        """The process id that was last written into the lock; None if there is none."""
        return _read_pid(self.fds[0])

    def take(self) -> bool:
        """Try again to take the lock, for all processes that inherited the descriptors; returns whether it is held."""
        return self.held or self._take(0.0)

    def _take(self, timeout: float) -> bool:
        lock, place = self.fds
        if _taken(lock, timeout):
            _write_pid(lock)
            fcntl.flock(place, fcntl.LOCK_UN)
            self.held = True
        return self.held

    def is_locked_by(self, pid: int) -> bool:
        """Whether a process has locked this very file; its id alone may have been reused (proc_pid_fdinfo(5))."""
        own = os.fstat(self.fds[0])
        try:
            descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False
        for path in descriptors:
            try:
                if os.path.samestat(path.stat(), own):
                    lines = Path(f"/proc/{pid}/fdinfo/{path.name}").read_text().splitlines()
                    if any(line.startswith("lock:") and " FLOCK " in line for line in lines):
                        return True
            except OSError:
                # closed in the meantime
                continue
        return False

    def _close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


def is_held(out: Path) -> bool | None:
    """Whether a recorder holds an output folder or is taking it over; None if that cannot be determined."""
    for name in (_LOCK, _NEXT):
        try:
            fd = _open(own_folder(out) / name, os.O_RDONLY)
        except FileNotFoundError:
            continue
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


def refuse_held(out: Path) -> None:
    """Make sure that no recorder holds an output folder, without taking it.

    Raises:
        OutputLockedError: one does, and held it for as long as `OutputLock` would have waited.

    """
    folder = own_folder(out)
    try:
        # who takes it says why it cannot
        if folder.is_symlink():
            return
        fd = _open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return
    try:
        if not _taken(fd, _PASSING, fcntl.LOCK_SH):
            raise OutputLockedError(out, _read_pid(fd))
    finally:
        os.close(fd)


def holders(out: Path) -> tuple[int, ...]:
    """The process ids in the lock files: of the last holder, and of the last one that waited in front of it.

    Raises:
        OSError: a lock file cannot be read.

    """
    found = list[int]()
    for name in (_LOCK, _NEXT):
        try:
            fd = _open(own_folder(out) / name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            pid = _read_pid(fd)
        finally:
            os.close(fd)
        if pid is not None and pid not in found:
            found.append(pid)
    return tuple(found)


def _open(path: Path, flags: int) -> int:
    """Open a file in a folder that others may write to: no symbolic link is followed, and a pipe does not block."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            what = "is a symbolic link, which wsrec does not follow: remove it"
            raise OSError(error.errno, what, str(path)) from None
        raise


def _taken(fd: int, timeout: float, kind: int = fcntl.LOCK_EX) -> bool:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).partition(b"\n")[0].strip()
    # the file may have any content; process 0 and process groups are never meant
    return int(text) or None if text.isdigit() and len(text) < 10 else None


def _write_pid(fd: int) -> None:
    # in this order, a reader never finds the file without an id
    data = f"{os.getpid()}\n".encode()
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))
