"""`wsrec record --takeover`: replaces a running recorder; both record while the new one connects.

The new recorder receives first, then signals the old one to end, and has the lock once the old one's last writer is
done. Until then each writes its own files, so the overlap only produces duplicate rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from wsrec import shutdown
from wsrec.format.folders import cannot_read, session_folders
from wsrec.format.lock import OutputLock
from wsrec.ipc import LogLine
from wsrec.supervise.signals import TAKEOVER
from wsrec.supervise.supervisor import Supervisor
from wsrec.units import system_error, utc
from wsrec.writer.orphan import take

_LOOK = 0.05
# after the exchange has confirmed all subscriptions, its first messages may take a moment
_SETTLE = 1.0
# requests without an id, or an exchange that never answers: the connections are open all the same
_ANSWER_TIMEOUT = 15.0
_OPEN_TIMEOUT = 60.0


async def take_over(
    supervisor: Supervisor,
    lock: OutputLock,
    on_log: Callable[[LogLine], None],
    on_replace: Callable[[], None] = lambda: None,
) -> None:
    """Take the output folder over from its holder while `supervisor` records; ends with the lock held.

    Args:
        supervisor: the new recording, running.
        lock: waiting in front of the folder's lock.
        on_log: called with each line for the operator.
        on_replace: called before the holder is stopped.

    """
    own = [pair.session for pair in supervisor.pairs]
    try:
        if not await _receiving(supervisor, lock, on_log):
            on_replace()
            _request_end(lock, on_log)
            await _ended(lock, on_log)
        on_log(LogLine(level="info", message=f"this recorder holds {lock.out} now"))
        await recover_beside(lock.out, on_log, own)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            _report_left(lock, on_log, own)
        raise
    except OSError as error:
        message = f"{lock.out} could not be taken over: {system_error(error)}"
        hint = "this recorder continues; end the other one by hand, and run `wsrec recover` after this one has ended"
        on_log(LogLine(level="error", message=message, hint=hint))


async def recover_beside(out: Path, on_log: Callable[[LogLine], None], own: list[str]) -> None:
    """`recover_left` in a thread, which ends soon after this is cancelled."""
    stopped = threading.Event()
    try:
        await asyncio.to_thread(recover_left, out, on_log, own, stopped.is_set)
    finally:
        stopped.set()


def recover_left(
    out: Path,
    on_log: Callable[[LogLine], None],
    own: list[str],
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Recover interrupted sessions in a folder that we hold, except our `own`, and report what was lost.

    `is_stopped` is called before each batch; once it is true, the rest is left to the next start.
    """
    try:
        orphans, folders = take(out), session_folders(out)
    except OSError as error:
        hint = "sessions that earlier recorders left there are not recovered: grant this user access"
        on_log(LogLine(level="error", message=f"{out / '.wsrec'}: {cannot_read(error)}", hint=hint))
        return
    # a recorder that takes over records since before
    began = time.time_ns() if not own else None
    for orphan in orphans:
        message = orphan.text + _unrecorded(orphan.ended, began)
        on_log(LogLine(level="warning", message=message, session=orphan.session, kind="lost_interval"))
    if all(folder.name in own for folder in folders):
        return
    # imported here: recovery needs most of the writer, which takes long to import, and is rarely needed
    from wsrec.writer.recovery import recover

    for session in recover(out, lambda text: on_log(LogLine(level="error", message=text)), own, is_stopped=is_stopped):
        message = session.text + _unrecorded(session.lost_to, began)
        on_log(LogLine(level="warning", message=message, session=session.session, kind="recovered"))


def _unrecorded(ended: int | None, began: int | None) -> str:
    """Between an end and this recorder's beginning (ns since the epoch), if both are known."""
    if ended is None or began is None:
        return ""
    return f"; nothing was recorded from {utc(ended)} to {utc(began)} UTC"


async def _receiving(supervisor: Supervisor, lock: OutputLock, on_log: Callable[[LogLine], None]) -> bool:
    """Wait until every connection is open and its subscriptions are answered; True if the lock was free before that."""
    began, opened = time.monotonic(), None
    reported = False
    while not lock.take():
        now = time.monotonic()
        is_open, answered = supervisor.is_open(), supervisor.is_answered()
        opened = (opened or now) if is_open else None
        if opened is not None and now - opened >= (_SETTLE if answered else _ANSWER_TIMEOUT):
            return False
        if not reported and opened is None and now - began > _OPEN_TIMEOUT:
            reported = True
            message = "not every connection is open yet: until then the old recorder goes on"
            hint = f"see the reason above, or end process {lock.holder or 'unknown'} by hand"
            on_log(LogLine(level="warning", message=message, hint=hint))
        await asyncio.sleep(_LOOK)
    return True


def _request_end(lock: OutputLock, on_log: Callable[[LogLine], None]) -> None:
    """Signal the holder only."""
    holder = lock.holder
    unable = None
    try:
        if holder is None:
            unable = "the lock contains no process id"
        else:
            # the descriptor refers to one process, even if its id is reused
            process = os.pidfd_open(holder)
            try:
                if lock.is_locked_by(holder):
                    signal.pidfd_send_signal(process, TAKEOVER)
                else:
                    unable = f"process {holder} has not locked it: it is on another host, or only its writers still run"
            finally:
                os.close(process)
    except ProcessLookupError:
        unable = f"process {holder} is gone; its writers may still finish"
    except OSError as error:
        unable = f"process {holder} cannot be signalled: {system_error(error)}"
    if unable is None:
        on_log(LogLine(level="info", message=f"every connection is open: stopping process {holder}"))
    else:
        message = f"the holder of {lock.out} cannot be stopped: {unable}"
        on_log(LogLine(level="warning", message=message, hint="end it by hand; this recorder continues"))


def _report_left(lock: OutputLock, on_log: Callable[[LogLine], None], own: list[str]) -> None:
    """Report what this recording, which ends before its takeover is complete, leaves to others."""
    if not lock.take():
        message = f"{lock.out} was not taken over: process {lock.holder or 'unknown'} still holds it"
        hint = f"once it has ended, `wsrec recover {lock.out}` recovers what it may have left unfinished"
    elif any(folder.name not in own for folder in session_folders(lock.out)):
        message = f"{lock.out} has interrupted sessions whose recovery is not complete"
        hint = f"the next start or `wsrec recover {lock.out}` completes it"
    else:
        return
    on_log(LogLine(level="warning", message=message, hint=hint))


async def _ended(lock: OutputLock, on_log: Callable[[LogLine], None]) -> None:
    late = time.monotonic() + shutdown.worst_case()
    while not lock.take():
        if time.monotonic() > late:
            late = float("inf")
            message = f"process {lock.holder or 'unknown'} has not ended and still holds {lock.out}"
            hint = "end it by hand (its journals are recovered then); this recorder continues"
            on_log(LogLine(level="error", message=message, hint=hint))
        await asyncio.sleep(_LOOK)
