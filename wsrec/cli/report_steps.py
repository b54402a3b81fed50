"""The steps between the stages as one table, for `wsrec report --format csv` and `markdown`."""

from __future__ import annotations

from wsrec.cli.output_format import Column, Listing
from wsrec.report.model import Report


def steps(report: Report) -> Listing:
    """Each step of each recording, by the place of frames in their read."""
    times = ("min", "mean", "p50", "p90", "p99", "p999", "max")
    columns = [
        *(Column(name) for name in ("feed", "host", "verdict", "frames", "step")),
        *(Column(name, "count") for name in ("count", "negative")),
        *(Column(name, "ns") for name in ("sum", *times)),
        Column("share", "count"),
    ]
    rows = [
        (
            *(recording.feed, recording.host, recording.verdict.state, table.frames, step.name),
            *(step.count, step.negative, step.sum, *(getattr(step, name) for name in times)),
            None if step.share is None else round(step.share, 6),
        )
        for recording in report.recordings
        for table in recording.stages
        for step in table.steps
    ]
    return Listing(columns, rows)
