"""
Messages as JSON, for the formats that have it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping

from rt_twisted.model.message import Message


def message_json(message: Message) -> bytes:
    """
    Return *message* as a JSON object in one line, without a line end.

    It has `id`, `channel`, `event` if the message has a type, and the field of
    `data_field`.
    """
    fields = {"id": str(message.position), "channel": message.channel}
    if message.event is not None:
        fields["event"] = message.event
    name, text = data_field(message)
    fields[name] = text
    return encode_object(fields)


def data_field(message: Message) -> tuple[str, str]:
    """
    Return name and value of the field for a message's data.

    It is `data` with the text, or `base64` for bytes that are not UTF-8.
    """
    try:
        return "data", message.data.decode()
    except UnicodeDecodeError:
        return "base64", b64encode(message.data).decode()


def encode_object(fields: Mapping[str, object]) -> bytes:
    """
    Return *fields* as a JSON object in UTF-8; lone surrogates become question marks.
    """
    return json.dumps(fields, ensure_ascii=False).encode(errors="replace")
