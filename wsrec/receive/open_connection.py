"""An open connection: one attempt of a `Connection`, from the connected socket through the handshake to the tear-down.

The receiver runs without the garbage collector (`garbage_collection`), and hot path, liveness monitor, subscriber and a
failed read's traceback all refer back to this object: `tear_down` drops them, so that nothing survives an attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from websockets.frames import CloseCode

from wsrec.host.clock import now
from wsrec.plan.connections import Answer, ConnectionPlan
from wsrec.receive.failure import ClosedByExchangeError, ResetInHandshakeError
from wsrec.receive.implementation import HotPath
from wsrec.receive.liveness import IdleTimeout, LivenessMonitor
from wsrec.receive.producer import Producer
from wsrec.receive.stall import Stalls
from wsrec.receive.subscriber import Subscriber
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.version import __version__
from wsrec.wire import deflate
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frame_encoder import FrameEncoder, Sent
from wsrec.wire.frames import MessageRules
from wsrec.wire.handshake import Handshake


class OpenConnection:
    """Handshake, control frames, sending and the end of one connection; not usable after `tear_down`.

    Args:
        plan: what to offer and to send.
        url: where `transport` leads, with the secrets of this attempt.
        transport: the connected socket, owned from now on.
        ring: the connection's byte ring.
        producer: the receiver's slots.
        waiting: the readiness strategy.
        stalls: the connection's stalls.
        idle_timeout: the connection's idle timeout.
        max_message: bytes; a larger message closes the connection with 1009.
        on_idle: called when it should be replaced, with the reason and since when it is silent (monotonic, ns).
        look_for_pings: finds and answers application-level pings received so far.

    Attributes:
        transport: as given.
        handshake: the opening handshake.
        hot: the hot path.
        liveness: the liveness monitor.
        subscriber: sends the requests.
        opened_at: monotonic time (ns) at the end of the opening handshake; 0 before.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        url: str,
        transport: Transport,
        ring: ByteRing,
        producer: Producer,
        waiting: Waiting,
        stalls: Stalls,
        *,
        idle_timeout: IdleTimeout,
        max_message: int,
        on_idle: Callable[[str, int], None],
        look_for_pings: Callable[[], None],
    ) -> None:
        self.transport = transport
        self.opened_at = 0
        self._conn = plan.conn
        self._ring = ring
        self._producer = producer
        self._waiting = waiting
        self._stalls = stalls
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._error: Exception | None = None
        self._tasks: list[asyncio.Task[None]] = []
        headers = {"User-Agent": f"wsrec/{__version__}", **plan.headers}
        self.handshake = Handshake(url, headers, deflate.offer(context_takeover=False) if plan.compression else None)
        self._encoder = FrameEncoder(self.handshake.protocol)
        self.subscriber = Subscriber(plan, self._encoder, producer, self._send)
        self._rules = MessageRules(max_message)
        self.hot = HotPath(
            plan.conn,
            ring,
            producer,
            transport,
            self._rules,
            on_opening=self._on_opening,
            on_control=self._on_control,
            on_end=self.end,
            on_full=stalls.on_full,
        )
        self.liveness = LivenessMonitor(
            plan,
            self.hot,
            transport,
            producer,
            idle_timeout,
            send_ping=self._send_ping,
            on_dead=self.end,
            on_idle=on_idle,
            look_for_pings=look_for_pings,
        )
        stalls.begin(self.hot, transport, self.liveness, self._ended)

    @property
    def received(self) -> int:
        """Bytes received, with those of a TLS record that has not come in full."""
        return self.hot.received + self.transport.undecrypted

    @property
    def connected(self) -> bool:
        """True once the WebSocket is open."""
        return self.opened_at > 0

    @property
    def ended(self) -> bool:
        """True if it has ended and must be torn down."""
        return self._ended.done()

    @property
    def failed(self) -> bool:
        """True if it ended with an error: it may have been dead since its last byte."""
        return self._error is not None

    @property
    def closed_normally(self) -> bool:
        """True if the exchange closed it with code 1000."""
        received = self._encoder.close_received
        return received is not None and received.code == CloseCode.NORMAL_CLOSURE

    @property
    def reason_of_end(self) -> Exception:
        """Why it ended, as an exception for `explain`."""
        if self._error is not None:
            return self._error
        received = self._encoder.close_received
        if received is not None:
            return ClosedByExchangeError(int(received.code), received.reason)
        return ConnectionResetError("the connection ended without a closing handshake")

    async def shake_hands(self) -> None:
        """Do the opening handshake; messages that arrive together with its answer are recorded already.

        Raises:
            Exception: any failure to do so.

        """
        self._waiting.watch(self.transport.fileno, self.hot.on_readable)
        self.transport.send(self.handshake.request())
        await asyncio.wait((self._opened, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            if self._error is None:
                self.handshake.eof()
            # not bound to a name: an exception in a local of the frame that raises it makes a reference cycle
            raise _in_handshake(self._error)

    def start(self, plan: ConnectionPlan) -> None:
        """The handshake is recorded: start to send what `plan` requests, to answer pings, and to monitor liveness.

        Raises:
            OSError: the connection broke.

        """
        self.subscriber.start(plan)
        self._tasks = [asyncio.ensure_future(self.subscriber.run()), asyncio.ensure_future(self.liveness.run())]
        for task in self._tasks:
            task.add_done_callback(self._on_task_ended)

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.end(error)

    async def wait_ended(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most for `timeout` seconds."""
        await asyncio.wait((self._ended,), timeout=timeout)

    def end(self, error: Exception | None) -> None:
        """Stop reading, because of `error` or, with None, because the stream has ended or was closed; once."""
        if self.ended:
            return
        self.stop_reading()
        self.hot.stopped = True
        if isinstance(error, ProtocolError):
            self._send_close(error.code, str(error)[:100])
        self._error = error
        self._ended.set_result(None)

    def answer(self, answer: Answer, value: str, frames: int) -> None:
        """Answer a ping of `frames` frames, with `value` for `{value}`; ignored once the connection closes."""
        self.liveness.on_ping(frames)
        if not self.ended:
            try:
                self.subscriber.answer(answer, value)
            except OSError as error:
                self.end(error)

    def begin_close(self) -> None:
        """Send a close frame, and nothing after it."""
        self._cancel_tasks()
        self._producer.event(EventKind.CLOSE, conn=self._conn, code=1000, reason="", by="wsrec")
        self._send_close(CloseCode.NORMAL_CLOSURE, "")

    def stop_reading(self) -> None:
        """Stop the callbacks of its socket; what has arrived stays in it."""
        if self.transport.fileno >= 0:
            self._waiting.unwatch(self.transport.fileno)

    def tear_down(self, *, final: bool) -> tuple[int, int]:
        """Release its resources; `final` if it ends with the session.

        Returns:
            The monotonic time (ns) after which nothing can have been received, and the number of bytes in the ring
            outside of complete frames.

        """
        ended, error = self.ended, self._error
        self._cancel_tasks()
        self.end(None)
        self.transport.close()
        self._stalls.end()
        lost_since = now()
        if self.connected:
            if not final:
                self._producer.event(
                    EventKind.DISCONNECT,
                    conn=self._conn,
                    message=str(error) if error else "",
                    received_bytes=self.received,
                    discarded_bytes=self.hot.unparsed + self.transport.undecrypted,
                )
            if ended:
                # a broken connection may have been dead since its last byte, and nothing follows a close frame
                lost_since = self.hot.last_event
        received = self._ring.head.read()
        self.hot.discard()
        discarded = received - self._ring.head.read()
        # these refer to this object, and the collector is off
        self._error = None
        del self.hot, self.liveness, self.subscriber
        return lost_since, discarded

    def _on_opening(self, data: memoryview) -> int:
        try:
            consumed = self.handshake.feed(data)
        except Exception as error:  # noqa: BLE001 (raised by `shake_hands`)
            self.end(error)
            return len(data)
        if self.handshake.complete:
            self._rules.compression = self.handshake.compression is not None
            self.hot.open = True
            self.opened_at = now()
            self._opened.set_result(None)
        return consumed

    def _on_control(self, opcode: int, payload: bytes) -> None:
        self.liveness.on_control(opcode, payload)
        try:
            self._send(self._encoder.on_control(opcode, payload))
        except ProtocolError as error:
            self.end(error)
            return
        except OSError as error:
            # the close frame was received; that its echo could not be sent does not matter
            if self._encoder.close_received is None:
                self.end(error)
                return
        received = self._encoder.close_received
        if received is not None:
            self._producer.event(
                EventKind.CLOSE, conn=self._conn, code=int(received.code), reason=received.reason, by="exchange"
            )
            self.end(None)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def _send_close(self, code: int, reason: str) -> None:
        # that the socket is broken shows when it is read
        with suppress(OSError):
            self._send(self._encoder.close(code, reason))

    def _send_ping(self, payload: bytes) -> None:
        try:
            self._send(self._encoder.ping(payload))
        except OSError as error:
            self.end(error)

    def _send(self, frame: Sent | None, request: int = 0) -> None:
        """Send a frame, of the subscription request of this number; 0: of none."""
        if frame is not None:
            self.transport.send(frame.wire)
            self._producer.sent(self._conn, frame.opcode, frame.payload, request)


def _in_handshake(error: Exception | None) -> Exception:
    """The error of a connection that ended before it was open."""
    if isinstance(error, ConnectionResetError):
        return ResetInHandshakeError(error.strerror or str(error))
    return error or ConnectionResetError("the connection ended during the handshake")
