"""Whether a snapshot joins the stream that it was fetched for: a book begins with the one and goes on with the other.

A stream's run are its messages since it began, or since its last gap. It goes on from a snapshot whose number is not
before the run, and that the run reaches: then one of its messages is the first to apply, and none is missing between.
An exchange that answers from a cache gives a snapshot from before the stream, of no use.

Pure logic, without a clock: the caller says when (ns since the epoch).
"""

from __future__ import annotations

from typing import NamedTuple

ATTEMPTS = 5
"""So many snapshots of a run are fetched before it is given up."""

# A stream that has messages this long (ns) after a snapshot was fetched, all before it, does not reach it
_REACH_NS = 10_000_000_000


class Verdict(NamedTuple):
    """What became of a snapshot.

    Attributes:
        stream: the number of its stream.
        number: its own number; None where it has none.
        first, last: the numbers before the run's first message, and of its last one; None before the first message.
        why: why it does not join; None where it does.
        wait: time (s) after which another one is to be fetched; None where none is.

    """

    stream: int
    number: int | None
    first: int | None
    last: int | None
    why: str | None
    wait: float | None


class _Run:
    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.time = 0


class _Fetched(NamedTuple):
    number: int | None
    time: int


class JoinChecker:
    """Holds snapshots against the streams of one feed, which are told apart by number."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}
        self._waiting: dict[int, _Fetched] = {}
        self._missed: dict[int, int] = {}

    def messages(self, stream: int, first: int, last: int, time: int) -> None:
        """Messages of a stream: the number before the first of them, and that of the last, which came at `time`."""
        run = self._runs.setdefault(stream, _Run(first))
        run.last, run.time = last, time

    def broke(self, stream: int, first: int) -> None:
        """The stream has a gap; `first` is the number before the message behind it."""
        run = self._runs.setdefault(stream, _Run(first))
        run.first = first

    def fetched(self, stream: int, number: int | None, time: int) -> None:
        """A snapshot of the stream has come."""
        self._waiting[stream] = _Fetched(number, time)

    def ended(self, stream: int) -> None:
        """The stream's connection ended."""
        for known in (self._runs, self._waiting, self._missed):
            known.pop(stream, None)

    def judge(self) -> list[Verdict]:
        """What of the snapshots that are waited for is known now."""
        found = []
        for stream, snapshot in list(self._waiting.items()):
            run, number = self._runs.get(stream), snapshot.number
            first, last = (None, None) if run is None else (run.first, run.last)
            if number is None:
                why: str | None = "it has no number"
            elif run is None:
                continue
            elif number < run.first:
                why = "it is older than the stream"
            elif number <= run.last:
                why = None
            elif run.time - snapshot.time >= _REACH_NS:
                why = "it is ahead of the stream"
            else:
                continue
            del self._waiting[stream]
            found.append(Verdict(stream, number, first, last, why, self._wait(stream, missed=why is not None)))
        return found

    def _wait(self, stream: int, *, missed: bool) -> float | None:
        if not missed:
            self._missed.pop(stream, None)
            return None
        count = self._missed[stream] = self._missed.get(stream, 0) + 1
        return None if count >= ATTEMPTS else 2.0 ** (count - 1)
