"""The outcome of a recording: exit status and summary, for people and for programs."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from wsrec.counts import Counts
from wsrec.ipc import FailedLine, SummaryLine
from wsrec.units import clean, duration, plural, size, utc

# as long as a path may be (PATH_MAX, limits.h)
_MAX_PATH = 4096


class ExitStatus(IntEnum):
    """Exit status of `wsrec record`. The text below each is that of docs/reference/exit-status.md."""

    COMPLETE = 0
    """recorded, and nothing is known to be missing"""
    FAILED = 1
    """failed, or no connection was ever open: the reason is on standard error; data received before is kept"""
    USAGE = 2
    """wrong usage or configuration: nothing was started"""
    NOTHING = 3
    """nothing was received: it was connected, but no message came, or a signal came while it was starting"""
    GAPS = 4
    """recorded, but with sequence gaps, a lost interval, or a refused, unanswered or late subscription"""
    UNREADABLE = 66
    """the output folder has files of another version of the format: nothing was started (EX_NOINPUT)"""
    UNPRINTED = 74
    """recorded, and nothing is known to be missing, but the summary cannot be written to standard output (EX_IOERR)"""
    LOCKED = 75
    """another recorder holds the output folder (EX_TEMPFAIL)"""


class Outcome(Counts, frozen=True, kw_only=True):
    """The summary of one recording with its counters (`wsrec.counts`); as JSON the output of `wsrec record --json`.

    Attributes:
        status: exit status.
        reason: why the recording ended.
        error, hint: the failure and a remedy; null without a failure.
        finished: whether every writer finished its files; else the counts are the last known ones.
        out: the output folder.
        targets: the recorded targets.
        sessions: the sessions' ids, one per receiver.
        elapsed_ns: duration of the recording.
        given_up: received frames that were not journalled when a second signal ended everything.
        reconnects, stalls: number of reconnections, and of pauses because a ring was full.
        restarts: how often a receiver or a writer was restarted after it died or hung.
        first_recv_time, last_recv_time: ns since the epoch; null if nothing was received.
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
    """The exit status, from the writers' counts and the failure."""
    if failure is not None:
        return ExitStatus.FAILED
    messages = sum(summary.messages for summary in summaries)
    if not messages:
        return ExitStatus.NOTHING
    if any(summary.gaps or summary.lost_intervals or summary.refused for summary in summaries):
        return ExitStatus.GAPS
    return ExitStatus.COMPLETE


def _missing(outcome: Outcome) -> list[str]:
    """The known losses, counted."""
    return [
        plural(count, word)
        for count, word in (
            (outcome.gaps, "sequence gap"),
            (outcome.lost_intervals, "lost interval"),
            (outcome.refused, "refused, unanswered or late subscription"),
        )
        if count
    ]


def reason(outcome: Outcome) -> str | None:
    """Why the exit status is not 0, in one line with a hint; None if it is 0."""
    missing = ", ".join(_missing(outcome))
    match outcome.status:
        case ExitStatus.COMPLETE:
            return None
        case ExitStatus.NOTHING:
            hint = "check symbols and channels with `wsrec feeds plan`, or what --subscribe sends"
            beside = f" ({missing})" if missing else ""
            return f"connected, but nothing was received in {duration(outcome.elapsed_ns)}{beside}; {hint}"
        case ExitStatus.GAPS:
            hint = f"`wsrec verify {outcome.out}` lists them"
            return f"recorded {plural(outcome.messages, 'message')}, but not all: {missing}; {hint}"
        case _:
            hint = f"; {outcome.hint}" if outcome.hint else ""
            return f"{outcome.error or 'failed'}{hint}"


def describe(outcome: Outcome) -> str:
    """The summary in a few lines for people."""
    messages = plural(outcome.messages, "message")
    lines = [f"recorded {messages}, {size(outcome.payload_bytes)}, in {duration(outcome.elapsed_ns)}"]
    if outcome.messages and outcome.first_recv_time is not None and outcome.last_recv_time is not None:
        span = max(outcome.last_recv_time - outcome.first_recv_time, 1)
        rate = f"  {outcome.messages / span * 1e9:,.0f} messages/s" if outcome.messages > 1 else ""
        lines.append(f"  from {utc(outcome.first_recv_time)} to {utc(outcome.last_recv_time)} UTC{rate}")
    missing = _missing(outcome)
    if outcome.given_up:
        missing.append(f"{plural(outcome.given_up, 'frame')} discarded on a second signal")
    if not outcome.finished:
        missing.append("unfinished files (the next start recovers the journals)")
    lines.append(f"  missing: {', '.join(missing)}" if missing else "  nothing known to be missing")
    if outcome.not_inflated:
        lines.append(
            f"  {plural(outcome.not_inflated, 'message')} could not be inflated: recorded compressed, as received"
        )
    if outcome.reconnects or outcome.stalls:
        lines.append(
            f"  {plural(outcome.reconnects, 'reconnect')}, {plural(outcome.stalls, 'stall')}"
            " (a ring was full, nothing dropped)"
        )
    if outcome.restarts:
        lines.append(f"  {plural(outcome.restarts, 'restart')} of a process that died or hung")
    paths = [line["path"] for line in outcome.files if line["path"]]
    lines += [f"  {clean(f'{outcome.out}/{path}', _MAX_PATH)}" for path in paths[:5]]
    if len(paths) > 5:
        lines.append(f"  and {plural(len(paths) - 5, 'more file')}")
    lines.append(f"ended: {outcome.reason}; exit status {outcome.status}")
    return "\n".join(lines)
