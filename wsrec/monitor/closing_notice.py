"""Closing notices: messages in which an exchange announces that it will close the connection."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import codes, where_set
from wsrec.feed.paths import first, scalar_text
from wsrec.feed.schema import Feed
from wsrec.monitor.check import Check, Finding, RowBatch, Setup, Signal

_SHOWN = 100


class NoticeReader:
    """Finds the messages that a feed's `closing_notice` describes.

    Args:
        feed: the feed; without `closing_notice` no message is read.

    """

    def __init__(self, feed: Feed) -> None:
        self._notices = [(notice.path, re.compile(notice.match)) for notice in feed.closing_notice]
        self._channels = feed.channel_by_any_name
        # which names of the last batch's dictionary are no channels of the feed; the last one is for null
        self._dictionary = pa.array([], pa.string())
        self._others = np.array([True])

    @property
    def looks(self) -> bool:
        """Whether the feed describes a closing notice."""
        return bool(self._notices)

    def candidates(self, channel: pa.DictionaryArray) -> npt.NDArray[np.intp]:
        """Rows that may be a notice: those without a channel of the feed, so that no market data is read."""
        if not channel.dictionary.equals(self._dictionary):
            self._dictionary = channel.dictionary
            self._others = np.array([name not in self._channels for name in self._dictionary.to_pylist()] + [True])
        if not channel.null_count and not self._others[:-1].any():
            return np.empty(0, np.intp)
        return where_set(self._others[codes(channel, len(self._dictionary))])

    def read(self, payload: bytes | memoryview) -> str | None:
        """The word that announces the closing; None if the message is something else."""
        try:
            message = msgspec.json.decode(payload)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        for path, pattern in self._notices:
            word = scalar_text(first(message, path)) if isinstance(message, dict) else None
            if word is not None and len(word) <= _SHOWN and pattern.fullmatch(word):
                return word
        return None


class NoticeCheck(Check):
    """Reports connections that the exchange announces to close."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._notices = NoticeReader(setup.feed)

    def rows(self, rows: RowBatch) -> Iterator[Finding]:
        """Read the messages that are not market data."""
        for row in self._notices.candidates(rows.fields.channel).tolist() if self._notices.looks else ():
            if rows.received[row] and rows.carries[row]:
                word = self._notices.read(rows.payload[row].as_py())
                if word is not None:
                    conn, time = int(rows.conns[row]), int(rows.stage[row])
                    yield Finding(kind=Signal.CLOSING, time=time, conn=conn, detail={"word": word})
