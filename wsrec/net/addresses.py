"""Which of a host's addresses are tried first, and what came of each: at any layer, not of TCP alone.

An address that accepts the connection and then says nothing, refuses, or brings no data wins every race of TCP. So each
planned connection remembers which addresses have failed: those come behind all others, the one that failed last at the
end, and none of them is begun before the others have failed or had `SECOND_CHANCE`. Between the two comes the address
that worked last, where the name server does not give it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from wsrec.net.resolver import Address

# RFC 8305 section 5: the Connection Attempt Delay (s)
ATTEMPT_DELAY = 0.25
# How long those that have not failed may take before one that has is begun beside them (s)
SECOND_CHANCE = 3.0
# So many different addresses that refuse for good or fail are enough, where each look-up brings others: more than stand
# behind a name at a time. Of an answer that is larger, twice as many as it has
_ENOUGH = 64


class Candidate(NamedTuple):
    """An address to connect to, and how long after the one before (s)."""

    address: Address
    delay: float


class AddressHistory:
    """What came of the addresses of one host, over all attempts of one planned connection.

    Of whatever is dialled: the exchange's addresses, or a proxy's.

    Attributes:
        known: the addresses of the attempt now, in the order in which they came.
        tried: what the attempt now, or the last one, tried in vain, and the cause (`Failure.cause`).

    """

    def __init__(self) -> None:
        self.tried: dict[str, str] = {}
        self.known: tuple[Address, ...] = ()
        self._kept: Address | None = None
        # those that have failed since they last worked, the latest last
        self._failed: dict[str, None] = {}
        # those that have failed, and those that have refused for good, since any of them worked
        self._vain: set[str] = set()
        self._refusing: set[str] = set()

    def begin(self, addresses: Sequence[Address] = (), kept: Address | None = None) -> None:
        """An attempt begins; or its addresses are known now, and one that worked and is not among them (`kept`)."""
        self.tried = {}
        self._kept = kept
        self.known = (*addresses, *(() if kept is None else (kept,)))

    def order(self, addresses: Sequence[Address]) -> list[Candidate]:
        """In which order to try them; the families of those that have not failed in turn (RFC 8305 section 4)."""
        places = {ip: place for place, ip in enumerate(self._failed)}
        fresh = [one for one in addresses if one.ip not in places]
        first = _interleaved([one for one in fresh if one != self._kept])
        kept = [one for one in fresh if one == self._kept]
        failed = sorted((one for one in addresses if one.ip in places), key=lambda one: places[one.ip])
        found = [Candidate(one, ATTEMPT_DELAY) for one in (*first, *kept, *failed)]
        if len(first) < len(found):
            # those behind it need not wait for each other
            found[len(first)] = found[len(first)]._replace(delay=SECOND_CHANCE)
        return found

    @property
    def untried(self) -> int:
        """How many addresses of this attempt have not failed since any of them worked.

        None, too, once more than enough have, where each look-up brings others.
        """
        return 0 if self._enough(self._vain) else sum(one.ip not in self._vain for one in self.known)

    def has_other(self, address: Address) -> bool:
        """Whether another address of this attempt than `address` has not failed."""
        return any(one.ip not in self._failed and one.ip != address.ip for one in self.known)

    @property
    def all_refuse(self) -> bool:
        """Whether each address has refused for good since any of them worked; also where none is known."""
        return self._enough(self._refusing) or all(one.ip in self._refusing for one in self.known)

    def failed(self, address: Address, cause: str, *, permanent: bool = False) -> None:
        """It could not be connected to, or did not do what a server does; or it has refused for good (`permanent`)."""
        self.tried[address.ip] = cause
        self._failed.pop(address.ip, None)
        self._failed[address.ip] = None
        self._vain.add(address.ip)
        if permanent:
            self._refusing.add(address.ip)

    def worked(self, address: Address) -> None:
        """It has brought what was asked for."""
        self._failed.pop(address.ip, None)
        self._vain.clear()
        self._refusing.clear()

    def _enough(self, ips: set[str]) -> bool:
        return len(ips) >= max(_ENOUGH, 2 * len(self.known))


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """One of each family in turn, the family that the system prefers first."""
    families: dict[int, list[Address]] = {}
    for one in addresses:
        families.setdefault(one.family, []).append(one)
    return [one for row in zip_longest(*families.values()) for one in row if one is not None]
