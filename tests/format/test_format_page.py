"""docs/reference/format.md against the code that states the format."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.capture_files import Capture, message_columns
from wsrec.counts import COUNTER_INFO
from wsrec.format.metadata import METADATA_KEYS, METADATA_PREFIX
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.format.stage_times import DERIVED_SCHEMA
from wsrec.format.version import FORMAT_VERSION
from wsrec.report.model import Session
from wsrec.ring import events
from wsrec.ring.events import EventKind

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "format.md"


def schema_table(schema: pa.Schema) -> str:
    """The columns of a schema as docs/reference/format.md has them."""
    rows = ["| column | type | null | meaning |", "| --- | --- | --- | --- |"]
    for field in schema:
        kind = "dictionary of string" if pa.types.is_dictionary(field.type) else str(field.type)
        null = "yes" if field.nullable else "no"
        rows.append(f"| `{field.name}` | {kind} | {null} | {field.metadata[b'meaning'].decode()} |")
    return "\n".join(rows) + "\n"


def derived_table() -> str:
    """The derived columns as docs/reference/format.md has them."""
    rows = ["| derived column | type | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{field.name}` | {field.type} | {field.metadata[b'meaning'].decode()} |" for field in DERIVED_SCHEMA]
    return "\n".join(rows) + "\n"


def _details() -> Iterator[tuple[str, str]]:
    """Each kind and the docstring below it."""
    (kinds,) = ast.parse(inspect.getsource(events.EventKind)).body
    assert isinstance(kinds, ast.ClassDef)
    for member, comment in zip(kinds.body, kinds.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(comment, ast.Expr):
            yield ast.literal_eval(member.value), ast.literal_eval(comment.value)


def event_table() -> str:
    """The kinds of events as docs/reference/format.md has them."""
    rows = ["| kind | detail |", "| --- | --- |", *(f"| `{kind}` | {detail} |" for kind, detail in _details())]
    return "\n".join(rows) + "\n"


def metadata_table() -> str:
    """The metadata keys as docs/reference/format.md has them."""
    rows = ["| key | value (JSON) |", "| --- | --- |"]
    rows += [f"| `{METADATA_PREFIX}{key}` | {meaning} |" for key, meaning in METADATA_KEYS.items()]
    return "\n".join(rows) + "\n"


def counter_table() -> str:
    """The counters as docs/reference/format.md has them."""
    rows = ["| counter | by | counts |", "| --- | --- | --- |"]
    rows += [f"| `{each.name}` | {each.of} | {each.meaning} |" for each in COUNTER_INFO]
    return "\n".join(rows) + "\n"


def tables() -> list[str]:
    """All tables of the page that come from the code."""
    return [
        schema_table(MESSAGE_SCHEMA),
        derived_table(),
        schema_table(EVENT_SCHEMA),
        event_table(),
        metadata_table(),
        counter_table(),
    ]


class TestPage:
    @pytest.mark.parametrize("table", tables())
    def test_tables_are_those_of_the_code(self, table: str) -> None:
        assert table in PAGE.read_text(), f"docs/reference/format.md should have this table:\n\n{table}"

    def test_it_is_the_page_of_this_version(self) -> None:
        assert f"**Version {FORMAT_VERSION}.**" in PAGE.read_text()

    def test_every_kind_has_its_detail(self) -> None:
        assert [kind for kind, _ in _details()] == [kind.value for kind in EventKind]

    def test_snippets_name_columns_that_exist(self) -> None:
        columns = {*MESSAGE_SCHEMA.names, *Session.__struct_fields__}
        for snippet in snippets().values():
            assert columns.issuperset(re.findall(r"\b\w+_(?:time|seq|read)\b", snippet))

    def test_snippets_run(self, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        capture.write(message_columns(99))
        monkeypatch.chdir(capture.out.parent)
        assert list(snippets()) == ["pyarrow", "pandas", "duckdb", "polars", "wsrec"]
        for library, snippet in snippets().items():
            code = compile(snippet, library, "exec")
            if library not in ("pandas", "duckdb", "polars"):  # not among wsrec's requirements
                names: dict[str, Any] = {}
                exec(code, names)
                if library == "pyarrow":
                    assert names["table"].num_rows == 33


def snippets() -> dict[str, str]:
    """The Python examples by the library they import."""
    found = re.findall(r"```python\n((?:import|from) (\w+).*?)```", PAGE.read_text(), re.DOTALL)
    return {library: snippet for snippet, library in found}
