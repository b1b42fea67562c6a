"""
Start to write a file to the disk while the rest of it arrives.

Without this Linux begins when much of the memory is dirty, and the `fsync` at the end of an upload
takes as long as the disk needs for all of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

STEP = 8 * 1024**2  # bytes that are written at once
_WRITE = 2  # SYNC_FILE_RANGE_WRITE, sync_file_range(2)


def start_writeback(file: int, before: int, size: int) -> None:
    """
    Start to write the bytes of *file*, if it has grown over a multiple of STEP.

    Args:
        file: descriptor.
        before: its size some bytes ago.
        size: its size now.
    """
    begin, end = before // STEP * STEP, size // STEP * STEP
    if begin < end:
        _sync_file_range()(file, begin, end - begin, _WRITE)  # fsync reports its errors


@cache
def _sync_file_range() -> Callable[[int, int, int, int], object]:
    try:
        found = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError):
        return lambda file, offset, size, flags: None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function: Callable[[int, int, int, int], object] = found
    return function
