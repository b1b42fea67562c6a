"""
What the channel of an upload is sent: how far it is, and that it is complete.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.actions.context import ActionContext
from rt_twisted.model.message import Draft

INTERVAL = 0.2  # seconds between two events about one upload

_log = Logger()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """
    A complete upload.

    Args:
        id: of the upload.
        name: of the file in the folder.
        size: bytes.
        type: media type, as the client says.
        sha256: in hexadecimal.
    """

    id: str
    name: str
    size: int
    type: str
    sha256: str


class UploadEvents:
    """
    Publishes the events of one upload: `progress`, at most five per second, and `uploaded`.

    Args:
        context: the hub.
        channel: "" to publish nothing.
        id: of the upload.
        name: that was requested.
        size: bytes of the upload; None if that is not known.
    """

    def __init__(
        self, context: ActionContext, channel: str, id: str, name: str, size: int | None
    ) -> None:
        self._context = context
        self._channel = channel
        self._about = {"id": id, "name": name, "size": size}
        self._next = 0.0

    def progress(self, received: int) -> None:
        """
        Publish that *received* bytes of the upload are stored, unless the last event is too new.
        """
        now = self._context.reactor.seconds()
        if not self._channel or now < self._next:
            return
        self._next = now + INTERVAL
        self._publish("progress", {**self._about, "received": received}, True)

    def uploaded(self, file: UploadedFile) -> Deferred[object]:
        """
        Count *file*, which is complete, and publish that. Fires when that was done, or has failed.
        """
        metrics = self._context.metrics
        metrics.uploads += 1
        metrics.uploaded_bytes += file.size
        if not self._channel:
            return succeed(None)
        return self._publish("uploaded", asdict(file), False)

    def _publish(self, event: str, about: dict[str, object], transient: bool) -> Deferred[object]:
        data = json.dumps(about, ensure_ascii=False).encode()
        draft = Draft(self._channel, data, event, transient=transient)
        published = self._context.publish([draft])
        return published.addErrback(self._on_failed, event)

    def _on_failed(self, failure: Failure, event: str) -> None:
        # The file is stored: the upload goes on.
        _log.warn(
            "the event {event} of upload {id} was not published: {reason}",
            event=event,
            id=self._about["id"],
            reason=failure.getErrorMessage(),
        )
