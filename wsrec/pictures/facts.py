"""The circumstances of a recording, from the metadata of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from wsrec.format.metadata import FileMetadata
from wsrec.pictures.model import Fact
from wsrec.units import clean, size

_MOST = 64
_SHOWN = 5


class Facts:
    """How many files have each value of each fact; of each fact the first 64 values by name."""

    def __init__(self) -> None:
        self._values: dict[str, Counter[str]] = {}

    def add(self, about: FileMetadata) -> None:
        """Count a file."""
        for name, value in _facts(about):
            self._values.setdefault(name, Counter())[clean(value, 120)] += 1

    def merge(self, other: Facts) -> None:
        """Add the files of another."""
        for name, values in other._values.items():
            mine = self._values.setdefault(name, Counter())
            mine.update(values)
            if len(mine) > _MOST:
                self._values[name] = Counter({value: mine[value] for value in sorted(mine)[:_MOST]})

    def result(self) -> list[Fact]:
        """The facts in a fixed order."""
        return [Fact(name=name, values=_shown(self._values[name])) for name in NAMES if name in self._values]


NAMES = (
    *("wsrec", "host", "kernel", "machine", "processor", "processors", "receiver on processors", "scheduling"),
    *("locked memory", "hot path", "waiting", "stage clock", "stage 1", "TLS mode", "TLS", "compression", "URL"),
    "feed configuration",
)
"""What each fact is called, in order."""


def _facts(about: FileMetadata) -> Iterator[tuple[str, str]]:
    if about.wsrec_version:
        yield "wsrec", about.wsrec_version
    host = about.host
    for name, key in (
        ("host", "name"),
        ("kernel", "kernel"),
        ("machine", "machine"),
        ("processor", "processor"),
        ("processors", "processors"),
    ):
        if host.get(key):
            yield name, str(host[key])
    receiver = about.scheduling.get("receiver")
    if isinstance(receiver, Mapping):
        yield from _scheduling(receiver)
    if about.clock.get("clock"):
        yield "stage clock", str(about.clock["clock"])
    for source in sorted(source for source, rows in about.stage1.items() if rows):
        yield "stage 1", source
    for name, values in _connections(about.connections).items():
        for value in sorted(values):
            yield name, value
    if about.feed_config_sha256:
        yield "feed configuration", f"sha256 {about.feed_config_sha256[:12]}"


def _scheduling(receiver: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    cpus = receiver.get("cpus")
    if isinstance(cpus, list):
        yield "receiver on processors", ", ".join(map(str, cpus))
    if receiver.get("policy"):
        priority = receiver.get("priority")
        yield "scheduling", f"{receiver['policy']}{f', priority {priority}' if priority else ''}"
    locked = receiver.get("locked_bytes")
    if isinstance(locked, int):
        yield "locked memory", size(locked) if locked else "none"
    for name, key in (("hot path", "hot_path"), ("waiting", "waiting")):
        if receiver.get(key):
            yield name, str(receiver[key])


def _connections(connections: list[dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for connection in connections:
        tls = connection.get("tls")
        if isinstance(tls, Mapping) and tls.get("mode"):
            found.setdefault("TLS mode", set()).add(str(tls["mode"]))
            cipher = " ".join(str(tls[key]) for key in ("version", "cipher") if tls.get(key))
            found.setdefault("TLS", set()).add(cipher or "unknown")
        if connection.get("compression"):
            found.setdefault("compression", set()).add(str(connection["compression"]))
        if connection.get("url"):
            found.setdefault("URL", set()).add(str(connection["url"]))
    return found


def _shown(values: Counter[str]) -> list[str]:
    order = [value for value, _ in sorted(values.items(), key=lambda item: (-item[1], item[0]))]
    return order if len(order) <= _SHOWN else [*order[:_SHOWN], f"and {len(order) - _SHOWN} more"]
