"""YAML documents: plain YAML from untrusted files into pydantic models, with errors that name file, line and key.

Only plain YAML is accepted: no tags, no aliases (which can expand without end), a limited size and depth, no duplicate
keys.
"""

from __future__ import annotations

import os
import re
import stat
import types
import typing
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

import yaml
from pydantic import BaseModel, ValidationError

from wsrec.feed.errors import ConfigError, ConflictError
from wsrec.feed.masking import ENVIRONMENT, MASK, mask_url
from wsrec.feed.paths import PATH_PATTERN, ROW_PATH_PATTERN, TEXT_PATH_PATTERN
from wsrec.feed.values import NAME_IN_WORDS, NAME_PATTERN
from wsrec.units import did_you_mean, not_readable, plural

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
# Errors reported per file: a wrong kind of file has one for every key
_MAX_REPORTED = 100

# pydantic's words for what it expects, and those of YAML's users
_WORDS = {
    r"a valid dictionary( or instance of \w+)?": "keys and values",
    r"a valid (tuple|list)": "a list",
    r"a valid string": "a text",
    r"a valid boolean(, unable to interpret input)?": "true or false",
    r"a valid integer(, unable to parse string as an integer|, got a number with a fractional part)?": "a whole number",
    r"a valid number(, unable to parse string as a number)?": "a number",
}

_PATHS = {
    PATH_PATTERN: "a path such as `data.ts`, `[0]` or `data[].ts`",
    TEXT_PATH_PATTERN: "a path such as `data.ts`, `[0]` or `data[].ts`, or a remembered name such as `$chan`",
    ROW_PATH_PATTERN: "a path from the row, such as `p`, `[0]` or `data[].p`, or from the message, such as `$.ts`",
}

Location = tuple[str | int, ...]
_Lines = dict[Location, int]
_Model = TypeVar("_Model", bound=BaseModel)
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
# 16:05 is a base-60 number in YAML 1.1, and text in YAML 1.2 and to users
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")

# ten times as fast; PyYAML may have been built without it. In rare corners it accepts or reads differently what
# PyYAML's own parser refuses (`{a?}`, tabs), so it is only used for long files
_LIBYAML: Any = getattr(yaml, "CSafeLoader", None)
_LONG = 64 << 10


class Document:
    """A parsed YAML file, not yet validated.

    Attributes:
        source: the file's name in errors.
        keys: the top-level mapping.

    """

    def __init__(self, source: str, keys: dict[str, Any], lines: _Lines, schema: str) -> None:
        self.source = source
        self.keys = keys
        self._lines = lines
        self._schema = schema
        self._written: dict[Location, str] = {}

    def into(self, model: type[_Model]) -> _Model:
        """Validate the file as an instance of `model`.

        Raises:
            ConfigError: it is invalid; one line `FILE:LINE: KEY: found, expected` per error.

        """
        try:
            return model.model_validate(self.keys)
        except ValidationError as error:
            raise ConfigError("\n".join(self._explain(error, model))) from error

    def at(self, *where: str | int) -> str:
        """`FILE:LINE: KEY` of a key, or of its nearest ancestor in the file."""
        line = next(self._lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self._lines)
        return f"{self.source}:{line}: {_printable('.'.join(map(str, where)) or 'file')}"

    def substitute_environment(self, except_for: Callable[[Location, str], bool]) -> None:
        """Replace `${NAME}` in all texts from the environment, except where `except_for` returns True.

        Errors show the text as written, never the value.

        Raises:
            ConfigError: a variable is not set.

        """
        complaints: list[str] = []
        self.keys = self._filled(self.keys, (), except_for, complaints)
        if complaints:
            raise ConfigError("\n".join(complaints))

    def _filled(
        self, value: Any, where: Location, except_for: Callable[[Location, str], bool], complaints: list[str]
    ) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(item, (*where, key), except_for, complaints) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, (*where, n), except_for, complaints) for n, item in enumerate(value)]
        if not isinstance(value, str) or not ENVIRONMENT.search(value) or except_for(where, value):
            return value
        missing = sorted({name for name in ENVIRONMENT.findall(value) if not os.environ.get(name)})
        if missing:
            complaints.append(f"{self.at(*where)}: found ${{{missing[0]}}}, expected {missing[0]} in the environment")
            return value
        self._written[where] = value
        return ENVIRONMENT.sub(lambda found: os.environ[found[1]], value)

    def _explain(self, error: ValidationError, model: type[BaseModel]) -> list[str]:
        messages: list[tuple[int, str]] = []
        for problem in error.errors(include_url=False):
            where: Location = problem["loc"]
            cause = problem.get("ctx", {}).get("error")
            if isinstance(cause, ConflictError):
                where = (*where, *cause.where)
            if problem["type"] == "too_short" and len(problem["input"]) >= problem["ctx"]["min_length"]:
                continue  # it is only so short without its invalid items, which have errors of their own
            known = self._in_file(where)
            missing = problem["type"] == "missing"
            key = ".".join(map(str, (*known, where[-1]) if missing else known)) or "file"
            line = self._lines.get(known, 1)
            if problem["type"] == "extra_forbidden":
                complaint = self._unknown_key(known, model)
            else:
                complaint = self._complaint(known, problem, self._written.get(known))
            messages.append((line, f"{self.source}:{line}: {_printable(key)}: {complaint}"))
        found = sorted(dict.fromkeys(messages), key=lambda message: message[0])
        reported = [text for _, text in found[:_MAX_REPORTED]]
        if len(found) > len(reported):
            reported.append(
                f"{self.source}:{found[_MAX_REPORTED][0]}: found {plural(len(found) - len(reported), 'more mistake')}"
            )
        return reported

    def _in_file(self, where: Location) -> Location:
        """The steps that are the file's: pydantic inserts names of its own, and indices where one item is no list."""
        known: Location = ()
        for step in where:
            if (*known, step) in self._lines:
                known = (*known, step)
        return known

    def _unknown_key(self, where: Location, model: type[BaseModel]) -> str:
        meant = did_you_mean(str(where[-1]), _keys_beside(where, model))
        return f"found an unknown key, {meant or f'expected one that `{self._schema}` names'}"

    def _complaint(self, where: Location, problem: Any, written: str | None) -> str:
        if problem["type"] == "missing":
            return "found nothing, expected a value"
        # pydantic's "Input should be greater than 0" and its like, in our wording
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_pattern_mismatch" and problem["ctx"]["pattern"].endswith(NAME_PATTERN):
            message = f"expected {NAME_IN_WORDS}"
        elif problem["type"] == "string_pattern_mismatch" and problem["ctx"]["pattern"] in _PATHS:
            message = f"expected {_PATHS[problem['ctx']['pattern']]}"
        message = re.sub(r"^\w+ should (be |have |(?=match ))", lambda m: f"expected {m[1] or 'to '}", message)
        message = re.sub(r"^expected (be|have) ", "expected ", message)
        message = _in_our_words(message)
        if message.startswith("found"):
            return _printable(message)
        value = problem["input"] if written is None else written
        if problem["type"] in ("enum", "literal_error"):
            words = re.findall("'([^']*)'", problem["ctx"]["expected"])
            # without quotes, as on the command line
            message = message.replace("'", "")
            if isinstance(value, str) and (meant := did_you_mean(value, words)):
                message += f", {meant}"
        return f"found {_brief(_masked(where, value))}, {message}"


def read_document(path: Path | Traversable, what: str, schema: str) -> Document:
    """Read a YAML file.

    Args:
        path: the file.
        what: the expected kind of file, for errors: `a feed's YAML`.
        schema: the command that prints its JSON Schema, for errors.

    Raises:
        ConfigError: it cannot be read, or is not plain YAML.

    """
    try:
        # checked before it is opened: opening a FIFO blocks, and a device may be endless
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"found {str(path)!r}, which is not a regular file, expected {what}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"found {not_readable(path, error)}, expected {what}") from error
    return parse_document(data, str(path), what, schema)


def parse_document(data: bytes, source: str, what: str, schema: str) -> Document:
    """Parse the bytes of a YAML file; `source` names it in errors, the others are as for `read_document`.

    Raises:
        ConfigError: it is not plain YAML.

    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{source}:1: found more than {MAX_BYTES >> 20} MiB, expected {what}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: found bytes that are not UTF-8, expected text") from error
    lines: _Lines = {}
    try:
        plain = _Plain(lines).read(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{line}: found a control character, expected text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = _printable(error.problem or error.context or "expected YAML")
        raise ConfigError(f"{source}:{line}: column {column}: {problem}") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{source}:1: found {_brief(plain)}, expected keys and values, as `{schema}` says")
    return Document(source, plain, lines, schema)


class _Plain:
    """Composes one YAML document into dicts, lists and scalars, and records the line of each.

    Args:
        lines: filled with the line (from 1) of every value, by its path of keys and indexes.

    """

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._scalars = yaml.constructor.SafeConstructor()
        self._resolver: Any = yaml.resolver.Resolver()  # its methods have no types

    def read(self, text: str) -> Any:
        """The document as plain data.

        Raises:
            yaml.MarkedYAMLError: not YAML, or YAML outside the accepted subset.
            yaml.reader.ReaderError: it contains control characters.

        """
        if _LIBYAML is not None and len(text) >= _LONG:
            try:
                return self._read(text, _LIBYAML)
            except yaml.YAMLError:
                # the Python parser reports the error, in the same words on every machine
                self._lines.clear()
        return self._read(text, yaml.SafeLoader)

    def _read(self, text: str, loader: Any) -> Any:
        # Events first, one at a time: depth, aliases and tags are checked before anything recursive runs.
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise _refuse("found an alias (*), expected the value written out", event)
            if isinstance(event, yaml.NodeEvent):
                self._check_tag(event)
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise _refuse(f"found more than {MAX_DEPTH} levels, expected a few", event)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        node = yaml.compose(text, Loader=loader)
        return None if node is None else self._value(node, ())

    def _check_tag(self, event: yaml.NodeEvent) -> None:
        """Refuse a tag, unless it is the default for its value: `!!map {}`, `!!str x`."""
        tag = getattr(event, "tag", None)
        if tag is None:
            return
        if isinstance(event, yaml.ScalarEvent):
            plain = not event.style  # None; with libyaml ""
            default = self._resolver.resolve(yaml.ScalarNode, event.value, (plain, not plain))
        else:
            kind = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
            default = self._resolver.resolve(kind, None, True)
        if tag != default:
            name = re.sub("^tag:yaml.org,2002:", "!!", tag)
            raise _refuse(f"found the tag {_brief(name)}, expected the value without a tag", event)

    def _value(self, node: yaml.Node, where: Location) -> Any:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*where, index)) for index, item in enumerate(node.value)]
        if node.tag not in _PLAIN:
            raise _refuse(f"found {_brief(node.value)} (read as {node.tag.rpartition(':')[2]}), quote it", node)
        if isinstance(node, yaml.ScalarNode) and not node.style and _SEXAGESIMAL.fullmatch(node.value):
            return node.value
        try:
            return self._scalars.construct_object(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise _refuse(f"found {_brief(node.value)}, expected a plain value, or quotes around it", node) from error

    def _mapping(self, node: yaml.MappingNode, where: Location) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refuse("found a structure as a key, expected a name", key)
            # As written: YAML 1.1 would read the keys `on` and `no` as booleans.
            name = key.value
            if name in mapping:
                first = self._lines[(*where, name)]
                raise _refuse(f"{name}: found twice, expected once (first in line {first})", key)
            self._lines[(*where, name)] = key.start_mark.line + 1
            mapping[name] = self._value(value, (*where, name))
        return mapping


def _keys_beside(where: Location, model: type[BaseModel]) -> list[str]:
    """The keys that may stand where the last one of `where` does, by the fields' types on the way from `model`."""
    kinds: list[Any] = [model]
    for step in where[:-1]:
        kinds = [part for kind in kinds for part in _value_types(kind, step)]
    # a single item may stand in place of a list of them
    kinds += [part for kind in kinds if typing.get_origin(kind) is tuple for part in _value_types(kind, 0)]
    return [key for kind in kinds if _is_model(kind) for key in _fields(kind)]


def _value_types(kind: Any, step: str | int) -> list[Any]:
    """The types, unions taken apart, that a value at a key or an index of a `kind` may have."""
    if _is_model(kind):
        return _alternatives(_fields(kind).get(str(step)))
    # the values of a mapping, or the items of a sequence
    return [
        each for part in typing.get_args(kind)[-1 if isinstance(step, str) else 0 :][:1] for each in _alternatives(part)
    ]


def _alternatives(annotation: Any) -> list[Any]:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        return _alternatives(arguments[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [each for part in arguments for each in _alternatives(part)]
    return [annotation]


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _refuse(problem: str, at: Any) -> yaml.MarkedYAMLError:
    """A YAML error at a node or an event."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _in_our_words(message: str) -> str:
    for pattern, words in _WORDS.items():
        message = re.sub(pattern, words, message)
    return message


def _masked(where: Location, value: Any) -> Any:
    """A value as an error may show it: addresses and headers may contain secrets."""
    if not isinstance(value, str):
        return value
    if "proxy" in where:
        # in an invalid address the password may be anywhere
        return MASK
    if "://" in value:
        return mask_url(value)
    return MASK if {"headers", "url", "token"} & set(where) else value


def _brief(value: Any) -> str:
    kind = {dict: "keys and values", list: "a list", type(None): "nothing"}.get(type(value))
    if kind:
        return kind
    text = repr(value if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number")
    return text if len(text) <= 60 else text[:57] + "..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
