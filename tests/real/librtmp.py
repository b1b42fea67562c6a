"""
Push an FLV file by librtmp, in real time: `python -m tests.real.librtmp URL FILE`.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

NAME = "librtmp.so.1"
FILE_HEADER, TAG_HEADER = 13, 11  # bytes


def push(url: str, path: str) -> None:
    """
    Publish the file at *path* to *url*.

    Raises:
        SystemExit: the server refuses it; the text says in which step.
    """
    library = ctypes.CDLL(NAME)
    library.RTMP_Alloc.restype = ctypes.c_void_p
    session = ctypes.c_void_p(library.RTMP_Alloc())
    library.RTMP_Init(session)
    address = ctypes.create_string_buffer(url.encode())
    if not library.RTMP_SetupURL(session, address):
        sys.exit("the URL is wrong")
    library.RTMP_EnableWrite(session)
    if not library.RTMP_Connect(session, None) or not library.RTMP_ConnectStream(session, 0):
        sys.exit("not connected")
    data = Path(path).read_bytes()
    position, start = FILE_HEADER, time.monotonic()
    while position < len(data):
        header = data[position : position + TAG_HEADER]
        size = TAG_HEADER + int.from_bytes(header[1:4]) + 4
        due = (int.from_bytes(header[4:7]) | header[7] << 24) / 1000
        time.sleep(max(0.0, start + due - time.monotonic()))
        if library.RTMP_Write(session, data[position : position + size], size) != size:
            sys.exit("not written")
        position += size
    library.RTMP_Close(session)


if __name__ == "__main__":
    push(*sys.argv[1:])
