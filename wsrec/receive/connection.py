"""One connection from its first attempt to its close: what surrounds the hot path."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from websockets.frames import CloseCode
from websockets.uri import parse_uri

from wsrec import __version__, child
from wsrec.feed.plan import ConnectionPlan
from wsrec.receive import opening, timestamping
from wsrec.receive.backoff import Backoff
from wsrec.receive.clock import now
from wsrec.receive.failure import Failure, explain
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.job import Resumed
from wsrec.receive.ktls import KtlsRefused
from wsrec.receive.producer import Producer
from wsrec.receive.security import Security, TlsPolicy
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring import remains
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.events import EventKind
from wsrec.stages import StampSource
from wsrec.wire import deflate
from wsrec.wire.conversation import Conversation, Sent
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frames import MessageRules
from wsrec.wire.handshake import Handshake

CLOSE_TIMEOUT = 2.0
# Each look costs a wake-up, and a writer that is behind gives back megabytes at a time
_FULL_POLL = 0.005
# A connection that lasted this long has proved itself: the next failure is a new one
_PROVEN = 10.0


class Connection:
    """Keeps one planned connection open until told to stop.

    Args:
        plan: where to connect and what to send.
        ring: the connection's byte ring.
        producer: the receiver's slots.
        waiting: how to learn that there is something to read.
        tls: how TLS is taken off the wire, and what is trusted.
        max_message: bytes; a larger message closes the connection with 1009.
        until_close: whether a normal close by the exchange (1000) ends the connection for good.
        resumed: a receiver that died, whose ring this is.

    Attributes:
        connected: whether the WebSocket is open now.
        was_connected: whether it ever was.
        reconnects: how often it was opened again.
        stalls: how often a full ring stopped reading.
        discarded: bytes received that were no frame: of handshakes that failed, and of frames that never ended.
        failure: the last failure, None after a success.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        ring: ByteRing,
        producer: Producer,
        waiting: Waiting,
        *,
        tls: TlsPolicy,
        max_message: int,
        until_close: bool,
        resumed: Resumed | None = None,
    ) -> None:
        self.plan = plan
        self.connected = False
        self.was_connected = False
        self.reconnects = 0
        self.stalls = 0
        self.discarded = 0
        self.failure: Failure | None = None
        self._uri = parse_uri(plan.url)
        self._ring = ring
        self._producer = producer
        self._waiting = waiting
        self._security = Security(plan.conn, self._uri, tls, producer)
        self._max_message = max_message
        self._until_close = until_close
        self._loop = asyncio.get_running_loop()
        self._totals = [0, 0, 0]
        self._lost_since: int | None = None
        self._open_since: float | None = None
        self._finished = False
        # of the connection that is open now
        self._hot: HotPath | None = None
        self._transport: Transport | None = None
        self._handshake: Handshake | None = None
        self._rules: MessageRules | None = None
        self._conversation: Conversation | None = None
        self._opened: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[Exception | None] | None = None
        self._full_since = 0
        self._nic_told = False
        self._wanted_since = now()
        # how the receiver before ended, until the connection is open again
        self._died: str | None = None
        if resumed is not None:
            self._take_over(resumed)

    @property
    def reads(self) -> int:
        """Reads that brought something, over all times it was open."""
        return self._totals[0] + (self._hot.reads if self._hot else 0)

    @property
    def frames(self) -> int:
        """Frames published."""
        return self._totals[1] + (self._hot.frames if self._hot else 0)

    @property
    def received(self) -> int:
        """Bytes received."""
        return self._totals[2] + (self._hot.received if self._hot else 0)

    def publish_covered(self) -> None:
        """Tell whoever may have to take over up to when nothing is missing (`ByteRing.covered`)."""
        if self._finished:
            covered = ENDED
        elif self._lost_since is not None:
            covered = self._lost_since if self.was_connected else 0
        else:
            covered = self._hot.last_event if self.connected and self._hot is not None else 0
        self._ring.covered.publish(covered)

    def _take_over(self, resumed: Resumed) -> None:
        """Go on with the ring of a receiver that died: its connection is lost, and what came of it is in the ring."""
        slots = self._producer.slots
        end, handoff = remains.of_connection(slots, self._ring, self.plan.conn)
        discarded = self._ring.head.read() - end
        self.discarded += discarded
        self._ring.head.publish(end)
        covered = self._ring.covered.read()
        self.was_connected = end > 0 or 0 < covered < ENDED
        if covered == ENDED:
            self._finished = True
            return
        self._died = f"the receiver {resumed.how}"
        self._lost_since = max(covered, handoff) or resumed.began
        if self.was_connected:
            self._producer.event(
                EventKind.DISCONNECT,
                conn=self.plan.conn,
                message=self._died,
                received_bytes=None,
                discarded_bytes=discarded,
            )

    def never_open(self) -> Failure:
        """Why it was not opened by now: the last failure, or the silence of a server that is still waited for."""
        return self.failure or explain(TimeoutError(), self._uri.host, self._uri.port)

    def renew(self, reason: str) -> None:
        """End the connection, if it is open, and make it anew."""
        if self.connected:
            self._on_end(ConnectionAbortedError(reason))

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, record, and connect again whenever it ends; return once `stopping` is set or trying is in vain."""
        stop = asyncio.ensure_future(stopping.wait())
        backoff = Backoff()
        try:
            await _first(stop, asyncio.sleep(self.plan.start_after))
            while not stopping.is_set() and not self._finished:
                self._open_since = None
                try:
                    await self._once(stop, backoff.attempts)
                    continue
                except Exception as error:  # noqa: BLE001 (an end of any kind is told and survived)
                    self.failure = explain(error, self._uri.host, self._uri.port)
                    self._security.learn(error)
                if self._lost_since is None:
                    self._lost_since = self._wanted_since
                if self._open_since is not None and time.monotonic() - self._open_since > _PROVEN:
                    backoff.reset()
                # what worked before can work again: a firewall's 403 in a maintenance window is not the end
                in_vain = self.failure.permanent and not self.was_connected
                wait = None if in_vain else backoff.next(self.failure.retry_after)
                self._tell_failure(self.failure, wait, backoff.attempts)
                # the receiver's collector is off; an attempt that failed may leave cycles that hold sockets and buffers
                gc.collect()
                if wait is None:
                    self._finished = True
                    return
                await _first(stop, asyncio.sleep(wait))
        finally:
            stop.cancel()
            if self._lost_since is not None:
                self._lost("not connected before the session's end")

    async def _once(self, stop: asyncio.Future[Any], attempt: int) -> None:
        """One life of the connection.

        Raises:
            Exception: whatever ended it, other than `stop` and a close that was waited for.

        """
        speaking: asyncio.Future[Any] | None = None
        try:
            async with asyncio.timeout(opening.CONNECT_TIMEOUT):
                await _first(stop, self._open(attempt))
            if self._ended is None or not self.connected:
                return
            speaking = asyncio.ensure_future(self._speak())
            await asyncio.wait((stop, self._ended, speaking), return_when=asyncio.FIRST_COMPLETED)
            if speaking.done() and not self._ended.done():
                speaking.result()
                await asyncio.wait((stop, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                speaking.cancel()
                await self._close()
                self._finished = True
            elif self._until_close and self._closed_normally():
                self._finished = True
            else:
                raise self._reason_of_end()
        finally:
            if speaking is not None:
                speaking.cancel()
                await asyncio.wait((speaking,))
                if not speaking.cancelled():
                    # what broke the sending ended the reading too, and is told as that
                    speaking.exception()
            self._tear_down()

    async def _open(self, attempt: int) -> None:
        uri, conn = self._uri, self.plan.conn
        began = now()
        addresses = await self._loop.getaddrinfo(uri.host, uri.port, type=socket.SOCK_STREAM)
        resolved = now()
        sock, stamped, address = await opening.connect(addresses, self._waiting.prepare)
        connected = now()
        try:
            self._transport = await self._security.secure(sock, stamped)
        except KtlsRefused:
            # what refused it is remembered; another mode needs a connection of its own
            sock, stamped, address = await opening.connect(addresses, self._waiting.prepare)
            self._transport = await self._security.secure(sock, stamped)
        secured = now()
        source = self._transport.source
        self._tell_stamping(None if source is StampSource.NONE_ABSENT else source.reason)

        compression = deflate.offer(context_takeover=False) if self.plan.compression else None
        headers = {"User-Agent": f"wsrec/{__version__}", **self.plan.headers}
        self._handshake = Handshake(self.plan.url, headers, compression)
        self._rules = MessageRules(self._max_message)
        self._opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._hot = ChosenHotPath(
            conn,
            self._ring,
            self._producer,
            self._transport,
            self._rules,
            on_opening=self._on_opening,
            on_control=self._on_control,
            on_end=self._on_end,
            on_full=self._on_full,
        )
        self._waiting.watch(self._transport.fileno, self._hot.on_readable)
        self._transport.send(self._handshake.request())
        await asyncio.wait((self._opened, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            if self._ended.result() is None:
                self._handshake.eof()
            # without a name: an exception in a local of the frame that raises it is a cycle
            raise self._ended.result() or ConnectionResetError("the connection ended during the handshake")
        self._producer.event(
            EventKind.CONNECT,
            conn=conn,
            url=self.plan.public_url,
            address=address[0],
            port=address[1],
            resolve_ns=resolved - began,
            connect_ns=connected - resolved,
            tls_ns=secured - connected,
            handshake_ns=now() - secured,
            compression=deflate.describe(deflate.agreed(self._handshake.protocol)),
            attempt=attempt,
        )
        if self._lost_since is not None:
            self._lost(self._died or "not connected")
        child.info(f"connected to {self.plan.public_url}", conn=conn)

    def _tell_stamping(self, reason: str | None) -> None:
        self._producer.event(EventKind.STAMPING, conn=self.plan.conn, flags=timestamping.FLAGS, reason=reason)

    def check_stamps(self) -> None:
        """Tell once a connection if the NIC gives stamps that no other clock can be compared with."""
        offset = self._transport.stamps.nic_offset_ns if self._transport is not None else None
        if offset is None or self._nic_told:
            return
        self._nic_told = True
        what = f"the NIC's clock is {offset / 1e9:+.3f} s from the system's: the kernel's stamps are taken instead"
        self._tell_stamping(what)
        child.warn(what, "set the NIC's clock: phc2sys -s CLOCK_REALTIME -c DEVICE -O 0", conn=self.plan.conn)

    def _on_opening(self, data: memoryview) -> int:
        assert self._handshake is not None
        assert self._hot is not None
        assert self._rules is not None
        assert self._opened is not None
        try:
            consumed = self._handshake.feed(data)
        except Exception as error:  # noqa: BLE001 (told to whoever waits for the handshake)
            self._on_end(error)
            return len(data)
        if self._handshake.complete:
            self._rules.compression = deflate.agreed(self._handshake.protocol) is not None
            self._hot.open = True
            self._conversation = Conversation(self._handshake.protocol)
            self.connected = True
            self._open_since = time.monotonic()
            self.reconnects += self.was_connected
            self.was_connected = True
            self.failure = None
            if not self._opened.done():
                self._opened.set_result(None)
        return consumed

    async def _speak(self) -> None:
        """Send the subscriptions, no faster than the exchange allows, and then whatever keeps the connection alive."""
        conversation, plan = self._conversation, self.plan
        assert conversation is not None
        for index, subscription in enumerate(plan.subscriptions):
            if index:
                await asyncio.sleep(plan.send_interval)
            self._producer.event(EventKind.SUBSCRIBE, conn=plan.conn, topics=subscription.topics)
            self._send(conversation.text(subscription.text))
        while plan.keep_alive is not None:
            await asyncio.sleep(plan.keep_alive.every)
            text = plan.keep_alive.text
            self._send(conversation.ping(b"") if text is None else conversation.text(text))

    def _send(self, frame: Sent | None) -> None:
        if frame is not None and self._transport is not None:
            self._transport.send(frame.wire)
            self._producer.sent(self.plan.conn, frame.opcode, frame.payload)

    def _on_control(self, opcode: int, payload: bytes) -> None:
        assert self._conversation is not None
        try:
            self._send(self._conversation.on_control(opcode, payload))
        except ProtocolError as error:
            self._on_end(error)
            return
        except OSError as error:
            # who closes need not wait for the echo: the close counts, and not that it could not be sent
            if self._conversation.close_received is None:
                self._on_end(error)
                return
        received = self._conversation.close_received
        if received is not None:
            self._producer.event(
                EventKind.CLOSE, conn=self.plan.conn, code=int(received.code), reason=received.reason, by="exchange"
            )
            self._on_end(None)

    def _on_end(self, error: Exception | None) -> None:
        if self._transport is not None and self._transport.fileno >= 0:
            self._waiting.unwatch(self._transport.fileno)
        if isinstance(error, ProtocolError) and self._conversation is not None:
            with suppress(OSError):
                self._send(self._conversation.close(error.code, str(error)[:100]))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)

    def _on_full(self) -> None:
        """A ring is full: stop reading, let TCP push back, and look again in some milliseconds."""
        assert self._transport is not None
        self._waiting.unwatch(self._transport.fileno)
        if not self._full_since:
            self._full_since = now()
            self.stalls += 1
        self._loop.call_later(_FULL_POLL, self._look_for_room, self._hot)

    def _look_for_room(self, hot: HotPath | None) -> None:
        if hot is None or hot is not self._hot or self._transport is None or self._ended is None or self._ended.done():
            return
        if not self._producer.flush() or not hot.has_room():
            self._loop.call_later(_FULL_POLL, self._look_for_room, hot)
            return
        self._tell_stall()
        self._waiting.watch(self._transport.fileno, hot.on_readable)

    def _tell_stall(self) -> None:
        self._producer.event(EventKind.STALL, conn=self.plan.conn, duration_ns=now() - self._full_since)
        self._full_since = 0

    def _closed_normally(self) -> bool:
        received = self._conversation.close_received if self._conversation else None
        return received is not None and received.code == CloseCode.NORMAL_CLOSURE

    def _reason_of_end(self) -> Exception:
        """Why the open connection ended, as an exception to explain."""
        assert self._ended is not None
        error = self._ended.result()
        if error is not None:
            return error
        received = self._conversation.close_received if self._conversation else None
        if received is not None:
            code = int(received.code)
            return ConnectionResetError(f"the exchange closed the connection: {code} {received.reason}".rstrip())
        return ConnectionResetError("the connection ended without a closing handshake")

    async def _close(self) -> None:
        """The closing handshake, begun by us; what still arrives before the answer is recorded."""
        assert self._conversation is not None
        assert self._ended is not None
        self._producer.event(EventKind.CLOSE, conn=self.plan.conn, code=1000, reason="", by="wsrec")
        with suppress(OSError):
            self._send(self._conversation.close(CloseCode.NORMAL_CLOSURE, ""))
            await asyncio.wait((self._ended,), timeout=CLOSE_TIMEOUT)

    def _tear_down(self) -> None:
        hot, transport = self._hot, self._transport
        was_open, self.connected = self.connected, False
        if transport is not None:
            if transport.fileno >= 0:
                self._waiting.unwatch(transport.fileno)
            transport.close()
        if self._full_since:
            self._tell_stall()
        if hot is not None:
            self._totals = [self.reads, self.frames, self.received]
        if was_open and hot is not None and not self._finished:
            ended = self._ended.result() if self._ended is not None and self._ended.done() else None
            self._producer.event(
                EventKind.DISCONNECT,
                conn=self.plan.conn,
                message=str(ended) if ended else "",
                received_bytes=hot.received,
                discarded_bytes=hot.unparsed,
            )
            # a connection that broke may have been dead since its last byte
            self._lost_since = now() if ended is None else hot.last_event
        if hot is not None:
            received = self._ring.head.read()
            hot.discard()
            self.discarded += received - self._ring.head.read()
        self._hot = self._transport = self._handshake = self._conversation = None
        self._opened = self._ended = None

    def _lost(self, reason: str) -> None:
        assert self._lost_since is not None
        self._producer.event(
            EventKind.LOST_INTERVAL,
            conn=self.plan.conn,
            monotonic_from=self._lost_since,
            monotonic_to=now(),
            reason=reason,
        )
        self._lost_since = self._died = None

    def _tell_failure(self, failure: Failure, wait: float | None, attempt: int) -> None:
        self._producer.event(
            EventKind.CONNECT_FAILED,
            conn=self.plan.conn,
            cause=failure.cause,
            message=failure.message,
            cure=failure.cure,
            retry_s=wait,
            attempt=attempt,
        )
        again = "not tried again" if wait is None else f"trying again in {wait:.1f} s"
        child.error(f"{failure.message}; {again}", failure.cure, conn=self.plan.conn)


async def _first(stop: asyncio.Future[Any], other: Coroutine[Any, Any, None]) -> None:
    """Wait for `other`, or for `stop` if that comes first; then, and when this wait is cancelled, `other` is too."""
    task = asyncio.ensure_future(other)
    try:
        await asyncio.wait((stop, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        # the task holds its exception, whose traceback holds this frame
        del task
