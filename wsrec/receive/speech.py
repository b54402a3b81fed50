"""What is said on an open connection of our own accord: subscriptions, again where asked for, and keep-alives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from wsrec.feed.plan import ConnectionPlan, Subscription
from wsrec.receive.producer import Producer
from wsrec.ring.events import EventKind
from wsrec.wire.conversation import Conversation, Sent


class Speech:
    """Sends the subscriptions, no faster than the exchange allows, and then whatever keeps the connection alive.

    Args:
        plan: what to say.
        conversation: makes frames of it.
        producer: takes the events.
        send: sends a frame.

    Attributes:
        said: set once the plan's subscriptions are sent.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        conversation: Conversation,
        producer: Producer,
        send: Callable[[Sent | None], None],
    ) -> None:
        self.said = asyncio.Event()
        self._plan = plan
        self._conversation = conversation
        self._producer = producer
        self._send = send
        self._again: asyncio.Queue[tuple[Subscription, str]] = asyncio.Queue()

    def ask_again(self, topics: Sequence[str], reason: str) -> None:
        """Send the subscriptions that hold these topics once more, after what is to be sent before."""
        wanted = set(topics)
        for subscription in self._plan.subscriptions:
            if wanted.intersection(subscription.topics):
                self._again.put_nowait((subscription, reason))

    async def run(self) -> None:
        """Speak, until cancelled.

        Raises:
            OSError: the connection broke.

        """
        plan, loop = self._plan, asyncio.get_running_loop()
        for index, subscription in enumerate(plan.subscriptions):
            if index:
                await asyncio.sleep(plan.send_interval)
            self._subscribe(subscription)
        self.said.set()
        last = loop.time() if plan.subscriptions else loop.time() - plan.send_interval
        keep_alive = plan.keep_alive
        due = None if keep_alive is None else loop.time() + keep_alive.every
        while True:
            again = await self._next(due)
            await asyncio.sleep(last + plan.send_interval - loop.time())
            last = loop.time()
            if again is not None:
                self._subscribe(*again)
            elif keep_alive is not None:
                text = keep_alive.text
                self._send(self._conversation.ping(b"") if text is None else self._conversation.text(text))
                due = last + keep_alive.every

    async def _next(self, due: float | None) -> tuple[Subscription, str] | None:
        """The next subscription to send again; None once a keep-alive is due."""
        try:
            async with asyncio.timeout_at(due):
                return await self._again.get()
        except TimeoutError:
            return None

    def _subscribe(self, subscription: Subscription, reason: str | None = None) -> None:
        said = {} if reason is None else {"reason": reason}
        self._producer.event(EventKind.SUBSCRIBE, conn=self._plan.conn, topics=subscription.topics, **said)
        self._send(self._conversation.text(subscription.text))
