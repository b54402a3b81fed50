"""A recorded connection, from the attempt to the close: everything around the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
from websockets.frames import CloseCode

from wsrec import ipc, shutdown
from wsrec.host import timestamping
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy
from wsrec.net.resolver import Address
from wsrec.plan.connections import Answer, ConnectionPlan, divided
from wsrec.plan.requests import SubscriptionRequest
from wsrec.receive import opening
from wsrec.receive.dialer import Dialer
from wsrec.receive.failure import ClosedByExchangeError, ResetInHandshakeError
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.liveness import IdleTimeout, LivenessMonitor
from wsrec.receive.producer import Producer
from wsrec.receive.security import Security, TlsPolicy
from wsrec.receive.stall import Stalls
from wsrec.receive.subscriber import Subscriber
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring import recovery_point
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.events import EventKind
from wsrec.stages import StampSource
from wsrec.version import __version__
from wsrec.wire import deflate
from wsrec.wire.errors import HandshakeRefused, ProtocolError
from wsrec.wire.frame_encoder import FrameEncoder, Sent
from wsrec.wire.frames import MessageRules
from wsrec.wire.handshake import Handshake

CLOSE_TIMEOUT = shutdown.CLOSE_REPLY.seconds
BACKLOG_TIMEOUT = shutdown.BACKLOG.seconds
# More consecutive reads than data can arrive for meanwhile: what remains in the socket is a backlog
_LAST_READS = 64
# How often the end checks whether there is anything left to wait for (s)
_END_POLL = 0.1


def _nothing() -> None:
    """Default for feeds without application-level pings."""


class Connection:
    """A connection of one number, opened and closed as often as its reconnector needs.

    Args:
        plan: where to connect and what to send.
        ring: the connection's byte ring.
        producer: the receiver's slots.
        waiting: the readiness strategy.
        tls: TLS mode and trust.
        idle_timeout: idle timeout.
        max_message: bytes; a larger message closes the connection with 1009.
        on_idle: called when it should be replaced, with the reason and since when it is silent (monotonic, ns).
        history: which of the host's addresses have failed.

    Attributes:
        plan: as given, as changed by `divide` and `forgo_compression`.
        ring: as given.
        connected: whether the WebSocket is open.
        discarded: bytes received outside of complete frames: failed handshakes, and frames cut off at the end.
        opened_at: monotonic time (ns) at the end of the last opening handshake.
        look_for_pings: finds and answers application-level pings received so far; set before it is opened.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        ring: ByteRing,
        producer: Producer,
        waiting: Waiting,
        *,
        tls: TlsPolicy,
        idle_timeout: IdleTimeout,
        max_message: int,
        on_idle: Callable[[str, int], None],
        history: AddressHistory,
    ) -> None:
        self.plan = plan
        self.connected = False
        self.discarded = 0
        self.opened_at = 0
        self.ring = ring
        self._producer = producer
        self._waiting = waiting
        self._security = Security(plan.conn, tls, producer)
        context = tls.context if plan.token is None else tls.requests
        self._dialer = Dialer(plan, waiting, self._security, context, history)
        self._stall = Stalls(plan.conn, producer, waiting)
        self._idle_timeout = idle_timeout
        self._max_message = max_message
        self._on_idle = on_idle
        self.answer_pings: Callable[[], None] = _nothing
        self._history = history
        self._loop = asyncio.get_running_loop()
        self._totals = [0, 0, 0]
        # of the current connection
        self._hot: HotPath | None = None
        self._transport: Transport | None = None
        self._handshake: Handshake | None = None
        self._rules: MessageRules | None = None
        self._encoder: FrameEncoder | None = None
        self._subscriber: Subscriber | None = None
        self._liveness: LivenessMonitor | None = None
        self._unanswered: list[tuple[Answer, str]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[Exception | None] | None = None
        self._nic_reported = False

    def publish_complete_until(self, complete_until: int) -> None:
        """Publish until when nothing is missing, for a receiver that may take over (`ByteRing.complete_until`)."""
        self.ring.complete_until.publish(complete_until)

    def take_over(self, died: str) -> tuple[int, int, bool]:
        """Continue with the ring of a receiver that died.

        Returns:
            `ByteRing.complete_until`, the time of the last frame's read (ns, 0 if unknown), and whether anything was
            ever received.

        """
        end, event = recovery_point.of_connection(self._producer.slots, self.ring, self.plan.conn)
        discarded = self.ring.head.read() - end
        self.discarded += discarded
        self.ring.head.publish(end)
        complete_until = self.ring.complete_until.read()
        was_connected = end > 0 or 0 < complete_until < ENDED
        if was_connected and complete_until != ENDED:
            self._producer.event(
                EventKind.DISCONNECT,
                conn=self.plan.conn,
                message=died,
                received_bytes=None,
                discarded_bytes=discarded,
            )
        return complete_until, event, was_connected

    @property
    def address(self) -> Address | None:
        """The current or last address; None if the last attempt reached none."""
        return self._dialer.address

    @property
    def proxy(self) -> Proxy | None:
        """The current or last proxy, which `address` then belongs to; None for a direct connection."""
        return self._dialer.proxy

    @property
    def timeout_error(self) -> Exception:
        """The error that the attempt in progress would fail with if it timed out now."""
        return self._dialer.timeout_error

    def worked(self) -> None:
        """Record that the current or last address has delivered what was requested."""
        self._dialer.worked()

    @property
    def stalls(self) -> int:
        """Number of times that a full ring stopped reading."""
        return self._stall.count

    @property
    def reads(self) -> int:
        """Non-empty reads, over all times it was open."""
        return self._totals[0] + (self._hot.reads if self._hot else 0)

    @property
    def frames(self) -> int:
        """Frames published, over all times it was open."""
        return self._totals[1] + (self._hot.frames if self._hot else 0)

    @property
    def received(self) -> int:
        """Bytes received, over all times it was open."""
        return self._totals[2] + (self._hot.received if self._hot else 0)

    @property
    def proved(self) -> bool:
        """True once it has delivered more frames than the responses that its requests call for."""
        answers = self.plan.answers_due + (self._subscriber.kept_alive if self._subscriber else 0)
        return self.data > answers

    @property
    def data(self) -> int:
        """Data frames on the current connection, without application-level pings: data, and responses to requests."""
        return self._liveness.data if self._liveness is not None else 0

    @property
    def idle_for(self) -> float:
        """Seconds without data on the current connection, as of the last check."""
        return self._liveness.idle_for if self._liveness is not None else 0.0

    @property
    def last_event(self) -> int:
        """Monotonic time (ns) of the last non-empty read."""
        return self._hot.last_event if self._hot else 0

    @property
    def ended(self) -> bool:
        """True if the current connection has ended and must be torn down."""
        return self._ended is not None and self._ended.done()

    async def wait_ended(self) -> None:
        """Wait until the current connection has ended."""
        if self._ended is not None:
            await asyncio.wait((self._ended,))

    @property
    def subscribed(self) -> bool:
        """True once all subscriptions are sent."""
        return self._subscriber is not None and self._subscriber.all_sent

    def resubscribe(self, topics: Sequence[str], reason: str) -> None:
        """Resend the subscriptions that contain these topics."""
        if self._subscriber is not None:
            self._subscriber.resubscribe(topics, reason)

    def divide(self, topics: Sequence[str], parts: tuple[SubscriptionRequest, ...], reason: str, *, send: bool) -> None:
        """Replace the request for `topics` by `parts` in the plan; `send` them now if it is open."""
        self.plan = divided(self.plan, topics, parts)
        if self._subscriber is not None and send:
            self._subscriber.divide(self.plan, parts, reason)

    def disable_compression(self) -> None:
        """Offer no compression in later handshakes."""
        self.plan = msgspec.structs.replace(self.plan, compression=None)

    def answer(self, answer: Answer, value: str, frames: int) -> None:
        """Answer a ping of `frames` frames, with `value` for `{value}`; ignored once the connection closes."""
        if self._liveness is not None:
            self._liveness.on_ping(frames)
        if self._subscriber is None:
            # a ping may arrive together with the handshake, before the subscriber runs
            if self.connected:
                self._unanswered.append((answer, value))
        elif not self.ended:
            try:
                self._subscriber.answer(answer, value)
            except OSError as error:
                self._on_end(error)

    def end(self, error: Exception) -> None:
        """End the current connection with `error`."""
        self._on_end(error)

    async def open(self, attempt: int) -> None:
        """Connect, start recording and start sending the subscriptions.

        Raises:
            Exception: any failure to connect; the connection is torn down.

        """
        try:
            await self._open(attempt)
            assert self._encoder is not None
            self._subscriber = Subscriber(self.plan, self._encoder, self._producer, self._send)
            unanswered, self._unanswered = self._unanswered, []
            for answer, value in unanswered:
                self.answer(answer, value, 0)
        except BaseException as error:
            if isinstance(error, HandshakeRefused):
                error.mask_secrets(self._dialer.secrets)
            if isinstance(error, Exception):
                self._security.learn(error)
            self.tear_down()
            raise
        self._tasks = [
            asyncio.ensure_future(self._subscriber.run()),
            asyncio.ensure_future(self._liveness_monitor().run()),
        ]
        for task in self._tasks:
            task.add_done_callback(self._on_task_ended)

    def _liveness_monitor(self) -> LivenessMonitor:
        assert self._liveness is not None
        return self._liveness

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._on_end(error)

    def _require_handshake(self) -> Handshake:
        assert self._handshake is not None
        return self._handshake

    async def _open(self, attempt: int) -> None:
        url, uri = await self._dialer.look_up(self.plan)
        try:
            async with asyncio.timeout(opening.time_limit(self._history)) as limit:
                self._transport = await self._dialer.connect(uri, limit)
                await self._shake_hands(url, self._transport)
        except TimeoutError:
            if self._handshake is not None:
                # a refusal counts even if its body never ends
                self._handshake.give_up()
            raise self._dialer.timeout_error from None
        self._dialer.opened()
        handshake = self._require_handshake()
        self._producer.event(
            EventKind.CONNECT,
            conn=self.plan.conn,
            url=self.plan.public_url,
            proxy=None if self.proxy is None else self.proxy.public,
            **self._dialer.timings,
            compression=deflate.describe(handshake.compression),
            attempt=attempt,
        )
        ipc.info(f"connected to {self.plan.public_url}", conn=self.plan.conn)
        if handshake.is_unsolicited:
            ipc.warn(
                f"{self.plan.public_url} compresses messages although compression was not negotiated: a message that "
                "refers to earlier ones is recorded as received, without its fields",
                "report it to the exchange as a violation of RFC 7692",
                conn=self.plan.conn,
            )

    async def _shake_hands(self, url: str, transport: Transport) -> None:
        """Do the WebSocket handshake; messages that come with its answer are recorded already."""
        source = transport.source
        self._report_stamping(None if source is StampSource.NONE_ABSENT else source.reason)

        compression = deflate.offer(context_takeover=False) if self.plan.compression else None
        headers = {"User-Agent": f"wsrec/{__version__}", **self.plan.headers}
        self._handshake = Handshake(url, headers, compression)
        self._rules = MessageRules(self._max_message)
        self._opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._hot = ChosenHotPath(
            self.plan.conn,
            self.ring,
            self._producer,
            transport,
            self._rules,
            on_opening=self._on_opening,
            on_control=self._on_control,
            on_end=self._on_end,
            on_full=self._stall.on_full,
        )
        self._liveness = LivenessMonitor(
            self.plan,
            self._hot,
            transport,
            self._producer,
            self._idle_timeout,
            ask=self._ping,
            on_dead=self._on_end,
            on_idle=self._on_idle,
            answer_pings=self.answer_pings,
        )
        self._stall.begin(self._hot, transport, self._liveness, self._ended)
        self._waiting.watch(transport.fileno, self._hot.on_readable)
        transport.send(self._handshake.request())
        await asyncio.wait((self._opened, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            if self._ended.result() is None:
                self._handshake.eof()
            # not bound to a name: an exception in a local of the frame that raises it makes a reference cycle
            raise _in_handshake(self._ended.result())

    def _report_stamping(self, reason: str | None) -> None:
        self._producer.event(
            EventKind.STAMPING,
            conn=self.plan.conn,
            flags=timestamping.FLAGS,
            reason=reason,
            segments_of="exchange" if self.proxy is None else "proxy",
        )

    def check_stamps(self) -> None:
        """Report once per connection if the NIC's clock is unrelated to the system's."""
        offset = self._transport.stamps.nic_offset_ns if self._transport is not None else None
        if offset is None or self._nic_reported:
            return
        self._nic_reported = True
        what = f"the NIC's clock is {offset / 1e9:+.3f} s from the system's: kernel timestamps are used instead"
        self._report_stamping(what)
        ipc.warn(what, "set the NIC's clock: phc2sys -s CLOCK_REALTIME -c DEVICE -O 0", conn=self.plan.conn)

    def _on_opening(self, data: memoryview) -> int:
        assert self._handshake is not None
        assert self._hot is not None
        assert self._rules is not None
        assert self._opened is not None
        try:
            consumed = self._handshake.feed(data)
        except Exception as error:  # noqa: BLE001 (reported to the waiting opener)
            self._on_end(error)
            return len(data)
        if self._handshake.complete:
            self._rules.compression = self._handshake.compression is not None
            self._hot.open = True
            self._encoder = FrameEncoder(self._handshake.protocol)
            self.connected = True
            self.opened_at = now()
            if not self._opened.done():
                self._opened.set_result(None)
        return consumed

    def _ping(self, payload: bytes) -> None:
        assert self._encoder is not None
        try:
            self._send(self._encoder.ping(payload))
        except OSError as error:
            self._on_end(error)

    def _send(self, frame: Sent | None, request: int = 0) -> None:
        """Send a frame, of the subscription request of this number; 0: of none."""
        if frame is not None and self._transport is not None:
            self._transport.send(frame.wire)
            self._producer.sent(self.plan.conn, frame.opcode, frame.payload, request)

    def _on_control(self, opcode: int, payload: bytes) -> None:
        assert self._encoder is not None
        assert self._liveness is not None
        self._liveness.on_control(opcode, payload)
        try:
            self._send(self._encoder.on_control(opcode, payload))
        except ProtocolError as error:
            self._on_end(error)
            return
        except OSError as error:
            # the close frame was received; that its echo could not be sent does not matter
            if self._encoder.close_received is None:
                self._on_end(error)
                return
        received = self._encoder.close_received
        if received is not None:
            self._producer.event(
                EventKind.CLOSE, conn=self.plan.conn, code=int(received.code), reason=received.reason, by="exchange"
            )
            self._on_end(None)

    def _on_end(self, error: Exception | None) -> None:
        if self._transport is not None and self._transport.fileno >= 0:
            self._waiting.unwatch(self._transport.fileno)
        if isinstance(error, ProtocolError) and self._encoder is not None:
            with suppress(OSError):
                self._send(self._encoder.close(error.code, str(error)[:100]))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)

    @property
    def failed(self) -> bool:
        """True if the current connection ended with an error: it may have been dead since its last byte."""
        return self._ended is not None and self._ended.done() and self._ended.result() is not None

    @property
    def closed_normally(self) -> bool:
        """True if the exchange closed it with code 1000."""
        received = self._encoder.close_received if self._encoder else None
        return received is not None and received.code == CloseCode.NORMAL_CLOSURE

    def reason_of_end(self) -> Exception:
        """Why the current connection ended, as an exception for `explain`."""
        assert self._ended is not None
        error = self._ended.result()
        if error is not None:
            return error
        received = self._encoder.close_received if self._encoder else None
        if received is not None:
            return ClosedByExchangeError(int(received.code), received.reason)
        return ConnectionResetError("the connection ended without a closing handshake")

    async def close(self, timeout: float | None = None) -> int | None:
        """Start the closing handshake; data that arrives before the reply is recorded, and nothing after it.

        The reply follows everything that the exchange had sent before. So while a ring is full the wait is extended, to
        at most `timeout` seconds, or `BACKLOG_TIMEOUT`.

        Returns:
            The monotonic time (ns) of the last byte read if data was left unread; else None.

        """
        assert self._encoder is not None
        assert self._ended is not None
        assert self._hot is not None
        for task in self._tasks:
            task.cancel()
        self._producer.event(EventKind.CLOSE, conn=self.plan.conn, code=1000, reason="", by="wsrec")
        with suppress(OSError):
            self._send(self._encoder.close(CloseCode.NORMAL_CLOSURE, ""))
        began, stalls = self._loop.time(), self.stalls
        limit = began + (BACKLOG_TIMEOUT if timeout is None else timeout)
        was_full, left = self._stall.is_stalled, False
        while not self.ended:
            until = limit if self._stall.is_stalled else min(limit, max(began, self._stall.resumed_at) + CLOSE_TIMEOUT)
            if (wait := until - self._loop.time()) > 0:
                await asyncio.wait((self._ended,), timeout=min(wait, _END_POLL))
                continue
            left = self._leave_unread()
            if not self._stall.is_stalled or self._loop.time() >= limit:
                break
        if self.ended:
            # data behind an error of the socket is lost with it
            left = self.failed and (was_full or self.stalls > stalls)
        self._on_end(None)
        return self._hot.last_event if left else None

    def _leave_unread(self) -> bool:
        """Read what is in the socket without waiting for more; returns True if data remains unread."""
        assert self._hot is not None
        assert self._transport is not None
        self._waiting.unwatch(self._transport.fileno)
        for _ in range(_LAST_READS):
            reads = self._hot.reads
            if not self._stall.is_stalled:
                self._hot.on_readable()
            if self._stall.is_stalled or self.ended:
                break
            if self._hot.reads == reads:
                return False
        return not self.ended and self._transport.unread > 0

    def learn(self, error: Exception) -> None:
        """Remember a failure that would also end the next connection."""
        self._security.learn(error)

    def tear_down(self, *, final: bool = False) -> int:
        """Release the resources of the connection or the attempt; `final` if it ends with the session.

        Returns:
            The monotonic time (ns) after which nothing can have been received.

        """
        hot, transport = self._hot, self._transport
        was_open, self.connected = self.connected, False
        for task in self._tasks:
            task.cancel()
        if transport is not None:
            if transport.fileno >= 0:
                self._waiting.unwatch(transport.fileno)
            transport.close()
        self._stall.end()
        if hot is not None:
            self._totals = [self.reads, self.frames, self.received]
        lost_since = now()
        if was_open and hot is not None:
            ended = self._ended.result() if self._ended is not None and self._ended.done() else None
            if not final:
                self._producer.event(
                    EventKind.DISCONNECT,
                    conn=self.plan.conn,
                    message=str(ended) if ended else "",
                    received_bytes=hot.received,
                    discarded_bytes=hot.unparsed,
                )
            if self.ended:
                # a broken connection may have been dead since its last byte, and nothing follows a close frame
                lost_since = hot.last_event
        if hot is not None:
            received = self.ring.head.read()
            hot.discard()
            self.discarded += received - self.ring.head.read()
        self._hot = self._transport = self._handshake = self._encoder = None
        self._opened = self._ended = self._subscriber = self._liveness = None
        self._tasks, self._unanswered = [], []
        return lost_since


def _in_handshake(error: Exception | None) -> Exception:
    """The error of a connection that ended before it was open."""
    if isinstance(error, ConnectionResetError):
        return ResetInHandshakeError(error.strerror or str(error))
    return error or ConnectionResetError("the connection ended during the handshake")
