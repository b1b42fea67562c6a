"""
Log lines about clients that use socket.io-msgpack-parser.
"""

from __future__ import annotations

from twisted.logger import Logger

INTERVAL = 60.0  # seconds between two log lines

_log = Logger()


class MsgpackWarnings:
    """
    Limits the log lines about clients that use msgpack; of a process (`SharedState`).
    """

    def __init__(self) -> None:
        self._not_before = 0.0  # by the reactor's clock

    def warn(self, address: str, now: float) -> None:
        """
        Log a line about the client at *address*, unless the last one is too young at *now*.
        """
        if now >= self._not_before:
            self._not_before = now + INTERVAL
            _log.warn(
                "a Socket.IO client at {address} sent a binary packet that looks like msgpack: "
                "socket.io-msgpack-parser is not supported; use the default parser",
                address=address,
            )


def is_msgpack(data: bytes) -> bool:
    """
    Return whether *data* may be a packet of socket.io-msgpack-parser: a map of up to 15 fields.
    """
    return bool(data) and 0x80 <= data[0] <= 0x8F
