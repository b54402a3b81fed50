"""docs/reference/tables.md: its reference is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

from wsrec.feed.schema import feed_schema
from wsrec.feed.table_columns import COLUMNS, IDENTITY, TableColumn

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "tables.md"
_MODELS = {
    "### `tables` of a channel": "TableDeclaration",
    "### A place of a value": "Cell",
    "### A condition": "RowCondition",
    "### `flags`": "Flag",
    "### `bids` and `asks`": "Levels",
}


def updated(page: str) -> str:
    """The page with its reference made anew: below each of these headings a table."""
    schema = feed_schema()["$defs"]
    for heading, model in _MODELS.items():
        required = schema[model].get("required", [])
        described = {key: value["description"] for key, value in schema[model]["properties"].items()}
        rows = [
            f"| `{key}` | {meaning.replace('|', chr(92) + '|')} | {'required' if key in required else ''} |"
            for key, meaning in described.items()
        ]
        page = _with(page, heading, ["| key | meaning | |", "| --- | --- | --- |", *rows])
    page = _with(page, "Each table but `gaps` begins with these:", _columns(IDENTITY))
    for table, columns in COLUMNS.items():
        page = _with(page, f"### `{table}`", _columns(columns))
    return page


def _columns(columns: tuple[TableColumn, ...]) -> list[str]:
    rows = [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in columns]
    return ["| column | kind | meaning |", "| --- | --- | --- |", *rows]


def _with(page: str, heading: str, rows: list[str]) -> str:
    assert page.count(f"\n{heading}\n") == 1, heading
    pattern = re.escape(f"\n{heading}\n") + r"(\n(\|.*\n)+)?"
    table = "\n".join(rows)
    return re.sub(pattern, lambda _: f"\n{heading}\n\n{table}\n", page)


def test_it_is_current() -> None:
    page = PAGE.read_text()
    assert updated(page) == page, "run scripts/update-docs"
