"""Made-up figures as a page gets them: an hour with spikes, a lost interval, and hostile names; no file is read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.capture_files import START, Capture, message_columns
from wsrec.pictures.model import (
    PERCENTILES,
    Composition,
    Coverage,
    Curve,
    Curves,
    DelayOverTime,
    Fact,
    Figures,
    LatencyOverTime,
    Line,
    Moment,
    OverTime,
    Pictures,
    Share,
    SlowFrame,
    Stream,
)
from wsrec.report.collect import collect
from wsrec.report.model import INCIDENT_KINDS, Report
from wsrec.stages import STEPS, TOTAL

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\u202e"
SESSION = "20261122T130000Z-a1"
SECOND = 1_000_000_000
WIDTH = 8 * SECOND
STEPS_OF_TIME = 450


def report() -> Report:
    """The report of a small capture of one feed on one host."""
    with tempfile.TemporaryDirectory() as folder:
        capture = Capture(Path(folder))
        columns = message_columns(4000, spacing=900_000_000)
        columns["symbol"] = [HOSTILE if row % 5 == 0 else "BTCUSDT" for row in range(4000)]
        lost = {"from": START + 900 * SECOND, "to": START + 906 * SECOND, "reason": "the receiver was killed"}
        events: list[dict[str, Any]] = [
            {"time": START + 906 * SECOND, "kind": "lost_interval", "conn": 0, "detail": lost},
            {"time": START + 1800 * SECOND, "kind": "gap", "conn": 0, "channel": "trade", "symbol": HOSTILE},
        ]
        capture.write(columns, session=SESSION, events=events, gaps=1)
        return collect([folder])


def pictures(seed: int = 1, slower: float = 1.0) -> Pictures:
    """The pictures of the capture.

    Args:
        seed: of all that is random.
        slower: by which all latencies are multiplied.

    """
    return Pictures(sources=["out"], report=report(), figures=[_figures(np.random.default_rng(seed), slower)])


def _figures(random: np.random.Generator, slower: float) -> Figures:
    begins = [START + at * WIDTH for at in range(STEPS_OF_TIME) if not 200 <= at < 206]
    return Figures(
        feed="binance",
        host="tokyo1",
        over_time=_over_time(random, begins, slower),
        slowest={"total": [_slow(random, int(4e6 * slower) - rank * 50_000, START + rank) for rank in range(50)]},
        compositions=[
            _composition(frames, at, middle * slower)
            for frames in ("all", "first")
            for at, middle in ((50.0, 26e3), (90.0, 48e3), (99.0, 110e3), (99.9, 900e3))
        ],
        curves=[
            Curves(by="step", key=None, curves=[_curve(s.name, 9e5, 5e3 * slower) for s in (*STEPS, TOTAL)]),
            Curves(
                by="channel",
                key="total",
                curves=[
                    _curve("trade", 6e5, 24e3 * slower),
                    _curve(HOSTILE, 2e5, 28e3 * slower),
                    _curve(None, 3e3, 30e3 * slower),
                    _curve("17 others", 9e2, 33e3 * slower, others=17),
                ],
            ),
            Curves(
                by="connection", key="total", curves=[_curve(f"conn {at}", 3e5, (22 + at) * 1e3) for at in range(3)]
            ),
            Curves(by="delay", key=None, curves=[_curve("trade", 6e5, 12e6), _curve(HOSTILE, 2e5, 15e6)]),
        ],
        lines=_lines(),
        coverage=Coverage(
            width=4 * WIDTH,
            streams=[_stream(random, at) for at in range(40)],
            others=123,
            other_messages=45_678,
            other_gaps=0,
            known=True,
        ),
        facts=[
            Fact(name="wsrec", values=["1.4.0"]),
            Fact(name="kernel", values=["6.1.0-28-amd64"]),
            Fact(name="TLS mode", values=["direct"]),
        ],
    )


def _over_time(random: np.random.Generator, begins: list[int], slower: float) -> OverTime:
    count = random.poisson(2200, len(begins)).tolist()
    p50 = (random.normal(26e3, 1e3, len(begins)) * slower).astype(int)
    spikes = np.where(random.random(len(begins)) < 0.02, 30, 1)
    most = (p50 * 14 * spikes).tolist()
    slow = [_slow(random, most[at] - 100 * rank, begin + rank) for at, begin in enumerate(begins) for rank in range(3)]
    return OverTime(
        width=WIDTH,
        begins=begins,
        messages=count,
        read_bytes=[240 * each for each in count],
        latency=[
            LatencyOverTime(
                key="total",
                name=TOTAL.name,
                count=count,
                p50=p50.tolist(),
                p90=(p50 * 1.6).astype(int).tolist(),
                p99=(p50 * 4).astype(int).tolist(),
                p999=(p50 * 9).astype(int).tolist(),
                max=most,
                slowest=[[3 * at, 3 * at + 1, 3 * at + 2] for at in range(len(begins))],
                slow=slow,
            )
        ],
        delay=DelayOverTime(count=count, p50=[12_000_000] * len(count), p99=[31_000_000] * len(count)),
    )


def _slow(random: np.random.Generator, total: int, time: int) -> SlowFrame:
    parts = (random.dirichlet(np.ones(5)) * total).astype(int).tolist()
    parts[-1] += total - sum(parts)
    return SlowFrame(
        time=time,
        session=SESSION,
        file=f"out/messages/feed=binance/date=2026-11-22/hour=13/{SESSION}-000001.parquet",
        seq=int(random.integers(1_000_000)),
        conn=int(random.integers(3)),
        channel="trade",
        symbol=HOSTILE if random.random() < 0.2 else "BTCUSDT",
        opcode="text",
        payload_bytes=int(random.integers(100, 900)) if random.random() < 0.5 else None,
        read_bytes=1460,
        frame_in_read=1,
        frames_in_read=3,
        steps=list(parts),
        total=total,
    )


def _composition(frames: Any, percentile: float, mean: float) -> Composition:
    parts = [mean * part for part in (0.4, 0.05, 0.3, 0.1)]
    return Composition(
        key="total",
        name=TOTAL.name,
        frames=frames,
        percentile=percentile,
        low=int(mean * 0.98),
        high=int(mean * 1.02),
        count=18_000,
        mean=mean,
        shares=[
            Share(key=step.key, name=step.name, mean=part)
            for step, part in zip(STEPS, [*parts, mean - sum(parts)], strict=True)
        ],
    )


def _curve(name: str | None, count: float, median: float, others: int = 0) -> Curve:
    shares = [1 - at / 100 for at in PERCENTILES]
    values = [int(median * (0.5 / share) ** 0.4) if count * share >= 1 else None for share in shares]
    return Curve(
        name=name,
        others=others,
        count=int(count),
        values=values,
        min=values[0] or 0,
        max=int(median * (count / 2) ** 0.4),
    )


def _lines() -> list[Line]:
    def moment(kind: str, at: int, **more: Any) -> Moment:
        where = {"conn": 0, "channel": None, "symbol": None, "begin": None, "end": None}
        return Moment(
            **{"time": START + at * SECOND, "kind": kind, "session": SESSION, "text": "1 missing", **where, **more}
        )

    lost = moment("lost_interval", 906, begin=START + 900 * SECOND, end=START + 906 * SECOND)
    gaps = [moment("gap", 1800 + 7 * each, channel="trade", symbol=HOSTILE) for each in range(60)]
    found = {"lost_interval": [lost], "gap": gaps, "connect": [moment("connect", 0), moment("connect", 906)]}
    return [
        Line(
            kind=kind,
            is_incident=kind in INCIDENT_KINDS,
            count=len(moments) * (3 if kind == "gap" else 1),
            begins=sorted({each.time // WIDTH * WIDTH for each in moments}),
            counts=[1] * len({each.time // WIDTH for each in moments}),
            moments=moments,
        )
        for kind, moments in found.items()
    ]


def _stream(random: np.random.Generator, at: int) -> Stream:
    begins = [START + each * 4 * WIDTH for each in range(112) if random.random() > at / 80]
    counts = random.integers(1, 300, len(begins)).tolist()
    return Stream(
        channel="trade",
        symbol=HOSTILE if at == 3 else f"COIN{at}USDT",
        messages=sum(counts),
        first=begins[0],
        last=begins[-1] + WIDTH,
        gaps=60 if at == 3 else 0,
        begins=begins,
        counts=list(counts),
    )
