"""wsrec.log_folding: a warning comes at once, and a thousand of them are a few lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsrec.log_folding import FoldedWarnings


class Log:
    """What was passed on, and a clock that the test turns."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 1000.0
        self.warnings = FoldedWarnings(self.take, at_once=3, interval=60.0, clock=lambda: self.now)

    def take(self, message, hint=None, *, feed=None, conn=None, **about):
        self.lines.append(f"{feed}: {message}" if conn is None else f"[{conn}] {feed}: {message}")
        self.about = about


def test_the_first_few_at_once_and_then_a_count_an_interval():
    log = Log()
    for number in range(100):
        log.warnings.warn("okx", "sequence gaps", f"gap {number}", conn=2)
    assert log.lines == ["[2] okx: gap 0", "[2] okx: gap 1", "[2] okx: gap 2"]
    log.now += 59
    log.warnings.due()
    assert len(log.lines) == 3
    log.now += 1
    log.warnings.due()
    assert log.lines[3:] == ["[2] okx: sequence gaps: 97 more within 60 s, the last: gap 99"]
    log.warnings.warn("okx", "sequence gaps", "one more")
    log.now += 60
    log.warnings.due()
    assert log.lines[4:] == ["okx: sequence gaps: 1 more within 60 s, the last: one more"]


def test_a_count_says_what_it_counts_for_programs_too():
    log = Log()
    for number in range(10):
        log.warnings.warn("okx", "gaps", "gap", kind="gap", channel="trades", symbol=f"S{number}", detail={"n": number})
        assert log.about.get("count", 1) == 1
    log.warnings.flush()
    assert log.about == {"count": 7, "kind": "gap", "channel": "trades", "symbol": "S9", "detail": {"n": 9}}


def test_after_a_quiet_interval_the_next_one_comes_at_once():
    log = Log()
    for number in range(4):
        log.warnings.warn("okx", "sequence gaps", f"gap {number}")
    log.now += 61
    log.warnings.due()
    log.now += 61
    log.warnings.warn("okx", "sequence gaps", "the next")
    assert log.lines[-1] == "okx: the next"


def test_kinds_and_feeds_do_not_hide_one_another():
    log = Log()
    for number in range(10):
        log.warnings.warn("okx", "sequence gaps", f"gap {number}")
    log.warnings.warn("okx", "refusals", "refused")
    log.warnings.warn("htx", "sequence gaps", "gap")
    assert log.lines[3:] == ["okx: refused", "htx: gap"]


def test_the_end_brings_what_was_counted():
    log = Log()
    for number in range(5):
        log.warnings.warn("okx", "sequence gaps", f"gap {number}")
    log.now += 10
    log.warnings.flush()
    log.warnings.flush()
    assert log.lines[3:] == ["okx: sequence gaps: 2 more within 10 s, the last: gap 4"]


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab")), max_size=200))
def test_every_warning_is_shown_or_counted_and_lines_are_few(steps):
    log = Log()
    for wait, kind in steps:
        log.now += wait
        log.warnings.warn("f", kind, "it happened")
    log.warnings.flush()
    counts = [int(line.split(" more ")[0].split()[-1]) for line in log.lines if " more " in line]
    assert len(log.lines) - len(counts) + sum(counts) == len(steps)
    minutes = (log.now - 1000.0) / 60 + 1
    assert len(log.lines) <= 2 * 4 * minutes + 2
