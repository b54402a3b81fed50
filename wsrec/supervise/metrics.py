"""The metrics of a recorder for Prometheus: one table, from which the scrape and the documentation are made.

The label sets are bounded by the plan: feeds, connections, processes, steps, levels; nothing that an exchange sends is
a label. Counters are those of one recording: they begin at zero when a recorder starts, as Prometheus expects.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from wsrec.counts import COUNTER_INFO
from wsrec.histogram import FLOOR
from wsrec.stages import STEPS, TOTAL
from wsrec.supervise.health import KINDS, is_ready, problems
from wsrec.supervise.state import NOT_UP, ConnectionState, Phase, ProcessState, RecorderState

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

    from wsrec.supervise.state_sampler import StateSampler

Kind = Literal["counter", "gauge", "histogram"]
Values = Iterable[tuple[tuple[str, ...], float]]

BOUNDS = (*(float(f"{digit}e{power}") for power in range(-6, 1) for digit in (1, 2, 5)), 10.0)
"""Upper bounds of the latency histograms' buckets (s): from a microsecond to ten seconds, three a decade."""


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: its name, for a counter with `_total`.
        kind: its type.
        help: its meaning.
        labels: the names of its labels.
        values: returns the values with their labels' values; None for the histogram.

    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    values: Callable[[RecorderState], Values] | None = None


def _one(value: Callable[[RecorderState], float | None]) -> Callable[[RecorderState], Values]:
    """A metric without labels; none if the value is None."""

    def values(state: RecorderState) -> Values:
        found = value(state)
        return () if found is None else (((), found),)

    return values


def _each(value: Callable[[ConnectionState], float | None]) -> Callable[[RecorderState], Values]:
    """A metric of each connection."""

    def values(state: RecorderState) -> Values:
        for each in state.connections:
            if (found := value(each)) is not None:
                yield (each.feed, str(each.conn)), found

    return values


def _process(value: Callable[[ProcessState], float | None]) -> Callable[[RecorderState], Values]:
    """A metric of each process."""

    def values(state: RecorderState) -> Values:
        for each in state.processes:
            if (found := value(each)) is not None:
                yield (each.name,), found

    return values


def _latencies(state: RecorderState) -> Values:
    for each in state.connections:
        for percentile, ns in (("50", each.latency.p50), ("99", each.latency.p99)):
            if ns is not None:
                yield (each.feed, str(each.conn), percentile), ns / 1e9


def _problems(state: RecorderState) -> Values:
    found = {each.kind for each in problems(state)}
    return [((kind,), float(kind in found)) for kind in KINDS]


def _counter(name: str) -> Callable[[RecorderState], Values]:
    return _one(lambda state: getattr(state.counts, name))


_CONNECTION = ("feed", "conn")
METRICS: tuple[Metric, ...] = (
    Metric(
        "wsrec_build_info",
        "gauge",
        "1; the labels are the version of wsrec and of Python",
        ("version", "python"),
        lambda state: [((state.version, platform.python_version()), 1.0)],
    ),
    Metric(
        "wsrec_start_time_seconds",
        "gauge",
        "when the recorder was started, since the epoch",
        (),
        _one(lambda state: state.began / 1e9),
    ),
    Metric(
        "wsrec_phase",
        "gauge",
        "1 for the phase that the recording is in: starting, recording or finishing",
        ("phase",),
        lambda state: [((phase,), float(phase == state.phase)) for phase in get_args(Phase)],
    ),
    Metric(
        "wsrec_holds_folder",
        "gauge",
        "1 if it holds its output folder; 0 while it takes it over",
        (),
        _one(lambda state: float(state.holds_folder)),
    ),
    Metric(
        "wsrec_ready",
        "gauge",
        "1 if `/readyz` says so: every connection is up, and the writer keeps up",
        (),
        _one(lambda state: float(is_ready(state))),
    ),
    Metric(
        "wsrec_problem",
        "gauge",
        "1 for each kind of problem that there is (`wsrec status` has its words)",
        ("kind",),
        _problems,
    ),
    *(Metric(f"wsrec_{each.name}_total", "counter", each.meaning, (), _counter(each.name)) for each in COUNTER_INFO),
    Metric("wsrec_connections", "gauge", "planned connections", (), _one(lambda state: len(state.connections))),
    Metric("wsrec_connections_open", "gauge", "open connections", (), _one(lambda state: state.connected)),
    Metric(
        "wsrec_connection_up",
        "gauge",
        "1 if the connection is open and not silent beyond its idle timeout",
        _CONNECTION,
        _each(lambda each: float(each.state not in (*NOT_UP, "waiting"))),
    ),
    Metric(
        "wsrec_connection_last_message_age_seconds",
        "gauge",
        "time since its last message; absent before the first",
        _CONNECTION,
        _each(lambda each: None if each.age_ns is None else each.age_ns / 1e9),
    ),
    Metric(
        "wsrec_connection_messages_total",
        "counter",
        "messages received",
        _CONNECTION,
        _each(lambda each: each.messages),
    ),
    Metric(
        "wsrec_connection_payload_bytes_total",
        "counter",
        "payload of its messages",
        _CONNECTION,
        _each(lambda each: each.payload_bytes),
    ),
    Metric(
        "wsrec_connection_wire_bytes_total",
        "counter",
        "bytes received, decrypted",
        _CONNECTION,
        _each(lambda each: each.wire_bytes),
    ),
    Metric(
        "wsrec_connection_reconnects_total",
        "counter",
        "reconnections",
        _CONNECTION,
        _each(lambda each: each.reconnects),
    ),
    Metric(
        "wsrec_connection_stalls_total",
        "counter",
        "pauses because its ring was full",
        _CONNECTION,
        _each(lambda each: each.stalls),
    ),
    Metric(
        "wsrec_connection_latency_seconds",
        "gauge",
        "latency from the NIC to the hand-off over the last 5 to 10 s, by percentile (50 and 99)",
        (*_CONNECTION, "percentile"),
        _latencies,
    ),
    Metric(
        "wsrec_step_latency_seconds",
        "histogram",
        "latency of each step between two stages, and `total`; the sum is of the middles of 4,736 finer buckets",
        ("step",),
    ),
    Metric("wsrec_ring_fill_ratio", "gauge", "fill level of the fullest ring", (), _one(lambda state: state.ring_fill)),
    Metric(
        "wsrec_journal_lag_seconds",
        "gauge",
        "age of the oldest data that is in no journal",
        (),
        _one(lambda state: state.journal_lag_ns / 1e9),
    ),
    Metric(
        "wsrec_unjournalled_frames",
        "gauge",
        "frames and events in the rings that are in no journal",
        (),
        _one(lambda state: state.waiting),
    ),
    Metric(
        "wsrec_journalled_bytes_total",
        "counter",
        "bytes written to journals",
        (),
        _one(lambda state: state.journalled_bytes),
    ),
    Metric(
        "wsrec_files_total",
        "counter",
        "finished pairs of files: rotations, by feed",
        (),
        _one(lambda state: state.files),
    ),
    Metric(
        "wsrec_next_rotation_time_seconds",
        "gauge",
        "when the next files begin, since the epoch",
        (),
        _one(lambda state: state.next_rotation / 1e9),
    ),
    Metric(
        "wsrec_disk_free_bytes",
        "gauge",
        "free space for wsrec, without `--reserve`",
        (),
        _one(lambda state: None if state.disk is None else state.disk.free),
    ),
    Metric(
        "wsrec_disk_full_in_seconds",
        "gauge",
        "time until the disk is full at the rate of the last hour; absent if it does not fill",
        (),
        _one(
            lambda state: None if state.disk is None or state.disk.full_in_ns is None else state.disk.full_in_ns / 1e9
        ),
    ),
    Metric(
        "wsrec_disk_trouble",
        "gauge",
        "1 while a writer waits for the disk",
        (),
        _one(lambda state: float(state.disk_trouble)),
    ),
    Metric(
        "wsrec_reconnects_total",
        "counter",
        "reconnections of all connections",
        (),
        _one(lambda state: state.reconnects),
    ),
    Metric(
        "wsrec_stalls_total",
        "counter",
        "pauses of all connections because a ring was full",
        (),
        _one(lambda state: state.stalls),
    ),
    Metric(
        "wsrec_process_restarts_total",
        "counter",
        "restarts of a receiver or a writer",
        ("process",),
        _process(lambda each: each.restarts),
    ),
    Metric(
        "wsrec_process_heartbeat_age_seconds",
        "gauge",
        "time since its last heartbeat",
        ("process",),
        _process(lambda each: None if each.heartbeat_ns is None else each.heartbeat_ns / 1e9),
    ),
    Metric(
        "wsrec_log_lines_total",
        "counter",
        "lines logged, by level",
        ("level",),
        lambda state: [((level,), count) for level, count in state.log_lines.items()],
    ),
)
"""All metrics, in the order of the documentation."""


class Collector:
    """Makes the families of a scrape; a collector of `prometheus_client`."""

    def __init__(self, sampler: StateSampler) -> None:
        self._sampler = sampler

    def collect(self) -> Iterator[Family]:
        """The families now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        state, steps = self._sampler.state(), self._sampler.steps()
        for metric in METRICS:
            if metric.values is None:
                histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for step, counts in zip((*STEPS, TOTAL), steps, strict=True):
                    histogram.add_metric([step.key], *buckets(counts))
                yield histogram
                continue
            kind: Any = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.values(state):
                family.add_metric(labels, value)
            yield family


# the bucket of `wsrec.histogram` at which each bound lies
_CUTS = np.searchsorted(FLOOR[1:], [round(bound * 1e9) for bound in BOUNDS], side="right")
_MIDDLES = (FLOOR[:-1] + FLOOR[1:]) / 2e9


def buckets(counts: npt.NDArray[np.int64]) -> tuple[list[tuple[str, float]], float]:
    """A fine histogram as Prometheus has it: cumulative counts by upper bound, and the sum (s)."""
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    found = [(str(bound), float(cumulative[cut])) for bound, cut in zip(BOUNDS, _CUTS.tolist(), strict=True)]
    return [*found, ("+Inf", float(cumulative[-1]))], float(counts @ _MIDDLES)
