"""The subscriber: sends a connection's subscription requests, repeats them on order, and sends keep-alives."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wsrec.feed.placeholders import Raw, fill, fill_when_sent
from wsrec.plan.connections import Answer, ConnectionPlan
from wsrec.plan.requests import SubscriptionRequest
from wsrec.receive.producer import Producer
from wsrec.ring.events import EventKind
from wsrec.wire.frame_encoder import FrameEncoder, Sent

# Ids of messages other than subscriptions, whose responses nothing waits for: larger than those of all subscriptions
_FIRST_ID = 1_000_000


class _Again(NamedTuple):
    """A request to send once more, because of `reason`, and what to send before it."""

    request: SubscriptionRequest
    reason: str
    undo: str | None


class _Send(Protocol):
    """Sends a frame, of the subscription request of this number; 0: of none."""

    def __call__(self, frame: Sent | None, request: int = 0) -> None: ...


class Subscriber:
    """Sends the planned requests no faster than the exchange allows, and then keep-alive messages.

    Nothing is sent before `start`, and once the connection closes nothing is sent or recorded as requested.

    Args:
        plan: what to send; `start` may replace it.
        encoder: makes frames of it.
        producer: takes the events.
        send: sends a frame.

    Attributes:
        all_sent: whether the plan's subscriptions are sent.
        keep_alives: keep-alive messages sent, each of which may be answered.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        encoder: FrameEncoder,
        producer: Producer,
        send: _Send,
    ) -> None:
        self.all_sent = False
        self.keep_alives = 0
        self._plan = plan
        self._started = False
        self._unanswered: list[tuple[Answer, str]] = []
        self._encoder = encoder
        self._producer = producer
        self._send = send
        self._ids = itertools.count(_FIRST_ID)
        self._again: asyncio.Queue[_Again] = asyncio.Queue()

    def start(self, plan: ConnectionPlan) -> None:
        """The connection is open, and recorded as such: answer the pings received so far, and let `run` send `plan`.

        Raises:
            OSError: the connection broke.

        """
        self._started, self._plan = True, plan
        unanswered, self._unanswered = self._unanswered, []
        for answer, value in unanswered:
            self.answer(answer, value)

    def resubscribe(self, topics: Sequence[str], reason: str) -> None:
        """Send the requests that contain these topics again, preceded by `unsubscribe` if there is one."""
        if not self._started:
            return
        wanted = set(topics)
        for request in self._plan.requests:
            if wanted.intersection(request.topic_names):
                self._again.put_nowait(_Again(request, reason, request.undo))

    def divide(self, plan: ConnectionPlan, parts: Sequence[SubscriptionRequest], reason: str) -> None:
        """Send `parts` in place of the refused request, and continue with the plan that contains them."""
        if not self._started:
            return
        self._plan = plan
        for part in parts:
            # what was refused needs no undoing
            self._again.put_nowait(_Again(part, reason, None))

    def answer(self, answer: Answer, value: str) -> None:
        """Answer a ping, with `value` in the place of `{value}`.

        Raises:
            OSError: the connection broke.

        """
        if not self._started:
            # it came together with the handshake
            self._unanswered.append((answer, value))
            return
        text = fill(fill_when_sent(fill(answer.text, {"id": next(self._ids)})), {"value": Raw(value)})
        if answer.encoding == "text":
            self._send(self._encoder.text(text))
        else:
            data = text.encode()
            self._send(self._encoder.binary(gzip.compress(data) if answer.encoding == "gzip" else data))

    async def run(self) -> None:
        """Send what is planned, what is requested meanwhile, and keep-alive messages, until cancelled.

        Raises:
            OSError: the connection broke.

        """
        plan, loop = self._plan, asyncio.get_running_loop()
        if plan.requested_by_url:
            by_url = [one.topic for one in plan.requested_by_url]
            self._producer.event(EventKind.SUBSCRIBE, conn=plan.conn, topics=by_url)
        await asyncio.sleep(plan.wait)
        planned: tuple[str | SubscriptionRequest, ...] = (*plan.first, *plan.requests)
        for index, message in enumerate(planned):
            if index:
                await asyncio.sleep(plan.send_interval)
            if isinstance(message, SubscriptionRequest):
                self._subscribe(message)
            else:
                self._send_text(message)
        self.all_sent = True
        last = loop.time() if planned else loop.time() - plan.send_interval
        keep_alive = plan.keep_alive
        due = None if keep_alive is None else loop.time() + keep_alive.every
        while True:
            again = await self._next(due)
            await asyncio.sleep(last + plan.send_interval - loop.time())
            last = loop.time()
            if again is not None:
                if again.undo is not None:
                    self._send_text(again.undo)
                    await asyncio.sleep(plan.send_interval)
                    last = loop.time()
                self._subscribe(again.request, again.reason)
            elif keep_alive is not None:
                if keep_alive.text is None:
                    self._send(self._encoder.ping(b""))
                else:
                    self._send_text(keep_alive.text)
                    self.keep_alives += 1
                due = last + keep_alive.every

    async def _next(self, due: float | None) -> _Again | None:
        """The next subscription to send again; None once a keep-alive is due."""
        try:
            async with asyncio.timeout_at(due):
                return await self._again.get()
        except TimeoutError:
            return None

    def _subscribe(self, request: SubscriptionRequest, reason: str | None = None) -> None:
        if not self._encoder.is_open:
            return
        detail = {"request": request.number, "topics": request.topic_names}
        if reason is not None:
            detail["reason"] = reason
        self._producer.event(EventKind.SUBSCRIBE, conn=self._plan.conn, **detail)
        self._send(self._encoder.text(fill_when_sent(request.text)), request.number)

    def _send_text(self, text: str) -> None:
        self._send(self._encoder.text(fill_when_sent(fill(text, {"id": next(self._ids)}))))
