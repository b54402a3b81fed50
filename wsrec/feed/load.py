"""Feed YAML files into `Feed`: every complaint names its file, line and key.

Files come from anywhere, so the loader takes plain YAML only: no tags, no aliases (which can expand without end), a
bounded size and depth, no duplicate keys.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Callable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wsrec.feed.schema import ConfigError, Feed, MisfitError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20

_Location = tuple[str | int, ...]
_Lines = dict[_Location, int]
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


def load_feed(path: Path | Traversable) -> Feed:
    """Read a feed from a YAML file.

    Raises:
        ConfigError: it cannot be read or is no valid feed; one line `FILE:LINE: KEY: found, expected` an error.

    """
    try:
        # looked at before it is opened: opening a FIFO waits for a writer, and a device may have no end
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: found no regular file, expected a feed's YAML")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_feed(data, str(path))


def parse_feed(data: bytes, source: str) -> Feed:
    """Read a feed from the bytes of a YAML file; `source` is what errors call it.

    Raises:
        ConfigError: as for `load_feed`.

    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{source}:1: found more than {MAX_BYTES >> 20} MiB, expected a feed's YAML")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: found bytes that are no UTF-8, expected text") from error
    lines: _Lines = {}
    try:
        plain = _Plain(lines).read(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{line}: found a control character, expected text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError(f"{source}:{line}: column {column}: {error.problem or error.context}") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{source}:1: found {_brief(plain)}, expected keys and values, as `wsrec feeds schema` says")
    try:
        return Feed.model_validate(plain)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, lines, source))) from error


def catalogue() -> dict[str, Traversable]:
    """The feeds that come with wsrec: name to YAML file."""
    files = resources.files("wsrec.configs").iterdir()
    return dict(sorted((file.name.removesuffix(".yaml"), file) for file in files if file.name.endswith(".yaml")))


def find_feed(name: str) -> Feed:
    """The feed called `name` in the catalogue.

    Raises:
        ConfigError: there is none; names near matches.

    """
    feeds = catalogue()
    if name not in feeds:
        near = difflib.get_close_matches(name.lower(), feeds, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"no feed {name!r}: {meant}`wsrec feeds list` shows them all; a path ends in .yaml")
    return load_feed(feeds[name])


class _Plain:
    """Composes one YAML document into dicts, lists and scalars, and keeps the line of each.

    Args:
        lines: filled with the line (from 1) of every value by its keys and indexes.

    """

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._scalars = yaml.constructor.SafeConstructor()
        self._resolver: Any = yaml.resolver.Resolver()  # its methods have no types

    def read(self, text: str) -> Any:
        """The document as plain data.

        Raises:
            yaml.MarkedYAMLError: it is no YAML, or more of it than a feed may use.
            yaml.reader.ReaderError: it holds control characters.

        """
        # Events first, one by one: depth, aliases and tags are refused before anything recursive sees them.
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise _refuse("found an alias (*), expected the value written out", event)
            if isinstance(event, yaml.NodeEvent):
                self._check_tag(event)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise _refuse(f"found more than {MAX_DEPTH} levels, expected a feed's few", event)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else self._value(node, ())

    def _check_tag(self, event: yaml.NodeEvent) -> None:
        """Refuse a tag, unless it says what is read without it: `!!map {}`, `!!str x`."""
        tag = getattr(event, "tag", None)
        if tag is None:
            return
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None
            default = self._resolver.resolve(yaml.ScalarNode, event.value, (plain, not plain))
        else:
            kind = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
            default = self._resolver.resolve(kind, None, True)
        if tag != default:
            name = re.sub("^tag:yaml.org,2002:", "!!", tag)
            raise _refuse(f"found the tag {_brief(name)}, expected the value without a tag", event)

    def _value(self, node: yaml.Node, where: _Location) -> Any:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*where, index)) for index, item in enumerate(node.value)]
        if node.tag not in _PLAIN:
            raise _refuse(f"found {_brief(node.value)} (read as {node.tag.rpartition(':')[2]}), quote it", node)
        try:
            return self._scalars.construct_object(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise _refuse(f"found {_brief(node.value)}, expected a plain value, or quotes around it", node) from error

    def _mapping(self, node: yaml.MappingNode, where: _Location) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refuse("found a structure as a key, expected a name", key)
            # As written: YAML 1.1 would make `on` and `no` of a key into booleans.
            name = key.value
            if name in mapping:
                first = self._lines[(*where, name)]
                raise _refuse(f"{name}: found twice, expected once (first in line {first})", key)
            self._lines[(*where, name)] = key.start_mark.line + 1
            mapping[name] = self._value(value, (*where, name))
        return mapping


def _refuse(problem: str, at: Any) -> yaml.MarkedYAMLError:
    """The error for a node or an event of the YAML."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _explain(error: ValidationError, lines: _Lines, source: str) -> list[str]:
    messages: list[tuple[int, str]] = []
    for problem in error.errors(include_url=False):
        where: _Location = problem["loc"]
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, MisfitError):
            where = (*where, *cause.where)
        # pydantic adds names of its own (the branch of a union) to the keys of the file.
        known = next((where[:n] for n in range(len(where), -1, -1) if where[:n] in lines), ())
        missing = problem["type"] == "missing"
        key = ".".join(map(str, where if missing else known)) or "feed"
        line = lines.get(known, 1)
        messages.append((line, f"{source}:{line}: {_printable(key)}: {_complaint(problem)}"))
    return [text for _, text in sorted(dict.fromkeys(messages), key=lambda message: message[0])]


_COMPLAINTS: dict[str, Callable[[Any], str]] = {
    "missing": lambda problem: "found nothing, expected a value",
    "extra_forbidden": lambda problem: "found an unknown key, expected one that `wsrec feeds schema` names",
}


def _complaint(problem: Any) -> str:
    special = _COMPLAINTS.get(problem["type"])
    if special is not None:
        return special(problem)
    # "Input should be greater than 0" and its like: what was expected, in our words.
    message = problem["msg"].removeprefix("Value error, ")
    message = re.sub(r"^\w+ should (be |have |(?=match ))", lambda m: f"expected {m[1] or 'to '}", message)
    message = re.sub(r"^expected (be|have) ", "expected ", message)
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "keys and values", message)
    return _printable(message) if message.startswith("found") else f"found {_brief(problem['input'])}, {message}"


def _brief(value: Any) -> str:
    kind = {dict: "keys and values", list: "a list", type(None): "nothing"}.get(type(value))
    if kind:
        return kind
    text = repr(value if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number")
    return text if len(text) <= 60 else text[:57] + "..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
