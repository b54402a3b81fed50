"""wsrec.supervise.outlet: lines on their way to a pipe that takes them, takes them slowly, takes none, or is gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.supervise.test_terminal import Reader, small_pipe
from wsrec.supervise.outlet import Outlet, Stray, print_result


class Pipe:
    """A pipe of one page with a stream at its writing end."""

    def __init__(self) -> None:
        self.reading, writing = small_pipe()
        self.stream = os.fdopen(writing, "w")

    def read_all(self) -> str:
        """What comes until nothing does for half a second."""
        reader = Reader(self.reading).start()
        before = None
        while before != reader.text:
            before = reader.text
            time.sleep(0.5 if before else 0.1)
        return reader.text


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.stream.close()


def numbers(lines: list[str]) -> list[int]:
    return [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]


def test_in_order_and_complete(pipe: Pipe) -> None:
    outlet = Outlet(pipe.stream)
    reader = Reader(pipe.reading).start()
    for number in range(5000):
        outlet.put(f"line {number}")
    outlet.close()
    assert not outlet.given_up
    pipe.stream.close()
    reader.thread.join(10)
    assert numbers(reader.text.splitlines()) == list(range(5000))


def test_what_does_not_fit_is_counted_in_its_place_and_last_words_always_fit(pipe: Pipe) -> None:
    outlet = Outlet(pipe.stream, limit=10_000)
    before = time.monotonic()
    for number in range(5000):
        outlet.put(f"line {number}")
    outlet.put("why", last=True)
    assert time.monotonic() - before < 5
    lines = pipe.read_all().splitlines()
    shown = numbers(lines)
    assert shown == list(range(len(shown)))
    assert 1000 < len(shown) < 2500
    assert lines[len(shown) :] == [f"{5000 - len(shown):,} lines were not shown", "why"]


def test_the_count_is_printed_once_possible_and_then_all_goes_on(pipe: Pipe) -> None:
    outlet = Outlet(pipe.stream, limit=10_000)
    for number in range(5000):
        outlet.put(f"line {number}")
    lines = pipe.read_all().splitlines()
    assert lines[-1] == f"{5000 - len(lines) + 1:,} lines were not shown"


def test_a_picture_comes_after_the_lines_and_only_the_newest(pipe: Pipe) -> None:
    outlet, drawn = Outlet(pipe.stream), []
    outlet.put("x" * 20_000)
    for number in range(100):
        outlet.draw(lambda number=number: drawn.append(number))
    assert drawn == []
    reader = Reader(pipe.reading).start()
    outlet.close()
    assert drawn == [99]
    pipe.stream.close()
    reader.thread.join(10)


def test_a_slow_reader_gets_all_of_it(pipe: Pipe) -> None:
    outlet, read = Outlet(pipe.stream), bytearray()
    outlet.put("x" * 20_000)

    def slowly() -> None:
        # less than a page at a time: for long nothing new can be written
        while len(read) < 20_001:
            time.sleep(0.05)
            read.extend(os.read(pipe.reading, 700))

    reader = threading.Thread(target=slowly, daemon=True)
    reader.start()
    outlet.close(timeout=0.25)
    assert not outlet.given_up
    reader.join(10)
    assert bytes(read) == b"x" * 20_000 + b"\n"


def test_who_takes_nothing_is_given_up(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = Outlet(pipe.stream)
    outlet.put("x" * 20_000)
    outlet.close(timeout=0.1)
    assert outlet.given_up
    # the result would go into the same pipe
    monkeypatch.setattr(sys, "stdout", pipe.stream)
    before = time.monotonic()
    print_result("result", outlet)
    assert time.monotonic() - before < 5
    os.close(pipe.reading)


def test_a_result_that_cannot_be_printed_is_reported_on_standard_error(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", pipe.stream)
    monkeypatch.setattr("wsrec.supervise.outlet.RESULT_TIMEOUT", 0.1)
    print_result("x" * 20_000)
    assert "standard output was blocked for" in capsys.readouterr().err
    os.close(pipe.reading)


def test_whose_reader_is_gone(pipe: Pipe) -> None:
    os.close(pipe.reading)
    outlet = Outlet(pipe.stream)
    for number in range(100):
        outlet.put(f"line {number}")
    outlet.close()
    assert not outlet.given_up
    outlet.put("unread")


def test_one_that_another_process_made_not_to_wait(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    outlet = Outlet(pipe.stream)
    outlet.put("x" * 20_000)
    time.sleep(0.1)
    assert pipe.read_all() == "x" * 20_000 + "\n"


def test_a_process_without_standard_error() -> None:
    outlet = Outlet(None)
    outlet.put("unread")
    outlet.close()
    assert not outlet.given_up


def test_what_others_write_comes_by_lines(pipe: Pipe) -> None:
    outlet = Outlet(pipe.stream)
    stray = Stray(outlet.put, outlet.sink)
    print("one\ntwo", "and\n", "three", sep=" ", end="", file=stray)
    outlet.close()
    assert os.read(pipe.reading, 100) == b"one\ntwo and\n"
    os.close(pipe.reading)
