"""wsrec.tables.schema: the types that readers of the tables rely on."""

import pyarrow as pa
import pytest

from wsrec.feed.table_columns import Table
from wsrec.options.export import Numbers
from wsrec.tables.schema import table_schema


@pytest.mark.parametrize("table", [table for table in Table if table is not Table.GAPS])
def test_each_row_leads_back_to_its_message(table: Table) -> None:
    schema = table_schema(table)
    assert schema.names[:10] == [
        *("feed", "session", "seq", "item", "conn", "recv_time", "exchange_time", "symbol", "channel", "state")
    ]
    assert not any(schema.field(name).nullable for name in ("feed", "session", "seq", "item", "state"))
    assert len(set(schema.names)) == len(schema.names)


def test_numbers_are_doubles_or_exact_decimals() -> None:
    assert table_schema(Table.TRADES).field("price").type == pa.float64()
    exact = table_schema(Table.DERIVATIVE_TICKER, Numbers.DECIMAL)
    assert exact.field("mark_price").type == pa.decimal128(38, 18)
    assert exact.field("funding_rate").type == pa.decimal128(38, 24)
    assert table_schema(Table.BOOK_SNAPSHOTS, Numbers.DECIMAL).field("bid_prices").type == pa.list_(
        pa.decimal128(38, 18)
    )
