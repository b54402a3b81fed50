"""The outcome of a recording: exit status and summary, for people and for programs."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from wsrec.counts import Counts
from wsrec.ipc import FailedLine, SummaryLine
from wsrec.units import duration, size, utc


class ExitStatus(IntEnum):
    """Exit status of `wsrec record`. The comment below each is its text in docs/recording.md."""

    COMPLETE = 0
    """recorded, nothing known to be missing"""
    FAILED = 1
    """failed: the reason is on standard error; what was received before is kept"""
    USAGE = 2
    """wrong usage or configuration: nothing was started"""
    NOTHING = 3
    """nothing was received: no connection succeeded, or a signal came before anything was recorded"""
    GAPS = 4
    """recorded, but with sequence gaps, a lost interval, or a subscription refused, unanswered or late"""
    LOCKED = 75
    """another recorder holds the output folder (EX_TEMPFAIL)"""


class Outcome(Counts, frozen=True, kw_only=True):
    """The summary of one recording with its counters (`wsrec.counts`); as JSON it is what `wsrec record --json` prints.

    Attributes:
        status: exit status.
        reason: why the recording ended.
        error, hint: what failed and what to do about it, null where nothing did.
        finished: whether every writer finished its files; else the counts are those of its last word.
        out: the output folder.
        targets: what was recorded.
        sessions: the session's id, one a receiver.
        elapsed_ns: how long it ran.
        given_up: frames that were received, and not journalled when a second signal gave them up.
        reconnects, stalls: number of reconnections, and of pauses because a ring was full.
        restarts: how often a receiver or a writer died or hung and was started again.
        first_recv_time, last_recv_time: ns since the epoch, null where nothing was received.
        files: the manifest's lines.

    """

    status: int
    reason: str
    error: str | None
    hint: str | None
    finished: bool
    out: str
    targets: tuple[str, ...]
    sessions: tuple[str, ...]
    elapsed_ns: int
    given_up: int
    reconnects: int
    stalls: int
    restarts: int
    first_recv_time: int | None
    last_recv_time: int | None
    files: tuple[dict[str, Any], ...]


def exit_status(summaries: list[SummaryLine], failure: FailedLine | None) -> ExitStatus:
    """The exit status by what the writers counted and by what failed."""
    if failure is not None:
        return ExitStatus.FAILED
    messages = sum(summary.messages for summary in summaries)
    if not messages:
        return ExitStatus.NOTHING
    if any(summary.gaps or summary.lost_intervals or summary.refused for summary in summaries):
        return ExitStatus.GAPS
    return ExitStatus.COMPLETE


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _missing(outcome: Outcome) -> list[str]:
    """What is known to be missing, counted."""
    return [
        _counted(count, word)
        for count, word in (
            (outcome.gaps, "sequence gap"),
            (outcome.lost_intervals, "lost interval"),
            (outcome.refused, "refused, unanswered or late subscription"),
        )
        if count
    ]


def reason(outcome: Outcome) -> str | None:
    """Why the exit status is not 0, in one line with what to do about it; None where it is."""
    missing = ", ".join(_missing(outcome))
    match outcome.status:
        case ExitStatus.COMPLETE:
            return None
        case ExitStatus.NOTHING:
            hint = "check symbols and channels with `wsrec feeds plan`, or what --subscribe sends"
            beside = f" ({missing})" if missing else ""
            return f"connected, but nothing was received in {duration(outcome.elapsed_ns)}{beside}; {hint}"
        case ExitStatus.GAPS:
            hint = f"`wsrec verify {outcome.out}` names each"
            return f"recorded {outcome.messages:,} messages, but not all: {missing}; {hint}"
        case _:
            hint = f"; {outcome.hint}" if outcome.hint else ""
            return f"{outcome.error or 'failed'}{hint}"


def describe(outcome: Outcome) -> str:
    """The summary in a few lines for people."""
    lines = [
        f"recorded {outcome.messages:,} messages, {size(outcome.payload_bytes)}, in {duration(outcome.elapsed_ns)}"
    ]
    if outcome.messages and outcome.first_recv_time is not None and outcome.last_recv_time is not None:
        span = max(outcome.last_recv_time - outcome.first_recv_time, 1)
        rate = f"  {outcome.messages / span * 1e9:,.0f} messages/s" if outcome.messages > 1 else ""
        lines.append(f"  from {utc(outcome.first_recv_time)} to {utc(outcome.last_recv_time)} UTC{rate}")
    missing = _missing(outcome)
    if outcome.given_up:
        missing.append(f"{_counted(outcome.given_up, 'frame')} given up on a second signal")
    if not outcome.finished:
        missing.append("what was not finished (the next start recovers what was journalled)")
    lines.append(f"  missing: {', '.join(missing)}" if missing else "  nothing known to be missing")
    if outcome.not_inflated:
        lines.append(
            f"  {_counted(outcome.not_inflated, 'message')} could not be read: recorded as they came, compressed"
        )
    if outcome.reconnects or outcome.stalls:
        lines.append(
            f"  {_counted(outcome.reconnects, 'reconnect')}, {_counted(outcome.stalls, 'stall')}"
            " (a ring was full, nothing dropped)"
        )
    if outcome.restarts:
        lines.append(f"  {_counted(outcome.restarts, 'restart')} of a process that died or hung")
    paths = [line["path"] for line in outcome.files if line["path"]]
    lines += [f"  {outcome.out}/{path}" for path in paths[:5]]
    if len(paths) > 5:
        lines.append(f"  and {len(paths) - 5:,} more files")
    lines.append(f"ended: {outcome.reason}; exit status {outcome.status}")
    return "\n".join(lines)
