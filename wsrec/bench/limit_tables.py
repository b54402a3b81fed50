"""The limits of the machine as tables, and wsrec's steps beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from wsrec.bench.limits import CLOCK, COPY_SLOT, RECEIVE, SEND, WAKE_UP, WATCHING
from wsrec.bench.results import Limits, Pace, PacedRound, Results
from wsrec.bench.table_parts import Table, known_median, ratio
from wsrec.units import duration

_STEPS = {
    "sent_to_event": "wake-up: send->EVENT",
    "event_to_recv_start": "event: EVENT->RECV_START",
    "recv_start_to_recv_end": "TLS: RECV_START->RECV_END",
    "recv_start_to_read": "  the read",
    "read_to_recv_end": "  decryption",
    "recv_end_to_parsed": "parsing: RECV_END->PARSED",
    "parsed_to_handoff": "hand-off: PARSED->HANDOFF",
}


def limit_tables(results: Results) -> Iterator[Table]:
    """The tables of `Results.limits`; none if they were not measured."""
    limits = results.limits
    if limits is None:
        return
    yield Table(
        "limits of this machine",
        ("operation", "ns"),
        [(one.name, f"{one.ns:,.1f}" if one.ns < 100 else f"{one.ns:,.0f}") for one in limits.operations],
        "the shortest of several tries; between two processors one way, medians: who is woken slept for 0.1 ms",
    )
    yield Table(
        "opening a TLS record: ns",
        ("bytes", "EVP alone", "direct", "of EVP", "ssl", "of EVP"),
        [
            (
                f"{one.size:,}",
                f"{one.evp_ns:,.0f}",
                f"{one.reader_ns:,.0f}",
                ratio(one.reader_ns, one.evp_ns),
                f"{one.ssl_ns:,.0f}",
                ratio(one.ssl_ns, one.evp_ns),
            )
            for one in limits.records
        ],
        "AES-256-GCM of TLS 1.3, through the libcrypto of Python's ssl: called from C, by wsrec's record layer, and by "
        "Python's ssl from a memory BIO",
    )
    for pace in limits.paces:
        how = "waiting" if pace.waiting else "polling all the time"
        head = [column for mode in pace.wsrec for column in (mode, "of C")]
        yield Table(
            f"wsrec beside its limits, {how}",
            ("p50", *head, "in C", "theory"),
            [*_steps(pace, limits)],
            f"{results.options['rate']:,.0f} records a second of one frame of {limits.frame_bytes} bytes; by TLS mode, "
            "and how much more than in C: a loop that only receives, decrypts, and takes the times; theory: the "
            "operations above, as fast as when nothing else runs",
        )


def _steps(pace: Pace, limits: Limits) -> Iterator[tuple[str, ...]]:
    theory = _theory(pace, limits)

    def row(name: str, figure: Callable[[PacedRound], float | None], least: float | None) -> tuple[str, ...]:
        floor = known_median(pace.in_c, figure)
        cells = []
        for rounds in pace.wsrec.values():
            current = known_median(rounds, figure)
            cells += [_shown(current), ratio(current, floor)]
        return (name, *cells, _shown(floor), _shown(least))

    for key, name in _STEPS.items():
        yield row(name, lambda one: one.steps[key]["p50"] if key in one.steps else None, theory.get(key))  # noqa: B023 (called here)
    yield row("one way: send->HANDOFF", lambda one: one.one_way["p50"], None)


def _shown(value: float | None) -> str:
    return "-" if value is None else duration(value)


def _theory(pace: Pace, limits: Limits) -> dict[str, float]:
    """What the operations of a step take at least (ns)."""
    took = {one.name: one.ns for one in limits.operations}
    clock, read = took[CLOCK], took[RECEIVE]
    sizes, costs = [one.size for one in limits.records], [one.evp_ns for one in limits.records]
    evp = float(np.interp(limits.frame_bytes, sizes, costs))
    found = {
        "event_to_recv_start": clock,
        "recv_start_to_read": read + clock,
        "read_to_recv_end": evp + clock,
        "recv_start_to_recv_end": read + evp + clock,
        "recv_end_to_parsed": clock,
        "parsed_to_handoff": clock + took[COPY_SLOT],
    }
    wake_up = took.get(WAKE_UP if pace.waiting else WATCHING)
    return found if wake_up is None else {"sent_to_event": took[SEND] + wake_up + clock, **found}
