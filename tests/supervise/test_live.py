"""wsrec.supervise.terminal: what the live view looks like on a narrow terminal."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from wsrec.ring.status import RECEIVER_FIELDS, WRITER_FIELDS
from wsrec.supervise.sampler import Progress, Sample
from wsrec.supervise.terminal import draw

WIDTH = 80
BUSY = {
    "messages": 12_345_678_901,
    "payload_bytes": 987_654_321_000,
    "connected": 100,
    "connections": 100,
    "reconnects": 12_345,
    "gaps": 54_321,
    "restarts": 12,
}


def supervisor(feeds: list[str], elapsed: float, left: float | None) -> Any:
    """What the view reads of a supervisor, `elapsed` seconds after its start and `left` before its end."""
    now = time.monotonic()
    return SimpleNamespace(
        began=now - elapsed,
        until=None if left is None else now + left,
        pairs=[SimpleNamespace(plans=[SimpleNamespace(feed=feed) for feed in feeds])],
    )


def rendered(view: Any, *, soft_wrap: bool = True) -> list[str]:
    """The lines of the view on a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=True, color_system=None, soft_wrap=soft_wrap)
    counters = dict.fromkeys((*RECEIVER_FIELDS, *WRITER_FIELDS), 0) | BUSY
    now = Sample(time.monotonic(), counters, None, 0.125)  # type: ignore[arg-type]
    console.print(draw(view, now, Progress(1_234_567.0, 987e6, [(123_456, 59_900_000_000)] * 6)))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("soft_wrap", [True, False])
@pytest.mark.parametrize("left", [None, 47.7, 3594.0, 86_000.0, -1.0])
@pytest.mark.parametrize("elapsed", [0.0, 12.3, 3594.0, 86_400.0 * 365])
@pytest.mark.parametrize("feeds", [["binance"], ["binance", "binance-usdm", "coinbase-exchange"], ["x" * 64]], ids=len)
def test_it_fits_80_columns_with_its_title_in_one_line(
    feeds: list[str], elapsed: float, left: float | None, soft_wrap: bool
) -> None:
    title, gap, *rest = rendered(supervisor(feeds, elapsed, left), soft_wrap=soft_wrap)
    assert title.startswith("recording ")
    assert title.rstrip().endswith("Ctrl-C to finish")
    assert not gap.strip()
    assert rest[0].startswith("messages")
    assert max(cell_len(line) for line in (title, *rest)) <= WIDTH


def test_the_names_are_cut_and_nothing_else() -> None:
    title = rendered(supervisor(["binance", "binance-usdm", "coinbase-exchange"], 12.3, 47.7))[0]
    assert title.startswith("recording binance, ")
    assert title.count("…") == 1
    assert " left  Ctrl-C to finish" in title


def test_a_short_name_is_whole() -> None:
    assert "…" not in rendered(supervisor(["binance-usdm"], 12.3, 47.7))[0]


def test_when_the_time_is_up_it_is_finishing() -> None:
    title = rendered(supervisor(["binance"], 60.0, -0.5))[0]
    assert "finishing" in title
    assert "left" not in title
