"""wsrec.supervise.live_view: screens of any size, with any number of connections."""

from __future__ import annotations

import io
import re

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from tests.supervise.recorder_states import SECOND, connection, state, warnings
from wsrec.supervise.live_history import MOST, PERIOD_NS, History, sparkline
from wsrec.supervise.live_rows import SORTS
from wsrec.supervise.live_view import LiveView
from wsrec.supervise.state import Latency, RecorderState

SIZES = [(80, 24), (120, 40), (200, 50)]


def screen(view: LiveView, shown: RecorderState, width: int = 80, height: int = 24) -> list[str]:
    """The lines of a view as they are, neither padded nor cut."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(view.draw(shown, width, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def conns(lines: list[str]) -> list[int]:
    """The numbers of the connections in the rows of the only feed."""
    return [int(found[1]) for line in lines if (found := re.match(r"binance (\d+) ", line))]


@pytest.mark.parametrize("kinds", [0, 1, 8])
@pytest.mark.parametrize(
    ("count", "feeds"),
    [(1, ("binance",)), (5, ("binance",)), (5, ("binance", "okx")), (60, ("binance",)), (60, ("binance", "okx"))],
    ids=lambda value: value if isinstance(value, int) else len(value),
)
@pytest.mark.parametrize(("width", "height"), SIZES)
class TestEachScreen:
    def test_is_filled_exactly(self, width, height, count, feeds, kinds) -> None:
        lines = screen(LiveView(has_keys=True), state(count, feeds, warnings=warnings(kinds)), width, height)
        assert len(lines) == height
        assert max(map(cell_len, lines)) <= width
        assert lines[0].startswith("recording binance")
        assert lines[0].rstrip().endswith("left")
        assert "Ctrl-C to finish" in lines[-1]

    def test_shows_all_connections_or_says_how_many(self, width, height, count, feeds, kinds) -> None:
        view = LiveView(has_keys=True)
        shown = state(count, feeds, warnings=warnings(kinds))
        text = "\n".join(screen(view, shown, width, height))
        rows = count + (len(feeds) if len(feeds) > 1 else 0)
        seen = len(re.findall(r" open +\S+/s .* [µm]s", text))
        assert seen == rows or re.search(rf"^1 to {seen} of {rows} *$", text, re.MULTILINE)

    def test_shows_the_figures_and_steps(self, width, height, count, feeds, kinds) -> None:
        lines = screen(LiveView(has_keys=True), state(count, feeds, warnings=warnings(kinds)), width, height)
        for figure in (
            "12,345,678,901",
            "1.23M/s",
            f"{count}/{count}",
            "12.5%",
            "12,345 ",
            "80.0 GB, 12.0 d",
            "16.7 min",
        ):
            assert any(figure in line for line in lines), figure
        if height > 24:
            assert any("RECV_START->RECV_END" in line for line in lines)


@pytest.mark.parametrize("restarts", [0, 2])
@pytest.mark.parametrize(("width", "height"), [(40, 10), (40, 14), (80, 16), (200, 10), (200, 20)])
def test_a_screen_too_small_for_everything_still_has_connections_warnings_and_keys(width, height, restarts) -> None:
    shown = replace(state(60, warnings=warnings(8)), restarts=restarts)
    lines = screen(LiveView(has_keys=True), shown, width, height)
    assert len(lines) == height
    assert conns(lines)
    assert any("warnings" in line for line in lines)
    assert lines[-1].startswith("q end")
    assert max(map(cell_len, lines)) <= width


def test_by_scrolling_every_connection_is_seen() -> None:
    view, shown, seen = LiveView(has_keys=True), state(60), set()
    for _ in range(20):
        seen.update(conns(screen(view, shown)))
        view.press("page down", shown)
    assert seen == set(range(60))
    last = conns(screen(view, shown))
    assert last[-1] == 59
    view.press("up", shown)
    assert conns(screen(view, shown)) == [each - 1 for each in last]
    view.press("home", shown)
    assert conns(screen(view, shown))[0] == 0


def test_each_order_has_its_first() -> None:
    odd = {
        "trouble": connection(40, state="down", reconnects=2),
        "rate": connection(41, rate=1e6),
        "age": connection(42, age_ns=None),
        "p99": connection(43, latency=Latency(1, 10**10)),
    }
    usual = state(60)
    by_conn = {each.conn: each for each in odd.values()}
    shown = replace(usual, connections=tuple(by_conn.get(each.conn, each) for each in usual.connections))
    view = LiveView(has_keys=True)
    assert conns(screen(view, shown))[:3] == [0, 1, 2]
    for sort in SORTS[1:]:
        view.press("s", shown)
        lines = screen(view, shown)
        assert conns(lines)[0] == odd[sort].conn
        assert f"sort: {sort}" in lines[-1]
    view.press("s", shown)
    assert conns(screen(view, shown))[:3] == [0, 1, 2]


def test_feeds_are_summed_up_and_can_stand_alone() -> None:
    view, shown = LiveView(has_keys=True), state(6, ("binance", "okx"))
    down = replace(
        shown, connections=(*shown.connections[:-1], connection(5, "okx", state="silent", age_ns=90 * SECOND))
    )
    text = "\n".join(screen(view, down))
    assert re.search(r"^binance +3/3 open +222/s", text, re.MULTILINE)
    assert re.search(r"^okx +2/3 open ", text, re.MULTILINE)
    assert re.search(r"^  5 stream.okx.* silent .* 90 s", text, re.MULTILINE)
    view.press("f", down)
    text = "\n".join(screen(view, down))
    assert "2/3 open" in text
    assert "silent" not in text


def test_a_paused_view_stands_still() -> None:
    view, before = LiveView(has_keys=True), state(1)
    after = replace(before, ring_fill=0.75, time=before.time + SECOND)
    view.press("p", before)
    lines = screen(view, after)
    assert "VIEW PAUSED" in lines[0]
    assert any("12.5%" in line for line in lines)
    view.press("p", after)
    lines = screen(view, after)
    assert "PAUSED" not in lines[0]
    assert any("75.0%" in line for line in lines)


def test_only_q_twice_ends() -> None:
    view, shown = LiveView(has_keys=True), state(1)
    assert view.press("q", shown) is None
    assert "q again" in screen(view, shown)[-1]
    assert view.press("x", shown) is None
    assert "q again" not in screen(view, shown)[-1]
    assert view.press("q", shown) is None
    assert view.press("q", shown) == "end"


def test_help_names_every_key_and_goes_away() -> None:
    view, shown = LiveView(has_keys=True), state(60, warnings=warnings(8))
    view.press("?", shown)
    for width, height in SIZES:
        lines = screen(view, shown, width, height)
        assert len(lines) <= height
        for word in ("pause this view", "sort the connections", "scroll", "logarithmic scale"):
            assert any(word in " ".join(lines[i : i + 2]) for i in range(len(lines))), word
    view.press("?", shown)
    assert conns(screen(view, shown))


def test_without_keys_none_is_offered() -> None:
    last = screen(LiveView(has_keys=False), state(1))[-1]
    assert last.strip() == "Ctrl-C to finish"


def test_warnings_are_counted_and_one_line_each() -> None:
    lines = screen(LiveView(has_keys=True), state(1, warnings=warnings(8)))
    heading = next(index for index, line in enumerate(lines) if "warnings" in line)
    assert lines[heading].startswith("36 warnings, the last ")
    assert re.match(r"\d\d:\d\d:\d\d binance 0: kind 0: ", lines[heading + 1])
    assert re.match(r"\d\d:\d\d:\d\d 2x binance: kind 1: ", lines[heading + 2])


def test_words_of_an_exchange_do_nothing_to_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07[bold]x[/bold]\n\u202e"
    bad = replace(warnings(1)[0], message=evil, hint=evil)
    shown = state(2, (evil, "okx"), out=evil, warnings=(bad,))
    shown = replace(shown, connections=(connection(0, evil, host=evil), *shown.connections[1:]))
    lines = screen(LiveView(has_keys=True), shown, 120, 40)
    assert len(lines) == 40
    text = "\n".join(lines)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "[bold]x[/bold]" in text


def test_a_recording_that_ends_says_so() -> None:
    assert screen(LiveView(has_keys=True), state(1, phase="finishing"))[0].startswith("finishing binance")
    over = state(1, until=state(1).time - 1)
    assert "time is up" in screen(LiveView(has_keys=True), over)[0]


class TestHistory:
    def test_a_value_each_period(self) -> None:
        history, shown = History(), state(1)
        for step in range(MOST * 2):
            at = replace(
                shown, time=shown.time + step * PERIOD_NS // 2, connections=(connection(0, latency=Latency(1, step)),)
            )
            history.add(at)
        kept = history.of(shown.connections[0], 1000)
        assert kept == list(range(0, MOST * 2, 2))
        assert history.of(shown.connections[0], 3) == kept[-3:]
        assert history.of(shown.connections[0], 0) == []

    def test_a_clock_that_is_set_back_does_not_stop_it(self) -> None:
        history, shown = History(), state(1)
        history.add(shown)
        history.add(replace(shown, time=shown.time - 3600 * SECOND))
        assert len(history.of(shown.connections[0], 10)) == 2

    def test_sparkline(self) -> None:
        assert sparkline([1000, None, 1_000_000, 31_623], 1000, 1_000_000) == "▁ █▅"
        assert sparkline([0, 5, 5], 5, 5) == "▁▁▁"
        assert sparkline([], 1, 1) == ""
