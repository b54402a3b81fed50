"""Address selection: the order in which a host's addresses are tried, and the history of each.

A race of TCP connects (RFC 8305) does not show whether an address is usable: one may accept the connection and then
stay silent, refuse the handshake or send no data. So each planned connection remembers the addresses that have failed.
They are tried last, the most recent failure at the very end, and only after all others have failed or `SECOND_CHANCE`
has passed. Between the two groups comes the last working address, if the name server no longer returns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from wsrec.net.resolver import Address

# RFC 8305 section 5: the Connection Attempt Delay (s)
ATTEMPT_DELAY = 0.25
# How long addresses without a failure may take before a failed one is tried in parallel (s)
SECOND_CHANCE = 3.0
# Stop after this many distinct failing addresses (of each kind: failed, permanently refused) even if every look-up
# returns new ones; no name has more at a time. For larger answers the limit is twice their size
_ENOUGH = 64


class Candidate(NamedTuple):
    """An address to connect to, and the delay after the previous attempt (s)."""

    address: Address
    delay: float


class AddressHistory:
    """The outcome of each address of one host, over all attempts of one planned connection.

    The host is whatever is dialled: the exchange, or a proxy.

    Attributes:
        known: the addresses of the current attempt, in the order of the name server's answer.
        tried: addresses that failed in the current or last attempt, with the cause (`Failure.cause`).

    """

    def __init__(self) -> None:
        self.tried: dict[str, str] = {}
        self.known: tuple[Address, ...] = ()
        self._kept: Address | None = None
        # failed since they last worked, most recent failure last
        self._failed: dict[str, None] = {}
        # failed, and refused permanently, since any address last worked
        self._tried_before: set[str] = set()
        self._refusing: set[str] = set()

    def begin(self, addresses: Sequence[Address] = (), kept: Address | None = None) -> None:
        """Start an attempt with these addresses, and with a working one that is not among them (`kept`)."""
        self.tried = {}
        self._kept = kept
        self.known = (*addresses, *(() if kept is None else (kept,)))

    def order(self, addresses: Sequence[Address]) -> list[Candidate]:
        """The order to try them in; families alternate among those without a failure (RFC 8305 section 4)."""
        places = {ip: place for place, ip in enumerate(self._failed)}
        fresh = [one for one in addresses if one.ip not in places]
        first = _interleaved([one for one in fresh if one != self._kept])
        kept = [one for one in fresh if one == self._kept]
        failed = sorted((one for one in addresses if one.ip in places), key=lambda one: places[one.ip])
        found = [Candidate(one, ATTEMPT_DELAY) for one in (*first, *kept, *failed)]
        if len(first) < len(found):
            # once the failed ones have had their turn, they need not wait for each other
            found[len(first)] = found[len(first)]._replace(delay=SECOND_CHANCE)
        return found

    @property
    def untried_count(self) -> int:
        """Number of addresses of this attempt that have not failed since any of them last worked.

        0 once the limit is reached, for hosts whose every look-up returns different addresses.
        """
        return 0 if self._enough(self._tried_before) else sum(one.ip not in self._tried_before for one in self.known)

    def has_alternative(self, address: Address) -> bool:
        """True if this attempt has an address other than `address` that has not failed."""
        return any(one.ip not in self._failed and one.ip != address.ip for one in self.known)

    @property
    def all_refuse(self) -> bool:
        """True if every address has refused permanently since any last worked; also if none is known."""
        return self._enough(self._refusing) or all(one.ip in self._refusing for one in self.known)

    def failed(self, address: Address, cause: str, *, permanent: bool = False) -> None:
        """Record that `address` could not be connected to or misbehaved; `permanent` if it refused for good."""
        self.tried[address.ip] = cause
        self._failed.pop(address.ip, None)
        self._failed[address.ip] = None
        self._tried_before.add(address.ip)
        if permanent:
            self._refusing.add(address.ip)

    def worked(self, address: Address) -> None:
        """Record that `address` delivered what was requested."""
        self._failed.pop(address.ip, None)
        self._tried_before.clear()
        self._refusing.clear()

    def _enough(self, ips: set[str]) -> bool:
        return len(ips) >= max(_ENOUGH, 2 * len(self.known))


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """One of each family in turn, starting with the family that the system prefers."""
    families: dict[int, list[Address]] = {}
    for one in addresses:
        families.setdefault(one.family, []).append(one)
    return [one for row in zip_longest(*families.values()) for one in row if one is not None]
