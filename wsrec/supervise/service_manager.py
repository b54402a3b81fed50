"""Notification of the service manager (sd_notify(3)): that the recorder is ready, its state, and that it is alive.

The protocol is a datagram of lines to the AF_UNIX socket that NOTIFY_SOCKET names; without the variable nothing
happens.

READY comes once the first connection is open: something is recorded. It comes after `_READY_AT_LATEST` in any case,
because an exchange that is down must not hold up the boot of a machine, nor have the recorder killed for being late.
WATCHDOG comes only while nothing is wrong that a restart would mend (`wsrec.supervise.health.unwell`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wsrec.supervise.health import summary, unwell
from wsrec.supervise.supervisor import REPLACED

if TYPE_CHECKING:
    from wsrec.supervise.state import RecorderState
    from wsrec.supervise.state_sampler import StateSampler

_READY_AT_LATEST = 30.0
_LOOK = 1.0
_STATUS_EVERY = 5.0


def notify(message: str, address: str) -> bool:
    """Send lines such as `READY=1`, without waiting; returns whether the service manager took them.

    Args:
        message: `KEY=VALUE`, one a line.
        address: of the socket: a path, or `@` and an abstract name.

    """
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.setblocking(False)
        try:
            sending.sendto(message.encode(), name)
        except OSError:
            return False
    return True


def watchdog_period(environment: Mapping[str, str]) -> float | None:
    """Seconds between two signs of life, half of what is demanded (sd_watchdog_enabled(3)); None if none is."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdigit() or not int(text) or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 2e6


class ServiceManager:
    """The service manager that started this recorder, if there is one.

    Args:
        sampler: the recording.
        environment: the variables of this process.
        send: see `notify`.

    """

    def __init__(
        self,
        sampler: StateSampler,
        environment: Mapping[str, str] = os.environ,
        send: Callable[[str, str], bool] = notify,
    ) -> None:
        self._sampler = sampler
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._period = watchdog_period(environment)
        self._send = send
        self._began = time.monotonic()
        # what it has to know, and did not take
        self._due = list[str]()
        self._ready = False
        self._ending = False
        self._told = self._alive = -_STATUS_EVERY

    def replace_main(self) -> None:
        """Become the service's main process: call it before the recorder that this one replaces is stopped."""
        if self._address:
            self._tell(self._readiness())

    async def keep_informed(self) -> None:
        """Notify it until cancelled."""
        while self._address:
            self.inform()
            await asyncio.sleep(_LOOK if self._period is None else min(_LOOK, self._period / 2))

    def inform(self) -> None:
        """Tell it what is new or due."""
        if not self._address:
            return
        now, state = time.monotonic(), self._sampler.state()
        lines = list[str]()
        if not self._ready and self._is_ready(state, now - self._began):
            self._due += self._readiness()
        # one that was replaced is no longer the main process, and the service goes on
        if state.phase == "finishing" and not self._ending and state.reason != REPLACED:
            self._ending = True
            self._due.append("STOPPING=1")
        if self._due or now - self._told >= _STATUS_EVERY:
            self._told = now
            lines.append(f"STATUS={summary(state)}")
        if self._period is not None and now - self._alive >= min(self._period, _STATUS_EVERY) / 2:
            self._alive = now
            if unwell(state, self._sampler.ticked) is None:
                lines.append("WATCHDOG=1")
        if lines:
            self._tell(lines)

    def end(self) -> None:
        """Tell it that this process is about to exit, unless it was told."""
        if self._address and not self._ending and self._sampler.state().reason != REPLACED:
            self._ending = True
            self._tell(["STOPPING=1"])

    def _readiness(self) -> list[str]:
        self._ready = True
        return ["READY=1", f"MAINPID={os.getpid()}"]

    def _tell(self, lines: list[str]) -> None:
        if self._send("\n".join([*self._due, *lines]), self._address):
            self._due.clear()
        else:
            self._due += [line for line in lines if line.partition("=")[0] not in ("STATUS", "WATCHDOG")]

    @staticmethod
    def _is_ready(state: RecorderState, waited: float) -> bool:
        return state.holds_folder and (state.phase != "starting" or waited >= _READY_AT_LATEST)
