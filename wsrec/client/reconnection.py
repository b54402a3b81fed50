"""Reconnection of `wsrec.connect`: what may be tried again, and after which delay; the recorder's own rules."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from websockets.uri import WebSocketURI

from wsrec.client.connection import Connection
from wsrec.client.errors import ConnectionClosed
from wsrec.feed.masking import mask_in_text
from wsrec.net.proxy import Proxy
from wsrec.receive.backoff import Backoff
from wsrec.receive.failure import ClosedByExchangeError, Failure, explain
from wsrec.receive.tls_choice import TlsChoice
from wsrec.wire.errors import HandshakeError, HandshakeRefused


class Reconnection:
    """The delays between the connections of one iteration over `wsrec.connect`.

    Args:
        uri: the server.
        proxy: the proxy in use; None for none.
        logger: takes each failure, and when the next attempt is.

    """

    def __init__(
        self, uri: WebSocketURI, proxy: Proxy | None, logger: logging.Logger | logging.LoggerAdapter[Any]
    ) -> None:
        self._uri = uri
        self._proxy = proxy
        self._logger = logger
        self._backoff = Backoff()

    async def after_failure(self, error: Exception) -> None:
        """Wait for the next attempt after one that failed.

        Raises:
            Exception: `error`, if retrying cannot help or it is none of connecting.

        """
        if not isinstance(error, (OSError, HandshakeError)):
            raise error
        failure = self._explained(error)
        if failure.permanent:
            raise error
        # the server's own words may repeat the URL
        words = f"HTTP {failure.status}" if isinstance(error, HandshakeRefused) else mask_in_text(failure.message)
        await self._wait(words, self._backoff.next(failure.retry_after, failure.cause))

    async def after_end(self, connection: Connection, choice: TlsChoice | None) -> bool:
        """Wait until a connection has ended, and then for the next attempt.

        Args:
            connection: the connection.
            choice: learns what its end says about its TLS mode.

        Returns:
            Whether the caller closed it: then there is no next attempt.

        Raises:
            Exception: of the callback.

        """
        try:
            await connection.wait_closed()
        except ConnectionClosed as closed:
            words = str(closed)
            if choice is not None and closed.__cause__ is not None:
                choice.learn(closed.__cause__)
            ended: Exception = closed.__cause__ if isinstance(closed.__cause__, OSError) else _by_server(closed)
        else:
            words, ended = "the server closed the connection", ConnectionResetError("closed")
        if connection.closed_here:
            return True
        if connection.delivered:
            self._backoff.reset()
            delay = self._backoff.at_once()
        else:
            failure = self._explained(ended)
            delay = self._backoff.next(failure.retry_after, failure.cause)
        await self._wait(words, delay)
        return False

    def _explained(self, error: Exception) -> Failure:
        uri = self._uri
        return explain(error, uri.host, uri.port, secure=uri.secure, proxy=self._proxy)

    async def _wait(self, words: str, delay: float) -> None:
        self._logger.warning("%s; connecting again in %.1f s", words, delay)
        await _sleep(delay)


# a name of its own for the tests: they do not wait
_sleep = asyncio.sleep


def _by_server(closed: ConnectionClosed) -> Exception:
    """The same end as the recorder's diagnosis knows it."""
    return ClosedByExchangeError(closed.code, closed.reason)
