"""Log lines on standard error: what each is about, and its forms: text, JSON, and the journal of systemd."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from msgspec.structs import replace

from wsrec.ipc import LogLine, text_of
from wsrec.options.record import LogFormat
from wsrec.units import clean

if TYPE_CHECKING:
    from wsrec.plan.connections import ConnectionPlan

# syslog(3), as sd-daemon(3) has them in front of a line
_PRIORITIES = {"info": 6, "warning": 4, "error": 3}
_MESSAGE_MAX, _HINT_MAX, _NAME_MAX = 2000, 1000, 200


def placing(
    on_log: Callable[[LogLine], None], plans: Sequence[ConnectionPlan], session: str | None = None
) -> Callable[[LogLine], None]:
    """`on_log`, with feed and session filled in where the line itself does not state them.

    Args:
        on_log: takes the lines.
        plans: the connections that the lines are about. A line about no connection is about their feed, if it is one.
        session: the session, if it is one.

    """
    feeds = {plan.conn: plan.feed for plan in plans}
    names = set(feeds.values())
    only = names.pop() if len(names) == 1 else None

    def log(line: LogLine) -> None:
        feed = line.feed or (only if line.conn is None else feeds.get(line.conn))
        on_log(replace(line, feed=feed, session=line.session or session))

    return log


def form_of(stderr: TextIO | None) -> LogFormat:
    """The form that fits a standard error: the journal's if it is connected to it (systemd.exec(5)), else text."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stderr.fileno()) if stderr is not None else None
    except (AttributeError, OSError, ValueError):
        found = None
    if found is not None and (device, inode) == (str(found.st_dev), str(found.st_ino)):
        return LogFormat.JOURNAL
    return LogFormat.TEXT


def log_line(line: LogLine, form: LogFormat) -> str:
    """A log line in a form, with the time (UTC) in those that have one; texts from outside are made printable."""
    now = datetime.now(UTC)
    match form:
        case LogFormat.JSON:
            return _json_of(line, now)
        case LogFormat.JOURNAL:
            return f"<{_PRIORITIES[line.level]}>{text_of(line)}"
        case LogFormat.TEXT:
            return f"{now:%Y-%m-%dT%H:%M:%SZ} {text_of(line)}"


def last_line(text: str, level: Literal["info", "error"], form: LogFormat) -> str:
    """The line with which a command ends; as text it has neither time nor level, as other commands' errors."""
    if form is LogFormat.TEXT:
        return clean(text, _MESSAGE_MAX)
    return log_line(LogLine(level=level, message=text, kind="end"), form)


def _json_of(line: LogLine, now: datetime) -> str:
    """A line as one JSON object of ASCII characters, whatever the encoding of standard error is."""
    about = {
        "time": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z",
        "level": line.level,
        "feed": line.feed,
        "conn": line.conn,
        "session": line.session,
        "kind": line.kind,
        "message": clean(line.message, _MESSAGE_MAX),
        "hint": clean(line.hint, _HINT_MAX) if line.hint else None,
        "channel": clean(line.channel, _NAME_MAX) if line.channel is not None else None,
        "symbol": clean(line.symbol, _NAME_MAX) if line.symbol is not None else None,
        "count": line.count,
    }
    return json.dumps(about)
