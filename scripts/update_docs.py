#!/usr/bin/env python3
"""Write the tables in docs/ anew from the code that they describe; the tests check that it was done."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.feed import catalogue_page  # noqa: E402
from tests.format.test_format_page import event_table, metadata_table, schema_table  # noqa: E402
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA  # noqa: E402


def main() -> None:
    page = ROOT / "docs" / "format.md"
    text = page.read_text()
    for table in (schema_table(MESSAGE_SCHEMA), schema_table(EVENT_SCHEMA), event_table(), metadata_table()):
        rows = table.splitlines(keepends=True)
        # a table is known by its head and the first cell of its first row
        head, first = "".join(rows[:2]), rows[2].split("|")[1]
        text = re.sub(re.escape(head) + r"\|" + re.escape(first) + r"\|.*\n(\|.*\n)*", lambda _, t=table: t, text)
    page.write_text(text)
    catalogue_page.PAGE.write_text(catalogue_page.updated(catalogue_page.PAGE.read_text()))


if __name__ == "__main__":
    main()
