"""Feed loading: YAML files into `Feed`, and the catalogue that is packaged with wsrec."""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from pathlib import Path

from wsrec.feed.catalogue import catalogue
from wsrec.feed.document import read_document
from wsrec.feed.errors import ConfigError
from wsrec.feed.schema import Feed
from wsrec.units import did_you_mean

_LIKE_A_NAME = r"[\w. -]{1,64}"


def load_feed(path: Path | Traversable) -> Feed:
    """Read a feed from a YAML file.

    Raises:
        ConfigError: unreadable or invalid; one line `FILE:LINE: KEY: found, expected` per error.

    """
    document = read_document(path, "a feed's YAML", "wsrec feeds schema")
    # the key "feeds" marks a run config; further errors would only distract
    if "feeds" in document.keys and not document.keys.keys() & Feed.model_fields.keys():
        raise ConfigError(f"{document.at('feeds')}: found a run config, expected a feed: `wsrec record` takes it")
    return document.into(Feed)


def find_feed(name: str) -> Feed:
    """The feed called `name` in the catalogue; everything in its addresses is public.

    Raises:
        ConfigError: unknown name; suggests similar ones.

    """
    feeds = catalogue()
    if name not in feeds:
        meant = did_you_mean(name, feeds, most=3)
        # not like a name: possibly an address with a secret in it
        found = repr(name) if re.fullmatch(_LIKE_A_NAME, name) else "of that name"
        raise ConfigError(
            f"no feed {found}: {meant}{' ' if meant else ''}`wsrec feeds list` shows them all; a path ends in .yaml"
        )
    return load_feed(feeds[name]).open()
