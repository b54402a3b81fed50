"""Which of a host's addresses are tried first, and what came of each: at any layer, not of TCP alone.

An address that accepts the connection and then says nothing, refuses, or brings no data wins every race of TCP. So each
planned connection remembers which addresses have failed: those come behind all others, the one that failed last at the
end, and none of them is begun before the others have failed or had `SECOND_CHANCE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from wsrec.resolver import Address

# RFC 8305 section 5: the Connection Attempt Delay (s)
ATTEMPT_DELAY = 0.25
# How long those that have not failed may take before one that has is begun beside them (s)
SECOND_CHANCE = 3.0
# So many different addresses that refuse for good are enough, where each look-up brings others
_REFUSALS_ENOUGH = 8


class Candidate(NamedTuple):
    """An address to connect to, and how long after the one before (s)."""

    address: Address
    delay: float


class AddressHistory:
    """What came of the addresses of one host, over all attempts of one planned connection.

    Of whatever is dialled: the exchange's addresses, or a proxy's.

    Attributes:
        tried: what the attempt now, or the last one, tried in vain, and the cause (`Failure.cause`).

    """

    def __init__(self) -> None:
        self.tried: dict[str, str] = {}
        self._known: tuple[Address, ...] = ()
        # those that have failed since they last worked, the latest last
        self._failed: dict[str, None] = {}
        self._refusing: set[str] = set()

    def begin(self, addresses: Sequence[Address] = ()) -> None:
        """An attempt begins; or its addresses are known now."""
        self.tried = {}
        self._known = tuple(addresses)

    def order(self, addresses: Sequence[Address]) -> list[Candidate]:
        """In which order to try them; the families of those that have not failed in turn (RFC 8305 section 4)."""
        places = {ip: place for place, ip in enumerate(self._failed)}
        fresh = _interleaved([one for one in addresses if one.ip not in places])
        failed = sorted((one for one in addresses if one.ip in places), key=lambda one: places[one.ip])
        return [*(Candidate(one, ATTEMPT_DELAY) for one in fresh), *(Candidate(one, SECOND_CHANCE) for one in failed)]

    @property
    def fresh(self) -> int:
        """How many addresses of this attempt have not failed."""
        return sum(one.ip not in self._failed for one in self._known)

    def has_other(self, address: Address) -> bool:
        """Whether another address of this attempt than `address` has not failed."""
        return any(one.ip not in self._failed and one.ip != address.ip for one in self._known)

    @property
    def all_refuse(self) -> bool:
        """Whether each address has refused for good since any of them worked; also where none is known."""
        return len(self._refusing) >= _REFUSALS_ENOUGH or all(one.ip in self._refusing for one in self._known)

    def failed(self, address: Address, cause: str, *, permanent: bool = False) -> None:
        """It could not be connected to, or did not do what a server does; or it has refused for good (`permanent`)."""
        self.tried[address.ip] = cause
        self._failed.pop(address.ip, None)
        self._failed[address.ip] = None
        if permanent:
            self._refusing.add(address.ip)

    def worked(self, address: Address) -> None:
        """It has brought what was asked for."""
        self._failed.pop(address.ip, None)
        self._refusing.clear()


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """One of each family in turn, the family that the system prefers first."""
    families: dict[int, list[Address]] = {}
    for one in addresses:
        families.setdefault(one.family, []).append(one)
    return [one for row in zip_longest(*families.values()) for one in row if one is not None]
