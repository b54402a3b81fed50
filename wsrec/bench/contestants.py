"""The contestants: configurations of wsrec's receiver process, and other clients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import msgspec

from wsrec.bench import limits
from wsrec.options.record import TlsMode, WaitStrategy, WorkerOptions
from wsrec.receive.implementation import CompiledHotPath

TRANSPORTS = ("tcp", "tls")
DEFAULT_TLS = WorkerOptions().tls or TlsMode.DIRECT
BARE = "bare-recv"
BARE_EVP = "bare-evp"


class WsrecConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration of wsrec's receiver process.

    Attributes:
        name: its name in results.
        pure: run the Python hot path instead of the compiled one.
        tls: how TLS is decrypted.
        wait: how the receiver waits for its sockets.
        fields: recording: whether the fields of the messages are read.
        writer: whether a real writer process consumes the slots, into a temporary folder; otherwise this process
            does, which only counts them and frees the rings.
        transports: the transports that it is measured on.

    """

    name: str
    pure: bool = False
    tls: TlsMode = DEFAULT_TLS
    wait: WaitStrategy = WaitStrategy.EPOLL
    fields: bool = True
    writer: bool = False
    transports: tuple[str, ...] = TRANSPORTS


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Another client, from the module `clients`."""

    name: str
    package: str | None = None
    transports: tuple[str, ...] = TRANSPORTS


Contestant = WsrecConfiguration | Client


def _modes(*, spinning: bool = False) -> Iterator[WsrecConfiguration]:
    """A configuration for each TLS mode except the default one, and `auto`, which chooses one.

    Args:
        spinning: those that decrypt in this process and may take the place of the default, without waiting.

    """
    for mode in TlsMode:
        if mode in (DEFAULT_TLS, TlsMode.AUTO) or (spinning and mode not in (TlsMode.DIRECT, TlsMode.STAMPED)):
            continue
        name = f"wsrec-{mode.value}-{WaitStrategy.SPIN.value}" if spinning else f"wsrec-{mode.value}"
        wait = WaitStrategy.SPIN if spinning else WaitStrategy.EPOLL
        yield WsrecConfiguration(name=name, tls=mode, wait=wait, transports=("tls",))


WSREC = WsrecConfiguration(name="wsrec")
WITHOUT_FIELDS = WsrecConfiguration(name="wsrec-no-fields", fields=False)
SPIN, ADAPTIVE = (
    WsrecConfiguration(name=f"wsrec-{wait}", wait=wait) for wait in (WaitStrategy.SPIN, WaitStrategy.ADAPTIVE)
)
PICOWS = Client(name="picows", package="picows")
CONNECT = Client(name="wsrec-connect")
OTHERS = (CONNECT, PICOWS, Client(name="aiohttp", package="aiohttp"), Client(name="websockets"))

SATURATED: tuple[Contestant, ...] = (
    WSREC,
    WsrecConfiguration(name="wsrec-writer", writer=True),
    *_modes(),
    SPIN,
    ADAPTIVE,
    WsrecConfiguration(name="wsrec-python", pure=True),
    WsrecConfiguration(name="wsrec-python-writer", pure=True, writer=True),
    Client(name=BARE),
    Client(name=BARE_EVP, transports=("tls",)),
    *OTHERS,
)
PACED: tuple[Contestant, ...] = (
    WSREC,
    *_modes(),
    SPIN,
    *_modes(spinning=True),
    ADAPTIVE,
    WsrecConfiguration(name="wsrec-python", pure=True),
    Client(name=BARE_EVP, transports=("tls",)),
    *OTHERS,
)
RECORDING: tuple[Contestant, ...] = (WSREC, WITHOUT_FIELDS, PICOWS, Client(name="picows-fields", package="picows"))

NAMES = tuple(dict.fromkeys(contestant.name for contestant in (*SATURATED, *PACED, *RECORDING)))


def unavailable_reason(contestant: Contestant) -> str | None:
    """Why a contestant cannot be measured on this machine; None if it can."""
    if isinstance(contestant, Client):
        if contestant.name == BARE_EVP and (reason := limits.unavailable_reason()) is not None:
            return reason
        if contestant.package is None or find_spec(contestant.package) is not None:
            return None
        return "it is not installed: pip install 'wsrec[bench]' (in a clone: '.[bench]')"
    if not contestant.pure and CompiledHotPath is None:
        return "the hot path is not compiled: install a C compiler and reinstall wsrec"
    return None


def chosen(contestants: Sequence[Contestant], only: Sequence[str]) -> tuple[Contestant, ...]:
    """The selected contestants; all if none are selected."""
    return tuple(contestant for contestant in contestants if not only or contestant.name in only)
