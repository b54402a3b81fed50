"""The live view on a terminal: a screen that is redrawn twice a second, at a key and when the size changes.

The operator stays the terminal's master. Ctrl-C ends the recording, as without a screen. Ctrl-Z leaves the screen
before this process stops. In the background nothing is drawn, and log lines are printed as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from wsrec.supervise.keys import Keys
from wsrec.supervise.live_view import LiveView
from wsrec.supervise.outlet import Outlet
from wsrec.supervise.state import RecorderState
from wsrec.supervise.terminal import Terminal

_REFRESH = 0.5
# a terminal that takes nothing for so long is left as it is (s)
_LEAVING = 0.5


class LiveScreen:
    """Shows a recording on a terminal.

    Args:
        terminal: the terminal.
        outlet: draws on it, in a thread of its own.
        sample: returns the recorder's state.

    """

    def __init__(self, terminal: Terminal, outlet: Outlet, sample: Callable[[], RecorderState]) -> None:
        self._terminal = terminal
        self._outlet = outlet
        self._sample = sample
        self._keys = Keys(sys.stdin)
        self._view = LiveView(has_keys=self._keys.fd >= 0)
        self._changed = asyncio.Event()
        self._state: RecorderState | None = None

    async def run(self) -> None:
        """Show it until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        try:
            while True:
                self._refresh()
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _REFRESH)
        finally:
            loop.remove_signal_handler(signal.SIGTSTP)
            loop.remove_signal_handler(signal.SIGWINCH)
            self._release()
            self._outlet.draw(self._terminal.leave)

    def _refresh(self) -> None:
        if not self._terminal.is_foreground:
            self._release()
            self._outlet.draw(self._terminal.leave)
            return
        if self._keys.grab():
            asyncio.get_running_loop().add_reader(self._keys.fd, self._read)
        self._state = state = self._sample()
        self._view.history.add(state)
        picture = self._view.draw(state, *self._terminal.size)
        self._outlet.draw(lambda: self._terminal.show(picture))

    def _read(self) -> None:
        fd = self._keys.fd
        for key in self._keys.read():
            if self._state is not None and self._view.press(key, self._state) == "end":
                # what Ctrl-C does
                signal.raise_signal(signal.SIGINT)
        if self._keys.fd < 0:
            asyncio.get_running_loop().remove_reader(fd)
        self._changed.set()

    def _release(self) -> None:
        if self._keys.fd >= 0:
            asyncio.get_running_loop().remove_reader(self._keys.fd)
        self._keys.release()

    def _stop(self) -> None:
        """Stop this process, as Ctrl-Z does without a handler, but with the terminal as it was."""
        self._release()
        left = threading.Event()

        def leave() -> None:
            self._terminal.leave()
            left.set()

        self._outlet.draw(leave)
        left.wait(_LEAVING)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._changed.set()
