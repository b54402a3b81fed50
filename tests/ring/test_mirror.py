"""wsrec.ring.mirror: shared memory that stands in the address space twice."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from wsrec.ring.mirror import PAGE, create_shared, map_mirrored, map_words


def mappings(name: str) -> int:
    """How many times the shared memory `name` is mapped in this process."""
    return Path("/proc/self/maps").read_text().count(f"memfd:{name} ")


class TestMirror:
    @pytest.mark.parametrize("pages", [1, 3, 16])
    def test_both_copies_are_the_same_bytes(self, owned, pages):
        size = pages * PAGE
        view = map_mirrored(owned(create_shared("t", size)), 0, size)
        for at in (0, 1, PAGE - 1, size // 2, size - 1):
            view[at] = 0xA5
            assert view[at + size] == 0xA5
            view[at + size] = 0x5A
            assert view[at] == 0x5A

    def test_what_runs_over_the_end_of_the_first_copy_stands_at_the_beginning(self, owned):
        view = map_mirrored(owned(create_shared("t", PAGE)), 0, PAGE)
        view[PAGE - 3 : PAGE + 3] = b"abcdef"
        assert bytes(view[:3]) == b"def"
        assert bytes(view[2 * PAGE - 3 :]) == b"abc"

    def test_the_offset_leaves_a_header_out(self, owned):
        fd = owned(create_shared("t", 2 * PAGE))
        words, view = map_words(fd, PAGE), map_mirrored(fd, PAGE, PAGE)
        words[0] = 2**64 - 1
        assert bytes(view) == bytes(2 * PAGE)

    @pytest.mark.parametrize("size", [-PAGE, -1, 0, 1, PAGE - 1, PAGE + 1, 2 * PAGE - 1])
    def test_sizes_that_are_not_whole_pages_are_refused(self, owned, size):
        with pytest.raises(ValueError, match="whole pages"):
            map_mirrored(owned(create_shared("t", 4 * PAGE)), 0, size)

    @pytest.mark.parametrize("offset", [1, PAGE - 1, PAGE + 1])
    def test_offsets_within_a_page_are_refused(self, owned, offset):
        with pytest.raises(ValueError, match="whole pages"):
            map_mirrored(owned(create_shared("t", 4 * PAGE)), offset, PAGE)

    @pytest.mark.parametrize(("offset", "size"), [(0, 3 * PAGE), (PAGE, 2 * PAGE), (2 * PAGE, PAGE)])
    def test_more_than_there_is_is_refused_and_not_a_bus_error_later(self, owned, offset, size):
        with pytest.raises(ValueError, match="ends before"):
            map_mirrored(owned(create_shared("t", 2 * PAGE)), offset, size)


class TestLifetime:
    def test_unmapped_only_after_the_last_view_is_gone(self, owned):
        view = map_mirrored(owned(create_shared("lifetime", PAGE)), 0, PAGE)
        part = view[10:20]
        part[0] = 7
        del view
        gc.collect()
        assert mappings("lifetime") == 2
        assert part[0] == 7
        del part
        gc.collect()
        assert mappings("lifetime") == 0

    def test_the_mapping_outlives_the_descriptor(self):
        fd = create_shared("t", PAGE)
        view = map_mirrored(fd, 0, PAGE)
        os.close(fd)
        view[0] = 1
        assert view[PAGE] == 1

    @pytest.mark.parametrize("size", [0, PAGE // 2, 2 * PAGE])
    def test_sealed_against_resizing(self, owned, size):
        fd = owned(create_shared("t", PAGE))
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)

    def test_a_failed_mapping_leaves_nothing_behind(self, owned):
        before = len(Path("/proc/self/maps").read_text().splitlines())
        fd = owned(os.open("/proc/self/exe", os.O_RDONLY))  # writable shared mapping of a read-only file: EACCES
        for _ in range(5):
            with pytest.raises(PermissionError):
                map_mirrored(fd, 0, PAGE)
        assert len(Path("/proc/self/maps").read_text().splitlines()) <= before + 1


class TestTwoProcesses:
    def test_each_sees_what_the_other_writes(self, owned, other_process):
        fd = owned(create_shared("t", PAGE))
        view = map_mirrored(fd, 0, PAGE)
        view[5:10] = b"hello"
        code = (
            "import sys; from wsrec.ring.mirror import PAGE, map_mirrored\n"
            "view = map_mirrored(int(sys.argv[1]), 0, PAGE)\n"
            "print(bytes(view[PAGE + 5:PAGE + 10]).decode()); view[PAGE - 1:PAGE + 1] = b'ok'"
        )
        assert other_process(code, fd) == "hello\n"
        assert bytes(view[PAGE - 1 : PAGE + 1]) == b"ok"
