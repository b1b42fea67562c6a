"""
The files in a form, piece by piece (`multipart/form-data`, RFC 7578).
"""

from __future__ import annotations

from dataclasses import dataclass

import multipart

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_PARTS = 100


@dataclass(frozen=True, slots=True)
class FilePart:
    """
    The beginning of a file.

    Args:
        name: of the file, as the client says.
        type: media type; "" if the client names none.
    """

    name: str
    type: str


class FormFiles:
    """
    Finds the files in the body of a form. Other fields, and inputs without a file, are skipped.

    Args:
        content_type: header of the request.

    Raises:
        RemoteProtocolError: the header has no boundary.
    """

    def __init__(self, content_type: str) -> None:
        _, options = multipart.parse_options_header(content_type)
        try:
            self._parser = multipart.PushMultipartParser(
                options.get("boundary", ""), max_segment_count=MAX_PARTS
            )
        except (multipart.MultipartError, ValueError) as error:
            raise _malformed(error) from None
        self._in_file = False

    def feed(self, data: bytes) -> list[FilePart | bytes]:
        """
        Return the beginnings of files, and their bytes, in order.

        Raises:
            RemoteProtocolError: the form is malformed, or has more than MAX_PARTS parts.
        """
        found: list[FilePart | bytes] = []
        try:
            for event in self._parser.parse(data):
                if isinstance(event, multipart.MultipartSegment):
                    self._in_file = bool(event.filename)
                    if self._in_file:
                        found.append(FilePart(event.filename or "", event.content_type or ""))
                elif event is not None and self._in_file:
                    found.append(bytes(event))
        except (multipart.MultipartError, ValueError) as error:
            raise _malformed(error) from None
        return found

    def end(self) -> None:
        """
        Check that the form is complete.

        Raises:
            RemoteProtocolError: it is not.
        """
        try:
            self._parser.close()
        except multipart.MultipartError as error:
            raise _malformed(error) from None


def _malformed(error: Exception) -> RemoteProtocolError:
    return RemoteProtocolError(f"malformed multipart body: {error}")
