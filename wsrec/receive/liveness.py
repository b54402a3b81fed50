"""Liveness of an open connection: idle timeout, pings, and TCP statistics, checked periodically beside the hot path.

It only reads counters that the hot path keeps anyway. Data means text and binary frames other than pings; a server
that keeps pinging after its data has stopped is stale nevertheless.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from wsrec import ipc
from wsrec.host.clock import now
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.failure import PingTimeoutError
from wsrec.receive.hotpath import HotPath
from wsrec.receive.producer import Producer
from wsrec.receive.transport import Transport
from wsrec.ring.events import EventKind
from wsrec.wire import frames

SAMPLE_SECONDS = 10.0
# The timeouts are checked eight times per period
_CHECKS_PER_TIMEOUT = 8
_OFTEN, _SELDOM = 0.02, 2.5
# Longest idle timeout that doubling leads to: a feed without data anywhere is not reconnected again and again (s)
_LONGEST_QUIET = 300.0
# Time until the first message, if the host has another address that may do better (s)
FIRST_MESSAGE = 30.0
_PING_PAYLOAD = struct.Struct("<Q")


class IdleTimeout:
    """The idle timeout of a connection: doubled each time it expires, up to minutes, and reset when data arrives.

    Without a planned timeout, a connection that has never delivered anything still times out after `FIRST_MESSAGE` if
    there is another address to connect to: an address can answer the handshake and pings with nothing behind it. The
    same holds, even without another address, for a connection that took over from one with data and has delivered none
    (`expect`).

    Args:
        planned: seconds; None for no timeout.
        elsewhere: whether the host has another address that has not failed.

    """

    def __init__(self, planned: float | None, elsewhere: Callable[[], bool] = lambda: False) -> None:
        self._planned = planned
        self._elsewhere = elsewhere
        self._limit = FIRST_MESSAGE if planned is None else planned
        self._ever = False
        self._expected: float | None = None

    def expect(self, seconds: float) -> None:
        """Expect a message within these seconds (at least `FIRST_MESSAGE`), even without a planned timeout."""
        self._expected = max(seconds, FIRST_MESSAGE)

    @property
    def limit(self) -> float | None:
        """The current timeout in seconds; None for none."""
        if self._planned is None and self._expected is not None:
            return self._expected
        if self._planned is None and (self._ever or not self._elsewhere()):
            return None
        return self._limit

    def silent(self) -> None:
        """The timeout has expired: double it."""
        self._limit = min(self._limit * 2, max(self._planned or 0.0, _LONGEST_QUIET))
        if self._expected is not None:
            self._expected = max(self._expected, min(self._expected * 2, _LONGEST_QUIET))

    def came(self) -> None:
        """A frame has arrived, possibly only a response."""
        self._ever = True

    def on_data(self) -> None:
        """Data has arrived: reset the timeout."""
        self._expected = None
        if self._planned is not None:
            self._limit = self._planned


class LivenessMonitor:
    """Monitors one open connection from its opening handshake to its end.

    Args:
        plan: the timeouts.
        hot: its hot path.
        transport: its socket.
        producer: takes the events.
        idle_timeout: the idle timeout.
        send_ping: sends a ping with the given payload.
        on_dead: called with the reason when the peer does not respond.
        on_idle: called once when the idle timeout expires: why it should be replaced, and since when it is silent
            (monotonic, ns).
        look_for_pings: finds application-level pings received so far and reports them to `on_ping`.

    Attributes:
        controls: control frames received, including application-level pings.
        stalled: whether a full ring keeps the socket from being read; set by the connection.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        hot: HotPath,
        transport: Transport,
        producer: Producer,
        idle_timeout: IdleTimeout,
        *,
        send_ping: Callable[[bytes], None],
        on_dead: Callable[[Exception], None],
        on_idle: Callable[[str, int], None],
        look_for_pings: Callable[[], None],
    ) -> None:
        self.controls = 0
        self.stalled = False
        self._plan = plan
        self._hot = hot
        self._transport = transport
        self._producer = producer
        self._idle_timeout = idle_timeout
        self._send_ping = send_ping
        self._on_dead = on_dead
        self._on_idle = on_idle
        self._look_for_pings = look_for_pings
        self._last_activity = self._data_at = now()
        self._data = 0
        self._silent = False
        self._answers_due = plan.answers_due
        self._pinged_at: int | None = None
        self._ping_rtt: int | None = None
        self._sampled_at = 0
        waits = [
            FIRST_MESSAGE,
            plan.ping_interval,
            plan.ping_timeout,
            *(() if plan.idle_timeout is None else (plan.idle_timeout,)),
        ]
        self._interval = min(max(min(waits) / _CHECKS_PER_TIMEOUT, _OFTEN), _SELDOM)

    @property
    def data(self) -> int:
        """Data frames received."""
        return self._hot.frames - self.controls

    @property
    def idle_for(self) -> float:
        """Seconds since the last data, as of the last check."""
        return (now() - self._data_at) / 1e9

    async def run(self) -> None:
        """Check periodically, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval
            await asyncio.sleep(self._interval)
            # after a pause of this process, or of reading, the data waiting in the socket is read first
            self._look(paused=self.stalled or loop.time() - due > self._interval)

    def on_ping(self, frames: int) -> None:
        """Count the frames of an application-level ping."""
        self.controls += frames

    def on_control(self, opcode: int, payload: bytes) -> None:
        """Count a control frame, and measure the round trip of our own pings."""
        self.controls += 1
        if opcode == frames.PONG and self._pinged_at is not None and payload == _PING_PAYLOAD.pack(self._pinged_at):
            self._ping_rtt = self._hot.last_event - self._pinged_at

    def _look(self, *, paused: bool) -> None:
        self._look_for_pings()
        moment = now()
        if paused:
            self._last_activity = self._data_at = moment
            self._pinged_at = None
        self._last_activity = max(self._last_activity, self._hot.last_event)
        # fewer than before if a ping was recognised in the meantime
        before, self._data = self._data, self.data
        if self._data > before:
            self._data_at = max(self._data_at, self._hot.last_event)
            self._idle_timeout.came()
            # responses to the subscriptions are not data yet
            if self._data > self._answers_due:
                self._idle_timeout.on_data()
        self._check_liveness(moment)
        self._check_data(moment)
        if moment - self._sampled_at >= SAMPLE_SECONDS * 1e9:
            self._sampled_at = moment
            self._sample()

    def _check_liveness(self, moment: int) -> None:
        if self._pinged_at is not None and self._last_activity > self._pinged_at:
            self._pinged_at = None
        idle = (moment - self._last_activity) / 1e9
        if self._pinged_at is None:
            if idle >= self._plan.ping_interval:
                self._pinged_at = moment
                self._send_ping(_PING_PAYLOAD.pack(moment))
        elif (moment - self._pinged_at) / 1e9 >= self._plan.ping_timeout:
            self._on_dead(PingTimeoutError(f"no data for {idle:.1f} s, and a ping was not answered"))

    def _check_data(self, moment: int) -> None:
        limit = self._idle_timeout.limit
        if limit is None or self._silent or (moment - self._data_at) / 1e9 < limit:
            return
        self._silent = True
        self._idle_timeout.silent()
        self._producer.event(EventKind.STALE, conn=self._plan.conn, monotonic_since=self._data_at, idle_s=limit)
        what = f"{self._plan.public_url} has sent no message for {limit:g} s"
        hint = "if that is normal there, raise `idle_timeout` of its channels"
        if self._plan.idle_timeout is None:
            hint = "trying another connection; if that is normal there, later ones are kept longer"
        ipc.warn(what, hint, conn=self._plan.conn, kind=EventKind.STALE, detail={"idle_s": limit})
        self._on_idle(f"no message for {limit:g} s", self._data_at)

    def _sample(self) -> None:
        found = self._transport.tcp_info()
        if found is not None:
            self._producer.event(EventKind.TCP, conn=self._plan.conn, **found._asdict(), ping_rtt_ns=self._ping_rtt)
