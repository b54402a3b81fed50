"""The filter of the capture: a classic BPF program that passes TCP packets to the captured local ports, and no others.

It runs in the kernel for every packet that the machine receives, so ports are found by a search that halves them. The
packets begin with the network layer (a socket of type SOCK_DGRAM). Source: Linux, Documentation/networking/filter.rst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import NamedTuple

HEADERS = 192
"""Bytes kept of a packet of which headers are enough: two VLAN tags, IPv6 with hop-by-hop options and a TCP header with
all its options take 116."""
WHOLE = 0x7FFFFFFF
"""Bytes kept of one whose payload is needed: all."""

# linux/bpf_common.h and linux/filter.h
_LD_W, _LD_H, _LD_B, _LD_H_X = 0x20, 0x28, 0x30, 0x48
_LDX_IHL = 0xB1
_JA, _JEQ, _JGE, _JSET = 0x05, 0x15, 0x35, 0x45
_RET = 0x06
_AD_OFF = 0xFFFFF000  # SKF_AD_OFF
_AD_PROTOCOL, _AD_PKTTYPE = _AD_OFF + 0, _AD_OFF + 4
_PACKET_HOST = 0
_IP, _IPV6, _VLAN, _QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
_TCP, _HOP_BY_HOP = 6, 0
_FRAGMENT = 0x3FFF

MOST_PORTS = 1500
"""More do not fit a program (BPF_MAXINSNS, 4,096 instructions)."""

# struct sock_filter
_INSTRUCTION = Struct("=HBBI")
# ports compared one after the other at the end of the search
_AT_ONCE = 8


class _Instruction(NamedTuple):
    code: int
    true: int
    false: int
    value: int


_DROP = _Instruction(_RET, 0, 0, 0)
# a jump to the search, wherever that is
_SEARCH = _Instruction(_JA, 0, 0, 0xFFFFFFFF)


def program(ports: Mapping[int, int], most: int = MOST_PORTS) -> bytes:
    """The program, as an array of `struct sock_filter`.

    Args:
        ports: local port -> bytes to keep of its packets.
        most: with more ports all TCP packets pass; at most `MOST_PORTS`.

    """
    # an inner tag of two is left in the packet: its protocol is behind it
    plain, tagged = _to_port(0), [_Instruction(_LD_H, 0, 0, 2), *_to_port(4)]
    code = [
        _Instruction(_LD_W, 0, 0, _AD_PKTTYPE),
        _Instruction(_JEQ, 1, 0, _PACKET_HOST),
        _DROP,
        _Instruction(_LD_W, 0, 0, _AD_PROTOCOL),
        _Instruction(_JEQ, 1, 0, _VLAN),
        _Instruction(_JEQ, 0, 1, _QINQ),
        _Instruction(_JA, 0, 0, len(plain)),
        *plain,
        *tagged,
    ]
    search = len(code)
    code = [one._replace(value=search - place - 1) if one is _SEARCH else one for place, one in enumerate(code)]
    if len(ports) > most:
        code.append(_Instruction(_RET, 0, 0, max(ports.values())))
    else:
        code += _search(sorted(ports.items()))
    return b"".join(_INSTRUCTION.pack(*one) for one in code)


def instructions(code: bytes) -> int:
    """The number of instructions of a program."""
    return len(code) // _INSTRUCTION.size


def _to_port(at: int) -> list[_Instruction]:
    """From a protocol in the accumulator and its packet at `at`: to the search, with the local port."""
    ipv6 = [
        _Instruction(_JEQ, 1, 0, _IPV6),
        _DROP,
        _Instruction(_LD_B, 0, 0, at + 6),
        _Instruction(_JEQ, 4, 0, _TCP),
        _Instruction(_JEQ, 1, 0, _HOP_BY_HOP),
        _DROP,
        # TCP right behind the options, where a jumbogram has it
        _Instruction(_LD_H, 0, 0, at + 50),
        _SEARCH,
        _Instruction(_LD_H, 0, 0, at + 42),
        _SEARCH,
    ]
    ipv4 = [
        _Instruction(_LD_B, 0, 0, at + 9),
        _Instruction(_JEQ, 1, 0, _TCP),
        _DROP,
        _Instruction(_LD_H, 0, 0, at + 6),
        _Instruction(_JSET, 0, 1, _FRAGMENT),
        _DROP,
        _Instruction(_LDX_IHL, 0, 0, at),
        _Instruction(_LD_H_X, 0, 0, at + 2),
        _SEARCH,
    ]
    return [_Instruction(_JEQ, 0, 1, _IP), _Instruction(_JA, 0, 0, len(ipv6)), *ipv6, *ipv4]


def _search(ports: Sequence[tuple[int, int]]) -> list[_Instruction]:
    """Return what to keep of a packet whose local port is in the accumulator."""
    if len(ports) <= _AT_ONCE:
        code = []
        for port, keep in ports:
            code += [_Instruction(_JEQ, 0, 1, port), _Instruction(_RET, 0, 0, keep)]
        return [*code, _DROP]
    middle = len(ports) // 2
    low, high = _search(ports[:middle]), _search(ports[middle:])
    return [_Instruction(_JGE, 0, 1, ports[middle][0]), _Instruction(_JA, 0, 0, len(low)), *low, *high]
