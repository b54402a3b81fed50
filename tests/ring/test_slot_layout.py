"""wsrec.ring.slot_layout: numpy, struct, compiled code and docs agree with the one table of a slot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.ring import slot_flags
from wsrec.ring.slot_layout import (
    OFFSETS,
    SLOT,
    SLOT_DTYPE,
    SLOT_FIELDS,
    SLOT_SIZE,
    check_compiled,
    layout_table,
)

FIELDS = SLOT_DTYPE.names
WIDTHS = {field.name: field.size * 8 for field in SLOT_FIELDS}
COMPILED = {field.name: (OFFSETS[field.name], field.size) for field in SLOT_FIELDS}
FLAGS = {"FLAG_FIN": 1, "FLAG_LAST": 0x20}


class TestLayout:
    def test_a_slot_is_a_cache_line(self):
        assert SLOT.size == SLOT_SIZE == SLOT_DTYPE.itemsize == 64

    @pytest.mark.parametrize("field", FIELDS)
    def test_the_largest_value_of_a_field_stays_in_it(self, field):
        values = dict.fromkeys(FIELDS, 0) | {field: 2 ** WIDTHS[field] - 1}
        data = bytearray(SLOT_SIZE)
        SLOT.pack_into(data, 0, *values.values())
        assert dict(zip(FIELDS, np.frombuffer(data, SLOT_DTYPE)[0].tolist(), strict=True)) == values

    @given(st.tuples(*(st.integers(0, 2**bits - 1) for bits in WIDTHS.values())))
    def test_numpy_reads_what_struct_wrote(self, values):
        data = bytearray(SLOT_SIZE)
        SLOT.pack_into(data, 0, *values)
        record = np.frombuffer(data, SLOT_DTYPE)[0]
        assert record.tolist() == values
        assert record.tobytes() == data

    def test_every_field_is_aligned(self):
        assert [field.name for field in SLOT_FIELDS if OFFSETS[field.name] % field.size] == []

    def test_the_page_has_the_table(self):
        page = Path(__file__).parents[2] / "docs" / "reference" / "rings.md"
        assert layout_table() in page.read_text(), "run scripts/update-docs"


class TestCompiled:
    """Compiled code states its layout when it is imported, and is refused if it differs."""

    def test_the_same_layout_is_taken(self):
        check_compiled(SLOT_SIZE, COMPILED, FLAGS)

    @pytest.mark.parametrize(
        ("size", "fields", "flags", "named"),
        [
            (72, COMPILED, FLAGS, "72 bytes"),
            (64, COMPILED | {"length": (44, 8)}, FLAGS, "length"),
            (64, COMPILED | {"conn": (54, 2), "frames_in_read": (56, 2)}, FLAGS, "conn, frames_in_read"),
            (64, COMPILED | {"extra": (61, 1)}, FLAGS, "extra"),
            (64, {name: at for name, at in COMPILED.items() if name != "nic"}, FLAGS, "nic"),
            (64, COMPILED, FLAGS | {"FLAG_FIN": 2}, "FLAG_FIN"),
        ],
    )
    def test_another_one_is_refused_by_name(self, size, fields, flags, named):
        with pytest.raises(RuntimeError, match=rf"another slot layout \({named}\): compile wsrec again"):
            check_compiled(size, fields, flags)

    @pytest.mark.parametrize("module", ["wsrec.receive._hotpath", "wsrec.writer._gather", "wsrec.client._consumer"])
    def test_each_module_is_compared(self, module):
        pytest.importorskip(module, reason="not compiled here", exc_type=ImportError)
        change = (
            "from wsrec.ring import slot_layout\n"
            "slot_layout.SLOT_FIELDS = slot_layout.SLOT_FIELDS[1:]\n"
            f"try:\n    import {module}\n"
            "except RuntimeError as error:\n    print(error)\n"
        )
        command = [sys.executable, "-P", "-c", change]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert printed.startswith("compiled code has another slot layout (offset)")


def test_masks_are_of_their_flags():
    assert slot_flags.CONTROL_RECORD == slot_flags.Flag.SENT | slot_flags.Flag.EVENT
    assert slot_flags.NOT_RECEIVED == slot_flags.Flag.SENT | slot_flags.Flag.EVENT | slot_flags.Flag.REST
    every = np.arange(256, dtype=np.uint8)
    assert ((every & slot_flags.ALL_BUT_RSV1) & slot_flags.Flag.RSV1 == 0).all()
    assert (every & slot_flags.ALL_BUT_RSV1 | every & slot_flags.FLAG_RSV1 == every).all()
