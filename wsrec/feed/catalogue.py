"""The catalogue: the feeds packaged with wsrec, by name, without reading them. It must stay quick to import."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable

_CLOSED = re.compile(r"^closed:", re.MULTILINE)


def catalogue() -> dict[str, Traversable]:
    """The packaged feeds: name to YAML file."""
    files = resources.files("wsrec.configs").iterdir()
    return dict(sorted((file.name.removesuffix(".yaml"), file) for file in files if file.name.endswith(".yaml")))


def is_closed(file: Traversable) -> bool:
    """Whether a packaged feed's market is closed, by its text: a Tab must not wait until all feeds are validated."""
    return _CLOSED.search(file.read_text(encoding="utf-8")) is not None
