"""A recorded connection, from the attempt to the close: everything around the hot path."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec
from websockets.frames import CloseCode
from websockets.uri import WebSocketURI

from wsrec import ipc, shutdown
from wsrec.host import timestamping
from wsrec.host.clock import now
from wsrec.http.client import host_of
from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy
from wsrec.net.resolver import RESOLVER, Address, Found, LastWorkingAddress, NoAnswerError
from wsrec.net.tunnel import proxy_errors, through, unreachable
from wsrec.plan.connections import Answer, ConnectionPlan, divided
from wsrec.plan.requests import SubscriptionRequest
from wsrec.receive import opening
from wsrec.receive.failure import ClosedByExchangeError, ResetInHandshakeError, StepTimeoutError
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.ktls import KtlsRefused
from wsrec.receive.liveness import IdleTimeout, LivenessMonitor
from wsrec.receive.opening import ConnectedSocket
from wsrec.receive.producer import Producer
from wsrec.receive.security import Security, TlsPolicy
from wsrec.receive.subscriber import Subscriber
from wsrec.receive.token import TokenError, secrets_of
from wsrec.receive.token import address as address_now
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring import recovery_point
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.events import EventKind
from wsrec.stages import StampSource
from wsrec.units import duration
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
# Each check is a wake-up, and a writer that is behind frees megabytes at a time (s)
_FULL_POLL = 0.005
# How often the end checks whether there is anything left to wait for (s)
_END_POLL = 0.1


class _Step(StrEnum):
    """The step that an attempt to connect is waiting for; the text follows "did not answer"."""

    REQUEST = "the request for a token"
    LOOK_UP = "the look-up of its name"
    CONNECT = "the connection"
    PROXY = "the tunnel through the proxy"
    TLS = "the TLS handshake"
    HANDSHAKE = "the WebSocket handshake"


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
        stalls: number of times that a full ring stopped reading.
        discarded: bytes received outside of complete frames: failed handshakes, and frames cut off at the end.
        opened_at: monotonic time (ns) at the end of the last opening handshake.
        look_for_pings: finds and answers application-level pings received so far; set before it is opened.
        address: the current or last address; None if the last attempt reached none.
        proxy: the current or last proxy, which `address` then belongs to; None for a direct connection.

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
        self.stalls = 0
        self.discarded = 0
        self.opened_at = 0
        self.address: Address | None = None
        self.proxy: Proxy | None = None
        # the host that the addresses belong to
        self._host = ""
        self.ring = ring
        self._producer = producer
        self._waiting = waiting
        self._context = tls.context if plan.token is None else tls.requests
        self._security = Security(plan.conn, tls, producer)
        self._idle_timeout = idle_timeout
        self._max_message = max_message
        self._on_idle = on_idle
        self.answer_pings: Callable[[], None] = _nothing
        self._history = history
        self._step = _Step.REQUEST
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
        self._full_since = 0
        # end of the last stall, on the loop's clock
        self._resumed_at = 0.0
        self._nic_reported = False
        self._secrets: frozenset[str] = frozenset()

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

    @property
    def timeout_error(self) -> Exception:
        """The error that the attempt in progress would fail with if it timed out now."""
        if self._step is _Step.REQUEST and self.plan.token is not None:
            by = self.plan.proxies.of(self.plan.token.url)
            way = "" if by is None else f" through the proxy {by.public}"
            return TokenError(f"{host_of(self.plan.token.url)} did not answer{way} in time")
        unfound = NoAnswerError(socket.EAI_AGAIN, "the name server has not answered")
        if self.proxy is not None and self._step in (_Step.LOOK_UP, _Step.CONNECT, _Step.PROXY):
            return unreachable(self.proxy, unfound if self._step is _Step.LOOK_UP else TimeoutError())
        if self._step is _Step.LOOK_UP:
            return unfound
        if self.address is not None or self._step is _Step.REQUEST:
            return StepTimeoutError(self._step.value)
        return TimeoutError()

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
                error.mask_secrets(self._secrets)
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

    async def _open(self, attempt: int) -> None:
        self._step, self.address, self.proxy = _Step.REQUEST, None, None
        self._history.begin()
        url, uri = await address_now(self.plan, self._context)
        self._secrets = secrets_of(self.plan, url)
        self.proxy = self.plan.proxies.of(url)
        self._step = _Step.LOOK_UP
        began = now()
        found = await self._look_up(uri)
        # a proxy learns the destination, and possibly a password, before any certificate is verified
        kept = found.fallback(proved=uri.secure and self.proxy is None)
        self._history.begin(found.addresses, None if kept is None else kept.address)
        self._step = _Step.CONNECT
        timings: dict[str, Any] = {"resolve_ns": now() - began, "dns_age_s": found.age}
        try:
            async with asyncio.timeout(opening.time_limit(self._history)) as limit:
                await self._dial(url, uri, limit, timings)
        except TimeoutError:
            if self._handshake is not None:
                # a refusal counts even if its body never ends
                self._handshake.give_up()
            raise self.timeout_error from None
        if kept is not None and self.address == kept.address:
            timings["dns_age_s"] = kept.age
            self._report_outlived(kept)
        self._producer.event(
            EventKind.CONNECT,
            conn=self.plan.conn,
            url=self.plan.public_url,
            proxy=None if self.proxy is None else self.proxy.public,
            **timings,
            compression=deflate.describe(self._require_handshake().compression),
            attempt=attempt,
        )
        ipc.info(f"connected to {self.plan.public_url}", conn=self.plan.conn)
        if self._require_handshake().is_unsolicited:
            ipc.warn(
                f"{self.plan.public_url} compresses messages although compression was not negotiated: a message that "
                "refers to earlier ones is recorded as received, without its fields",
                "report it to the exchange as a violation of RFC 7692",
                conn=self.plan.conn,
            )

    async def _look_up(self, uri: WebSocketURI) -> Found:
        """The addresses to connect to: the host's, or the proxy's (which then resolves the host itself)."""
        proxy = self.proxy
        if proxy is None:
            self._host, found = uri.host, await RESOLVER.resolve(uri.host, uri.port)
        else:
            with proxy_errors(proxy):
                self._host, found = proxy.host, await RESOLVER.resolve(proxy.host, proxy.port)
        if found.news:
            self._report_kept(found)
        return found

    def worked(self) -> None:
        """Record that the current or last address has delivered what was requested."""
        if self.address is not None:
            RESOLVER.worked(self._host, self.address)

    async def _reach(self, addresses: Sequence[Address], uri: WebSocketURI, limit: asyncio.Timeout) -> ConnectedSocket:
        """Connect to the host, directly or by a tunnel through the proxy."""
        self._step = _Step.CONNECT
        proxy = self.proxy
        if proxy is None:
            reached = await opening.connect(addresses, self._waiting.prepare, self._history)
            self.address = reached.address
            opening.extend_limit(limit)
            return reached
        with proxy_errors(proxy):
            reached = await opening.connect(addresses, self._waiting.prepare, self._history)
            self.address = reached.address
            opening.extend_limit(limit)
            self._step = _Step.PROXY
            await through(reached.sock, proxy, uri.host, uri.port)
        return reached

    def _report_kept(self, found: Found) -> None:
        """Warn that a kept answer of the name server is used."""
        age = duration(None if found.age is None else found.age * 1e9)
        what = f"cannot resolve {self._host!r}: {found.trouble}; using its addresses of {age} ago"
        ipc.warn(
            what,
            "check DNS: /etc/resolv.conf, and whether the name servers listed there can be reached",
            conn=self.plan.conn,
        )

    def _report_outlived(self, kept: LastWorkingAddress) -> None:
        """Warn that the address is not in the name server's current answer."""
        what = f"using {kept.address.ip} for {self._host!r}, which worked {duration(kept.ago * 1e9)} ago: "
        what += "the addresses that the name server returns now do not work"
        ipc.warn(what, "nothing to do if this is rare; otherwise check DNS", conn=self.plan.conn)

    def _require_handshake(self) -> Handshake:
        assert self._handshake is not None
        return self._handshake

    async def _dial(self, url: str, uri: WebSocketURI, limit: asyncio.Timeout, timings: dict[str, Any]) -> None:
        """Connect, secure and shake hands: from the host's addresses to an open WebSocket."""
        conn = self.plan.conn
        resolved = now()
        reached = await self._reach(self._history.known, uri, limit)
        connected = now()
        self._step = _Step.TLS
        try:
            self._transport = await self._security.secure(reached.sock, uri, reached.stamped)
        except KtlsRefused:
            # the refusal is remembered; the next mode needs a fresh connection
            reached = await self._reach((reached.address,), uri, limit)
            self._step = _Step.TLS
            self._transport = await self._security.secure(reached.sock, uri, reached.stamped)
        secured = now()
        self._step = _Step.HANDSHAKE
        source = self._transport.source
        self._report_stamping(None if source is StampSource.NONE_ABSENT else source.reason)

        compression = deflate.offer(context_takeover=False) if self.plan.compression else None
        headers = {"User-Agent": f"wsrec/{__version__}", **self.plan.headers}
        self._handshake = Handshake(url, headers, compression)
        self._rules = MessageRules(self._max_message)
        self._opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._hot = ChosenHotPath(
            conn,
            self.ring,
            self._producer,
            self._transport,
            self._rules,
            on_opening=self._on_opening,
            on_control=self._on_control,
            on_end=self._on_end,
            on_full=self._on_full,
        )
        self._liveness = LivenessMonitor(
            self.plan,
            self._hot,
            self._transport,
            self._producer,
            self._idle_timeout,
            ask=self._ping,
            on_dead=self._on_end,
            on_idle=self._on_idle,
            answer_pings=self.answer_pings,
        )
        self._waiting.watch(self._transport.fileno, self._hot.on_readable)
        self._transport.send(self._handshake.request())
        await asyncio.wait((self._opened, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            if self._ended.result() is None:
                self._handshake.eof()
            # not bound to a name: an exception in a local of the frame that raises it makes a reference cycle
            raise _in_handshake(self._ended.result())
        timings |= {
            "address": reached.address.ip,
            "port": reached.address.port,
            "connect_ns": connected - resolved,
            "tls_ns": secured - connected,
            "handshake_ns": now() - secured,
        }

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

    def _on_full(self) -> None:
        """A ring is full: stop reading so that TCP pushes back, and check again in a few milliseconds."""
        assert self._transport is not None
        self._waiting.unwatch(self._transport.fileno)
        if not self._full_since:
            self._full_since = now()
            self.stalls += 1
            if self._liveness is not None:
                self._liveness.stalled = True
        self._loop.call_later(_FULL_POLL, self._check_room, self._hot)

    def _check_room(self, hot: HotPath | None) -> None:
        if hot is None or hot is not self._hot or self._transport is None or self._ended is None or self._ended.done():
            return
        if not self._producer.flush() or not hot.has_room():
            self._loop.call_later(_FULL_POLL, self._check_room, hot)
            return
        self._report_stall()
        self._waiting.watch(self._transport.fileno, hot.on_readable)

    def _report_stall(self) -> None:
        self._producer.event(EventKind.STALL, conn=self.plan.conn, duration_ns=now() - self._full_since)
        self._full_since = 0
        self._resumed_at = self._loop.time()
        if self._liveness is not None:
            self._liveness.stalled = False

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
        at most `patience` seconds, or `BACKLOG_TIMEOUT`.

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
        was_full, left = bool(self._full_since), False
        while not self.ended:
            until = limit if self._full_since else min(limit, max(began, self._resumed_at) + CLOSE_TIMEOUT)
            if (wait := until - self._loop.time()) > 0:
                await asyncio.wait((self._ended,), timeout=min(wait, _END_POLL))
                continue
            left = self._leave_unread()
            if not self._full_since or self._loop.time() >= limit:
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
            if not self._full_since:
                self._hot.on_readable()
            if self._full_since or self.ended:
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
        if self._full_since:
            self._report_stall()
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
