"""Shared memory that outlives its users, mapped twice side by side.

The pages of a ring of n bytes are mapped twice, one copy right after the other. Data that wraps around the end of
the first copy continues in the second, so any run of up to n bytes is one contiguous view, wherever it begins.
Source: mmap(2) (MAP_FIXED), memfd_create(2).

The mapping is released with the last view of it, never before: access through a view to unmapped pages would kill the
process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref

PAGE = mmap.PAGESIZE

_MAP_FIXED = 0x10  # asm-generic/mman-common.h; the mmap module does not export it
_PROT_NONE = 0
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_munmap = _libc.munmap
_munmap.restype = ctypes.c_int
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def create_shared(name: str, size: int) -> int:
    """Create shared memory of `size` bytes and return its descriptor; the name is for /proc only.

    A memfd, sealed against resizing, so no other process can make our pages vanish (SIGBUS).

    Raises:
        OSError: no descriptor or no memory is left.

    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def map_words(fd: int, size: int) -> memoryview:
    """Map the first `size` bytes of shared memory, as a writable view of 64-bit words."""
    return memoryview(mmap.mmap(fd, size)).cast("Q")


def map_mirrored(fd: int, offset: int, size: int, *, populate: bool = True) -> memoryview:
    """Map `size` bytes of `fd` from `offset`, twice side by side: a writable view of 2 * `size` bytes.

    With `populate` all pages are faulted in at once, so that the hot path has no page faults; without, each takes
    memory on first use.

    Args:
        fd: shared memory from `create_shared`.
        offset: where the ring begins, a multiple of the page size.
        size: the ring's size in bytes, a multiple of the page size.
        populate: whether to fault in the pages.

    Raises:
        ValueError: offset or size is not a multiple of the page size, or reaches beyond the shared memory.
        OSError: there is not enough address space or memory.

    """
    if size <= 0 or size % PAGE or offset % PAGE:
        raise ValueError(f"a mirrored mapping takes whole pages of {PAGE} bytes, not {size} at {offset}")
    if offset + size > os.fstat(fd).st_size:
        raise ValueError(f"the shared memory ends before {size} bytes at {offset}")
    base = _map(None, 2 * size, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_SHARED | _MAP_FIXED | (getattr(mmap, "MAP_POPULATE", 0) if populate else 0)
    try:
        _map(base, size, protection, flags, fd, offset)
        _map(base + size, size, protection, flags, fd, offset)
    except OSError:
        _munmap(base, 2 * size)
        raise
    pages = (ctypes.c_ubyte * (2 * size)).from_address(base)
    # at exit the kernel unmaps; a finalizer that runs then could unmap pages that a view still uses
    weakref.finalize(pages, _munmap, base, 2 * size).atexit = False
    return memoryview(pages).cast("B")


def _map(address: int | None, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    result = _mmap(address, size, protection, flags, fd, offset)
    if result is None or result == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {size} bytes: {os.strerror(number)}{_hint(number)}")
    return int(result)


def _hint(number: int) -> str:
    return " (a smaller --ring-size needs less)" if number == errno.ENOMEM else ""
