"""The feed of a capture file: its declarations, for readers."""

from __future__ import annotations

from wsrec.feed.catalogue import catalogue
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError


def declared_feed(file: CaptureFile) -> Feed:
    """The feed whose declarations a file's messages are converted by.

    Returns:
        The catalogue's feed of that name, so that older captures gain by its corrections; else the one that is stored
        in the file.

    Raises:
        CaptureError: the stored one cannot be read.

    """
    if file.feed in catalogue():
        return find_feed(file.feed)
    try:
        return Feed.model_validate(file.metadata.feed_config)
    except ValueError as error:
        raise CaptureError(f"{file.path}: its feed's configuration cannot be read: {error}") from error
