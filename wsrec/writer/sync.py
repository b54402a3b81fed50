"""Has the journal on the disk, on a thread of its own: at full rate a second of it takes long to write out."""

from __future__ import annotations

import threading

from wsrec.writer.disk import Disk
from wsrec.writer.journal import Journal


class SyncThread(threading.Thread):
    """Calls fdatasync(2) for the journal once every `seconds`, while others go on appending to it.

    Args:
        journal: the one that is written.
        seconds: time between two calls.
        disk: what to do when the disk refuses.

    Attributes:
        failed: the exception that ended it.

    """

    def __init__(self, journal: Journal, seconds: float, disk: Disk) -> None:
        super().__init__(name="sync", daemon=True)
        self.failed: Exception | None = None
        self._journal = journal
        self._seconds = seconds
        self._disk = disk
        self._done: list[Journal] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False

    def change(self, journal: Journal) -> None:
        """Go on with the next journal: nothing more is appended to the one before, which is synced and closed."""
        with self._lock:
            self._done.append(self._journal)
            self._journal = journal
        self._wake.set()

    def stop(self) -> None:
        """Have all journals on the disk and closed; nothing is appended any more."""
        self._stopping = True
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Sync and close, until stopped."""
        try:
            while not self._stopping:
                self._wake.wait(self._seconds)
                self._wake.clear()
                self._close_done()
                self._sync(self._journal)
            self._close_done()
            self._close(self._journal)
        except Exception as error:  # noqa: BLE001 (raised by the main thread)
            self.failed = error

    def _close_done(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for journal in done:
            self._close(journal)

    def _sync(self, journal: Journal) -> None:
        if journal.doubtful:
            return
        try:
            journal.sync()
        except FileNotFoundError:
            raise
        except OSError as error:
            # who appends to it goes on in another one, and then it is closed
            self._disk.note(f"{journal.path.name} could not be synced ({error}): what it got since is written anew")

    def _close(self, journal: Journal) -> None:
        """Have all of a journal on the disk to which nothing is appended any more."""
        self._sync(journal)
        if journal.doubtful:
            lost = self._disk.retry(journal.rewrite)
            if lost:
                self._disk.note(f"{journal.path.name}: {lost:,} batches could not be written anew: the disk lost them")
        journal.close()
