"""Feeds of tests, from YAML text instead of a file."""

from __future__ import annotations

import io
from importlib.resources.abc import Traversable
from typing import cast

from wsrec.feed.load import load_feed
from wsrec.feed.schema import Feed


class _Text:
    """A YAML file in memory, as far as `load_feed` uses one."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name

    def open(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)

    def __str__(self) -> str:
        return self._name


def parse_feed(data: bytes, source: str) -> Feed:
    """The feed that a file of this name and content describes."""
    return load_feed(cast(Traversable, _Text(data, source)))
