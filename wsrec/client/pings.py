"""Pings in flight: matches received pongs with the pings that they answer."""

from __future__ import annotations

import asyncio
import os

from wsrec.host.clock import now
from wsrec.wire import frames


class Pings:
    """The pings of one connection that have no pong yet."""

    def __init__(self) -> None:
        self._sent: dict[bytes, tuple[int, asyncio.Future[int]]] = {}

    def add(self, payload: bytes) -> tuple[bytes, asyncio.Future[int]]:
        """A ping is about to be sent: returns its payload, random bytes if given none, and its round trip (ns).

        Raises:
            ValueError: the payload is too long, or the same payload is already in flight.

        """
        payload = payload or os.urandom(8)
        if len(payload) > frames.MAX_CONTROL:
            raise ValueError(f"a ping's payload has at most {frames.MAX_CONTROL} bytes, not {len(payload)}")
        if payload in self._sent:
            raise ValueError("a ping with the same payload is already in flight")
        pong: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._sent[payload] = now(), pong
        return payload, pong

    def on_pong(self, payload: bytes) -> None:
        """A pong was received; it also answers the pings sent before its own (RFC 6455 section 5.5.3)."""
        if payload not in self._sent:
            return
        for waiting in list(self._sent):
            began, pong = self._sent.pop(waiting)
            if not pong.done():
                pong.set_result(now() - began)
            if waiting == payload:
                break

    def fail(self, error: Exception) -> None:
        """The connection is closed: no pong will follow."""
        sent, self._sent = self._sent, {}
        for _, pong in sent.values():
            if not pong.done():
                pong.set_exception(error)
                # the pong need not be awaited
                pong.exception()
