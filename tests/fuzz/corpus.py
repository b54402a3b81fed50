"""Malformed YAML: what editors, slips, other programs and attackers make of a good file."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[Any], Any]

SCALARS = (
    *("", "~", "yes", "0", "-1", "1e999", ".nan", "0x1F", "1_000", "16:05", "2026-11-22", "2026-99-99", "9" * 5000),
    *(
        "'",
        '"',
        '"\\x00"',
        '"\\ud800"',
        '"\\U0001F600"',
        "[",
        "]",
        "{",
        "}",
        "[[[]]]",
        "{a: {b: c}}",
        "- x",
        "a" * 3000,
    ),
    *(
        "!!binary aGk=",
        "!!python/object/apply:os.system [x]",
        "!mine x",
        "&a x",
        "*a",
        "<<",
        "|",
        ">-",
        "%x",
        "@x",
        "`x",
    ),
    *("${HOME}", "${NOT_THERE}", "${}", "\t", "# x", "x: y: z", "'{symbol}'", "wss://[", "$a.b[0", "..", "(((("),
)
"""What stands where a value should be."""


def _lines(change: Callable[[Draw, list[str], int], list[str]]) -> Callable[[Draw, bytes], bytes]:
    """A mutation of one line, given all and which; it returns what stands in its place."""

    def mutate(draw: Draw, data: bytes) -> bytes:
        lines = data.decode("utf-8", "replace").split("\n")
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = change(draw, lines, at)
        return "\n".join(lines).encode("utf-8", "replace")

    return mutate


def _renamed(draw: Draw, lines: list[str], at: int) -> list[str]:
    key = draw(st.sampled_from(["on", "null", "1", "{x}", "name", "feeds", "out", "<<", "[a]", "? x", '"\\0"', "é"]))
    return [re.sub(r"[\w@{}.-]+(?=:)", lambda _: key, lines[at], count=1)]


def _retyped(draw: Draw, lines: list[str], at: int) -> list[str]:
    return [re.sub(r"(?<=:).*", lambda _: f" {draw(st.sampled_from(SCALARS))}", lines[at], count=1)]


def _indented(draw: Draw, lines: list[str], at: int) -> list[str]:
    return [draw(st.sampled_from(["", " ", "   ", "\t", " " * 30])) + lines[at].lstrip()]


def _inserted(draw: Draw, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data)))
    put = draw(
        st.binary(max_size=8)
        | st.text(string.punctuation + " \n", max_size=8).map(str.encode)
        | st.sampled_from(
            [b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[31m", b"\xc2\x85", b"\xe2\x80\xa8", b"\r", b"\x7f"]
        )
    )
    return bytes(data[:at] + put + data[at:])


def _cut(draw: Draw, data: bytes) -> bytes:
    at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 200))
    return data[:at] + data[at + length :]


def _nested(draw: Draw, data: bytes) -> bytes:
    depth = draw(st.sampled_from([19, 21, 1000, 20_000]))
    begin, end = draw(st.sampled_from([(b"[", b"]"), (b"{a: ", b"}"), (b"- ", b"")]))
    return data + b"\nmore: " + begin * depth + end * draw(st.sampled_from([0, depth]))


def _encoded(draw: Draw, data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])))


MUTATIONS: tuple[Callable[[Draw, bytes], bytes], ...] = (
    _lines(lambda draw, lines, at: []),
    _lines(lambda draw, lines, at: [lines[at], lines[at]]),
    _lines(lambda draw, lines, at: [lines[at], draw(st.sampled_from(lines))]),
    _lines(lambda draw, lines, at: [lines[at], f"name{draw(st.integers(0, 3))}: {draw(st.sampled_from(SCALARS))}"]),
    _lines(_renamed),
    _lines(_retyped),
    _lines(_retyped),
    _lines(_indented),
    _inserted,
    _cut,
    _nested,
    _encoded,
)


def malformed(good: list[bytes]) -> st.SearchStrategy[bytes]:
    """Good files with one to four things wrong."""

    @st.composite
    def strategy(draw: Draw) -> bytes:
        data: bytes = draw(st.sampled_from(good))
        for _ in range(draw(st.integers(1, 4))):
            data = draw(st.sampled_from(MUTATIONS))(draw, data)
        return data

    return strategy()


FIXED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\n",
    "comment": b"# nothing\n",
    "scalar": b"5\n",
    "list": b"- a\n- b\n",
    "NUL": b"name: a\0b\nfeeds: [x]\n",
    "BOM inside": b"name: x\n\xef\xbb\xbfout: y\n",
    "UTF-16": "name: x\nfeeds: [demo]\n".encode("utf-16"),
    "binary": bytes(range(256)) * 40,
    "ELF": b"\x7fELF\x02\x01\x01" + b"\0" * 60,
    "10 MB": b"name: x\n" * 1_250_000,
    "10 MB of one value": b"name: " + b"x" * 10_000_000,
    "1 MB of keys": b"".join(b"k%d: v\n" % number for number in range(40_000)),
    "1 MB of feeds": b"feeds:\n" + b" - a\n" * 100_000,
    "deep": b"feeds: " + b"[" * 100_000,
    "a billion laughs": b"a: &a [x]\nb: &b [*a, *a]\nfeeds: [*b, *b]\n",
    "itself": b"feeds: &a [*a]\n",
    "a tag": b"feeds: !!python/object/apply:os.system [id]\n",
    "keys twice": b"feeds: [demo]\nfeeds: [demo]\n",
    "two documents": b"feeds: [demo]\n---\nfeeds: [demo]\n",
    "a huge number": b"feeds: [demo]\nwriter-cpu: " + b"9" * 5000 + b"\n",
    "huge sizes": b"feeds: [demo]\nreserve: " + b"9" * 500 + b"GiB\nduration: " + b"9" * 400 + b"d\n",
    "a late time": b"feeds: [demo]\nuntil: 99999-01-01\n",
    "tabs": b"feeds:\n\t- demo\n",
    "a merge key": b"<<: {feeds: [demo]}\nout: x\n",
    "a mixture": b"name: x\nfeeds: [demo]\n",
    "a directive": b"%YAML 9.9\n---\nfeeds: 1\n",
}
"""Files that are wrong anyone who reads them."""
