"""
Encrypt small writes without the checks and copies of pyOpenSSL's own methods.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

MAX_RECORD = 16384  # bytes that TLS encrypts at once (RFC 8446, 5.1)
RECORD_OVERHEAD = 512  # bytes; a record grows by less


class RecordWriter:
    """
    Encrypts for the connections of a port.

    pyOpenSSL calls the same two functions of OpenSSL, and asks after each whether a callback has
    failed. None can fail here: callbacks are called by the handshake only.
    """

    def __init__(self) -> None:
        # Not in its documentation: the bindings of OpenSSL.
        library: Any = getattr(SSL, "_lib")  # noqa: B009  # mypy does not know it
        foreign: Any = getattr(SSL, "_ffi")  # noqa: B009
        self._write = library.SSL_write
        self._read = library.BIO_read
        self._buffer = foreign.new("char[]", MAX_RECORD + RECORD_OVERHEAD)
        self._view = foreign.buffer(self._buffer)

    def encrypt(self, connection: Any, data: bytes) -> bytes:
        """
        Return the record of *data*, which has up to MAX_RECORD bytes.

        Args:
            connection: of pyOpenSSL, with buffers in memory; its handshake is complete.
            data: not empty.

        Raises:
            SSL.Error: as `SSL.Connection.send` and `bio_read`.
        """
        size = len(data)
        if self._write(connection._ssl, data, size) != size:
            connection.send(data)  # fails again, and raises why
        size = self._read(connection._from_ssl, self._buffer, size + RECORD_OVERHEAD)
        if size <= 0:
            return connection.bio_read(1)  # type: ignore[no-any-return]  # fails, likewise
        record: bytes = self._view[:size]
        return record
