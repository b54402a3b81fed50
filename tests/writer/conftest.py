"""Rings that close themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.writer.rings import Rings


@pytest.fixture
def rings() -> Iterator[Callable[..., Rings]]:
    made: list[Rings] = []

    def make(*arguments: int, **options: int) -> Rings:
        made.append(Rings(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
