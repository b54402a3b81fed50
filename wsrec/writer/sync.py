"""Journal syncing on a separate thread: at full rate, writing out a second of data takes long."""

from __future__ import annotations

import threading

from wsrec.units import system_error
from wsrec.writer.disk import Disk
from wsrec.writer.journal import Journal


class SyncThread(threading.Thread):
    """Calls fdatasync(2) for the journal every `seconds`, while other threads append to it.

    Args:
        journal: the current journal.
        seconds: time between two calls.
        disk: the policy for disk errors.

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
        """Switch to the next journal; nothing more is appended to the previous one, which is synced and closed."""
        with self._lock:
            self._done.append(self._journal)
            self._journal = journal
        self._wake.set()

    def stop(self) -> None:
        """Sync and close all journals; nothing more is appended."""
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
        if journal.sync_failed:
            return
        try:
            journal.sync()
        except FileNotFoundError:
            raise
        except OSError as error:
            # the appending thread switches to another journal, and then this one is closed
            self._disk.note(
                f"{journal.path.name} could not be synced ({system_error(error)}): the data since the last sync "
                "is written again"
            )

    def _close(self, journal: Journal) -> None:
        """Sync a journal that is complete, rewriting it if necessary."""
        self._sync(journal)
        if journal.sync_failed:
            lost = self._disk.retry(journal.rewrite)
            if lost:
                self._disk.note(f"{journal.path.name}: {lost:,} batches could not be rewritten: the disk lost them")
        journal.close()
