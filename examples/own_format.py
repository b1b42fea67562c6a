r"""
A format of your own: a stream of JSON objects, one in each line (NDJSON).

    PYTHONPATH=. twistd -n realtime --port=8080 \
        --route='^/news$ stream:subscribe=news,format=own_format.Ndjson'
    curl -N http://127.0.0.1:8080/news

A format is pure: it makes bytes of values. The daemon frames the body, and calls `encode`
once for each message, however many clients there are.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.api import IFormat, Message, Position, Replay


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class Ndjson:
    """
    Write messages, gaps and positions as JSON objects, each in a line of its own.
    """

    content_type = "application/x-ndjson"
    heartbeat = b"\n"

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        gap = [] if replay.complete else [self.gap(replay.position)]
        return [*gap, *replay.messages, self.cursor(replay.position)]

    def encode(self, message: Message) -> bytes:
        fields = {"channel": message.channel, "position": str(message.position)}
        if message.event is not None:
            fields["event"] = message.event
        try:
            fields["data"] = message.data.decode()
        except UnicodeDecodeError:
            fields["base64"] = b64encode(message.data).decode()
        return _line(fields)

    def cursor(self, position: Position) -> bytes:
        return _line({"position": str(position)})

    def gap(self, position: Position) -> bytes:
        return _line({"gap": str(position)})

    def end(self, retry: int) -> bytes:
        return _line({"retry": retry}) if retry else b""


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode() + b"\n"
