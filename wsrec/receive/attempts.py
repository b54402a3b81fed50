"""Attempts to open the connections of one reconnector: rate limiters, addresses that failed, delays and reports."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from websockets.uri import parse_uri

from wsrec import ipc
from wsrec.net.addresses import AddressHistory
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.backoff import Backoff
from wsrec.receive.connection import Connection
from wsrec.receive.failure import Failure, explain
from wsrec.receive.failure_log import FailureLog
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.wire.errors import CompressionRefused


class ConnectionAttempts:
    """Opens connections, remembers which addresses failed, and reports failures.

    Args:
        plan: the planned connection.
        sides: it, and its standby if it has one.
        history: which of the host's addresses have failed.
        limiters: the receiver's rate limiters, by host.
        failures: the receiver's log of failures.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        sides: Sequence[Connection],
        history: AddressHistory,
        limiters: HostRateLimiters,
        failures: FailureLog,
    ) -> None:
        self._sides = sides
        self._history = history
        self._failures = failures
        # a URL template with a token is a valid URL without it too
        self._uri = parse_uri(plan.url)
        self._rate_limiter = self._token_rate_limiter = limiters.of(self._uri.host, plan.pace)
        if plan.token is not None:
            self._token_rate_limiter = limiters.of(urlsplit(plan.token.url).hostname or "", plan.pace)

    async def open(self, new: Connection, attempt: int) -> Failure | None:
        """Try to open it once; returns the failure, None on success."""
        await self._enter()
        try:
            try:
                await new.open(attempt)
            except CompressionRefused as refused:
                self._forgo_compression(new.plan.conn, refused)
                await self._enter()
                await new.open(attempt)
        except Exception as error:  # noqa: BLE001 (any failure is reported and survived)
            failure = self.explain(error, new)
            if new.address is not None:
                self._history.failed(new.address, failure.cause, permanent=failure.permanent)
                if failure.permanent and not self._history.all_refuse:
                    return failure._replace(permanent=False)
            return failure
        return None

    async def _enter(self) -> None:
        """Wait for the rate limiters of the hosts about to be contacted."""
        await self._rate_limiter.enter()
        if self._token_rate_limiter is not self._rate_limiter:
            await self._token_rate_limiter.enter()

    def explain(self, error: Exception, side: Connection) -> Failure:
        """Diagnose an exception, with the address concerned, or all that were tried."""
        at = tuple(self._history.tried) if side.address is None else (side.address.ip,)
        return explain(error, self._uri.host, self._uri.port, at, secure=self._uri.secure, proxy=side.proxy)

    def judge(self, side: Connection, *, proven: bool, stale: bool = False) -> None:
        """Record the outcome for the address of a connection that has ended.

        Args:
            side: the connection.
            proven: whether it lasted.
            stale: whether it no longer delivered data.

        """
        if side.address is None:
            return
        broke = isinstance(side.reason_of_end(), TimeoutError) if side.ended else False
        if proven and side.proved and not stale:
            self._history.worked(side.address)
            side.worked()
        if not proven or broke:
            self._history.failed(side.address, "lost")

    def _forgo_compression(self, conn: int, refused: CompressionRefused) -> None:
        """Offer no compression any more: every exchange also sends uncompressed messages."""
        for side in self._sides:
            side.disable_compression()
        hint = "remove `compression` from the feed so that it is not offered"
        ipc.info(f"{refused}; connecting without compression -- {hint}", conn=conn)

    def delay(self, failure: Failure, backoff: Backoff) -> float:
        """The delay (s) after a failed attempt, or after a connection that did not last."""
        # another address need not wait for what this one asked, unless the host limits the rate of attempts
        if self._history.untried_count and failure.cause != "limited":
            return backoff.other_address()
        return backoff.next(failure.retry_after, failure.cause)

    def block(self, failure: Failure, seconds: float) -> None:
        """Let no reconnector contact the host that limits the rate of attempts for so long."""
        if failure.cause == "limited":
            (self._token_rate_limiter if failure.of_token else self._rate_limiter).block(seconds)

    def opened(self) -> None:
        """Record that the host has accepted a connection."""
        self._failures.opened(self._uri.host)

    def report(self, side: Connection, failure: Failure, wait: float | None, attempt: int, *, was_open: bool) -> None:
        """Report a failure, and the delay (s) before the next attempt; None if there is none."""
        self._failures.report(
            side.plan,
            self._uri.host,
            failure,
            wait,
            was_open=was_open,
            attempt=attempt,
            address=None if side.address is None else side.address.ip,
            tried=self._history.tried,
        )
