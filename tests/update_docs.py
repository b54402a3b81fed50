"""scripts/update-docs: the tables in docs/, the schemas and manual pages, from the code; tests hold them to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from scripts import manual_pages
from tests.config.test_run_config import key_tables
from tests.feed import catalogue_page
from tests.format.test_format_page import tables as format_tables
from tests.supervise.test_metrics import metrics_table
from tests.tables import test_tables_page as tables_page
from tests.test_shutdown import limits_table
from wsrec.config.run_config import run_schema
from wsrec.feed.schema import feed_schema
from wsrec.ring.slot_layout import layout_table

ROOT = Path(__file__).parents[1]


def write(name: str, *tables: str, by_first_cell: bool = False) -> None:
    """Replace tables of a page; each is known by its head, and with `by_first_cell` by its first cell too."""
    page = ROOT / "docs" / name
    text = page.read_text()
    for table in tables:
        rows = table.splitlines(keepends=True)
        pattern = re.escape("".join(rows[:2]))
        if by_first_cell:
            pattern += re.escape(f"|{rows[2].split('|')[1]}|") + r".*\n"
        text = re.sub(pattern + r"(\|.*\n)*", lambda _, t=table: t, text)
    page.write_text(text)


def main() -> None:
    write("reference/format.md", *format_tables(), by_first_cell=True)
    write("explanation/processes.md", limits_table())
    write("reference/configs.md", *key_tables(), by_first_cell=True)
    for name, schema in (("feed", feed_schema()), ("run", run_schema())):
        (ROOT / "configs" / f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n")
    write("reference/rings.md", layout_table())
    write("how-to/monitoring.md", metrics_table())
    tables_page.PAGE.write_text(tables_page.updated(tables_page.PAGE.read_text()))
    catalogue_page.PAGE.write_text(catalogue_page.updated(catalogue_page.PAGE.read_text()))
    manual_pages.write()


if __name__ == "__main__":
    main()
