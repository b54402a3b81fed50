"""Table of streams: the last sequence number of each, across batches."""

from __future__ import annotations

import numpy as np

from wsrec.arrays import Flags, Int64s, Places, Uint64s, where_set
from wsrec.decode.scalars import INT64_MAX
from wsrec.monitor.stream_keys import connection_of


class LastNumbers:
    """For every stream, by its key (`wsrec.monitor.stream_keys`): the number of its last message with one.

    Also whether the very last message had a number, and the run that it belongs to
    (`wsrec.monitor.sequence_gap.Checked`). Messages are passed grouped by stream (`by_stream`).
    """

    def __init__(self) -> None:
        self._runs = 0
        self.clear()

    def clear(self) -> None:
        """Forget all streams; numbers of runs are not used again."""
        # sorted; the last one is above all keys, so that a search always ends at one
        self._keys: Int64s = np.array([INT64_MAX])
        self._last: Uint64s = np.zeros(1, np.uint64)
        self._numbered: Flags = np.array([True])
        self._run: Int64s = np.array([0])

    def __len__(self) -> int:
        return len(self._keys) - 1

    @property
    def all_numbered(self) -> bool:
        """Whether the last message of every stream had a number."""
        return bool(self._numbered.all())

    def follow(self, keys: Int64s, seq: Uint64s) -> tuple[Uint64s, Flags]:
        """Take numbered messages: the number before each, and whether there is one."""
        if not len(keys):
            return seq.copy(), np.zeros(0, np.bool_)
        begins = _begins(keys)
        last, follows = np.empty_like(seq), np.ones(len(seq), np.bool_)
        last[1:] = seq[:-1]
        groups = keys[begins]
        places, known = self._find(groups)
        last[begins], follows[begins] = self._last[places], known
        newest = seq[_ends(begins, len(seq))]
        self._last[places[known]] = newest[known]
        if not known.all():
            self._keys = np.insert(self._keys, places[~known], groups[~known])
            self._last = np.insert(self._last, places[~known], newest[~known])
            self._numbered = np.insert(self._numbered, places[~known], True)
            self._run = np.insert(self._run, places[~known], 0)
        return last, follows

    def after_numbered(self, keys: Int64s, numbered: Flags) -> Flags:
        """Of the numbered messages among these: whether the message directly before each had a number, too."""
        begins = _begins(keys)
        places, known = self._find(keys[begins])
        before = np.concatenate(([True], numbered[:-1]))
        before[begins] = np.where(known, self._numbered[places], True)
        return before[numbered]

    def take_ends(self, keys: Int64s, numbered: Flags) -> None:
        """Remember whether the last message of each stream had a number; not of streams that never had one."""
        begins = _begins(keys)
        places, known = self._find(keys[begins])
        self._numbered[places[known]] = numbered[_ends(begins, len(keys))[known]]

    def runs(self, keys: Int64s, opens: Flags) -> Int64s:
        """The run of each message; `opens` says which ones begin a run."""
        if not len(keys):
            return keys
        begins = _begins(keys)
        starts = opens.copy()
        starts[begins] = True
        of = np.cumsum(starts) - 1
        runs = self._runs + 1 + np.arange(int(of[-1]) + 1)
        self._runs += len(runs)
        places = np.searchsorted(self._keys, keys[begins])
        continues = ~opens[begins]
        runs[of[begins[continues]]] = self._run[places[continues]]
        found: Int64s = runs[of]
        self._run[places] = found[_ends(begins, len(keys))]
        return found

    def remove(self, conn: int) -> tuple[Int64s, Uint64s]:
        """Forget the streams of a connection; their keys and last numbers."""
        kept = connection_of(self._keys) != conn
        kept[-1] = True
        removed = self._keys[~kept], self._last[~kept]
        self._keys, self._last = self._keys[kept], self._last[kept]
        self._numbered, self._run = self._numbered[kept], self._run[kept]
        return removed

    def _find(self, keys: Int64s) -> tuple[Places, Flags]:
        """The place of each key, and whether it is there."""
        places = np.searchsorted(self._keys, keys)
        return places, self._keys[places] == keys


def _begins(keys: Int64s) -> Places:
    """Where each group of equal keys begins."""
    begins = np.empty(len(keys), np.bool_)
    begins[0] = True
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    return where_set(begins)


def _ends(begins: Places, count: int) -> Places:
    """Where each group ends: the place of its last element."""
    ends = np.empty_like(begins)
    ends[:-1] = begins[1:]
    ends[-1] = count
    ends -= 1
    return ends
