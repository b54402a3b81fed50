"""A recorded connection: what lasts over all the times that it is opened and closed again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from wsrec import ipc
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy
from wsrec.net.resolver import Address
from wsrec.plan.connections import Answer, ConnectionPlan, divided
from wsrec.plan.requests import SubscriptionRequest
from wsrec.receive import closing_handshake, opening
from wsrec.receive.dialer import Dialer
from wsrec.receive.liveness import IdleTimeout
from wsrec.receive.open_connection import OpenConnection
from wsrec.receive.producer import Producer
from wsrec.receive.security import Security
from wsrec.receive.segments import Segments
from wsrec.receive.stall import Stalls
from wsrec.receive.stamping import StampingReports
from wsrec.receive.tls_choice import TlsPolicy
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring import recovery_point
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.events import EventKind
from wsrec.wire import deflate
from wsrec.wire.errors import HandshakeRefused
from wsrec.wire.handshake import Handshake


def _nothing() -> None:
    """Default for feeds without application-level pings."""


class Connection:
    """A connection of one number, opened and closed as often as its reconnector needs.

    "The current connection" is the one that `open` began and `tear_down` has not ended yet.

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
        segments: the receiver's capture; None without one.

    Attributes:
        plan: as given, as changed by `divide` and `disable_compression`.
        ring: as given.
        discarded: bytes received outside of complete frames: failed handshakes, and frames cut off at the end.
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
        segments: Segments | None = None,
    ) -> None:
        self.plan = plan
        self.discarded = 0
        self.ring = ring
        self.look_for_pings: Callable[[], None] = _nothing
        self._producer = producer
        self._waiting = waiting
        self._security = Security(plan.conn, tls, producer)
        context = tls.context if plan.token is None else tls.requests
        self._dialer = Dialer(plan, waiting, self._security, context, history, segments)
        self._stamping = StampingReports(plan.conn, producer)
        self._stalls = Stalls(plan.conn, producer, waiting)
        self._idle_timeout = idle_timeout
        self._max_message = max_message
        self._on_idle = on_idle
        self._history = history
        # reads, frames and bytes of earlier connections
        self._before = (0, 0, 0)
        self._current: OpenConnection | None = None

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

    def learn(self, error: Exception) -> None:
        """Remember a failure that would also end the next connection."""
        self._security.learn(error)

    @property
    def stalls(self) -> int:
        """Number of times that a full ring stopped reading."""
        return self._stalls.count

    @property
    def totals(self) -> tuple[int, int, int, int, int]:
        """Non-empty reads, frames published, bytes received, `discarded` and `stalls`, over all times it was open."""
        reads, frames, received = self._before
        if self._current is not None:
            hot = self._current.hot
            reads, frames, received = reads + hot.reads, frames + hot.frames, received + hot.received
        return reads, frames, received, self.discarded, self.stalls

    @property
    def connected(self) -> bool:
        """True while the WebSocket is open."""
        return self._current is not None and self._current.connected

    @property
    def opened_at(self) -> int:
        """Monotonic time (ns) at the end of the current connection's opening handshake; 0 if it is not open."""
        return self._current.opened_at if self._current is not None else 0

    @property
    def proved(self) -> bool:
        """True once it has delivered more frames than the responses that its requests call for."""
        answers = self.plan.answers_due + (self._current.subscriber.keep_alives if self._current is not None else 0)
        return self.data > answers

    @property
    def data(self) -> int:
        """Data frames on the current connection, without application-level pings: data, and responses to requests."""
        return self._current.liveness.data if self._current is not None else 0

    @property
    def idle_for(self) -> float:
        """Seconds without data on the current connection, as of the last check."""
        return self._current.liveness.idle_for if self._current is not None else 0.0

    @property
    def last_event(self) -> int:
        """Monotonic time (ns) of the last non-empty read."""
        return self._current.hot.last_event if self._current is not None else 0

    @property
    def subscribed(self) -> bool:
        """True once all subscriptions are sent."""
        return self._current is not None and self._current.subscriber.all_sent

    @property
    def ended(self) -> bool:
        """True if the current connection has ended and must be torn down."""
        return self._current is not None and self._current.ended

    @property
    def failed(self) -> bool:
        """True if the current connection ended with an error: it may have been dead since its last byte."""
        return self._current is not None and self._current.failed

    @property
    def closed_normally(self) -> bool:
        """True if the exchange closed it with code 1000."""
        return self._current is not None and self._current.closed_normally

    def reason_of_end(self) -> Exception:
        """Why the current connection ended, as an exception for `explain`."""
        assert self._current is not None
        return self._current.reason_of_end

    async def wait_ended(self) -> None:
        """Wait until the current connection has ended."""
        if self._current is not None:
            await self._current.wait_ended()

    def end(self, error: Exception) -> None:
        """End the current connection with `error`."""
        if self._current is not None:
            self._current.end(error)

    def resubscribe(self, topics: Sequence[str], reason: str) -> None:
        """Resend the subscriptions that contain these topics."""
        if self._current is not None:
            self._current.subscriber.resubscribe(topics, reason)

    def divide(self, topics: Sequence[str], parts: tuple[SubscriptionRequest, ...], reason: str, *, send: bool) -> None:
        """Replace the request for `topics` by `parts` in the plan; `send` them now if it is open."""
        self.plan = divided(self.plan, topics, parts)
        if self._current is not None and send:
            self._current.subscriber.divide(self.plan, parts, reason)

    def disable_compression(self) -> None:
        """Offer no compression in later handshakes."""
        self.plan = msgspec.structs.replace(self.plan, compression=None)

    def answer(self, answer: Answer, value: str, frames: int) -> None:
        """Answer a ping of `frames` frames, with `value` for `{value}`; ignored once the connection closes."""
        if self._current is not None:
            self._current.answer(answer, value, frames)

    async def open(self, attempt: int) -> None:
        """Connect, start recording and start sending the subscriptions.

        Raises:
            Exception: any failure to connect; the connection is torn down.

        """
        try:
            current = await self._open()
            _report_open(self.plan, self._dialer, self._producer, current.handshake, attempt)
            current.start(self.plan)
        except BaseException as error:
            if isinstance(error, HandshakeRefused):
                error.mask_secrets(self._dialer.secrets)
            if isinstance(error, Exception):
                self._security.learn(error)
            self.tear_down()
            raise

    async def _open(self) -> OpenConnection:
        """Connect, and do the opening handshake."""
        url, uri = await self._dialer.look_up(self.plan)
        try:
            async with asyncio.timeout(opening.time_limit(self._history)) as limit:
                transport = await self._dialer.connect(uri, limit)
                self._stamping.begin(transport, self.proxy)
                current = self._current = self._begin(url, transport)
                await current.shake_hands()
        except TimeoutError:
            if self._current is not None:
                # a refusal counts even if its body never ends
                self._current.handshake.give_up()
            raise self._dialer.timeout_error from None
        self._dialer.opened()
        return current

    def _begin(self, url: str, transport: Transport) -> OpenConnection:
        try:
            transport.begin_map(self.ring.head)
            return OpenConnection(
                self.plan,
                url,
                transport,
                self.ring,
                self._producer,
                self._waiting,
                self._stalls,
                idle_timeout=self._idle_timeout,
                max_message=self._max_message,
                on_idle=self._on_idle,
                look_for_pings=self.look_for_pings,
            )
        except BaseException:
            transport.close()
            raise

    def check_stamps(self) -> None:
        """Report a NIC whose clock is unrelated to the system's, once."""
        if self._current is not None:
            self._stamping.check(self._current.transport, self.proxy)

    async def close(self, timeout: float | None = None) -> int | None:
        """Perform the closing handshake of the current connection; see `closing_handshake.close`."""
        assert self._current is not None
        return await closing_handshake.close(self._current, self._stalls, timeout)

    def tear_down(self, *, final: bool = False) -> int:
        """Release the resources of the connection or the attempt; `final` if it ends with the session.

        Returns:
            The monotonic time (ns) after which nothing can have been received.

        """
        if self._current is None:
            return now()
        current, self._current = self._current, None
        reads, frames, received = self._before
        self._before = (reads + current.hot.reads, frames + current.hot.frames, received + current.received)
        self.discarded += current.transport.undecrypted
        lost_since, discarded = current.tear_down(final=final)
        self.discarded += discarded
        return lost_since


def _report_open(plan: ConnectionPlan, dialer: Dialer, producer: Producer, handshake: Handshake, attempt: int) -> None:
    """Record and log that a connection is open, and how it was made."""
    producer.event(
        EventKind.CONNECT,
        conn=plan.conn,
        url=plan.public_url,
        proxy=None if dialer.proxy is None else dialer.proxy.public,
        **dialer.timings,
        compression=deflate.describe(handshake.compression),
        attempt=attempt,
    )
    ipc.info(f"connected to {plan.public_url}", conn=plan.conn, kind=EventKind.CONNECT)
    if handshake.is_unsolicited:
        ipc.warn(
            f"{plan.public_url} compresses messages although compression was not negotiated: a message that "
            "refers to earlier ones is recorded as received, without its fields",
            "report it to the exchange as a violation of RFC 7692",
            conn=plan.conn,
        )
