"""
Commands of the JSON protocol on websockets: one object in each frame (docs/websocket.md).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.json_size import check_json_size
from rt_twisted.codecs.publication import Submission, load_json, parse_object

MAX_ID_LENGTH = 64  # characters
MAX_ID_NUMBER = 2**53 - 1  # the largest integer that JavaScript represents exactly
MAX_HISTORY = 10**9

CommandId = str | int | None


@dataclass(frozen=True, slots=True)
class SubscribeCommand:
    """
    Subscribe to more channels.

    Args:
        channels: at least one; names are not checked.
        since: a position, an age or `all`, as in a URL; "" for no replay.
        history: number of messages to replay if *since* is ""; None for none.
    """

    channels: Sequence[str]
    since: str = ""
    history: int | None = None


@dataclass(frozen=True, slots=True)
class UnsubscribeCommand:
    """
    Unsubscribe from channels.
    """

    channels: Sequence[str]


@dataclass(frozen=True, slots=True)
class PublishCommand:
    """
    Publish a message.
    """

    submission: Submission


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """
    Use a key for all following publishes.
    """

    key: bytes


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """
    Use another token from now on, before the one so far expires.
    """

    token: str


@dataclass(frozen=True, slots=True)
class PingCommand:
    """
    Request a pong: a page cannot send the ping frames of WebSocket.
    """


Command = (
    SubscribeCommand | UnsubscribeCommand | PublishCommand | KeyCommand | TokenCommand | PingCommand
)

_FIELDS = {
    "subscribe": frozenset(("type", "id", "channels", "since", "history")),
    "unsubscribe": frozenset(("type", "id", "channels")),
    "key": frozenset(("type", "id", "key")),
    "token": frozenset(("type", "id", "token")),
    "ping": frozenset(("type", "id")),
}


def read_frame(data: bytes) -> dict[str, Any]:
    """
    Parse the JSON object in a text frame.

    Raises:
        RemoteProtocolError: the frame holds something else.
    """
    try:
        text = data.decode().removeprefix("\ufeff")
        check_json_size(text)
        value = load_json(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("this is not JSON") from None
    if type(value) is not dict:
        raise RemoteProtocolError("this is not a JSON object")
    return value


def read_id(value: dict[str, Any]) -> CommandId:
    """
    Return the id that the response to a command repeats; None for none.

    Raises:
        RemoteProtocolError: the id has another type or is too large.
    """
    given = value.get("id")
    if given is None or (type(given) is int and abs(given) <= MAX_ID_NUMBER):
        return given
    if type(given) is str and len(given) <= MAX_ID_LENGTH:
        return given
    raise RemoteProtocolError(f"id is a whole number, or up to {MAX_ID_LENGTH} characters")


def read_command(value: dict[str, Any]) -> Command:
    """
    Convert a JSON object to a command.

    Raises:
        RemoteProtocolError: the type is unknown, or a field is unknown or invalid.
    """
    kind = value.get("type")
    if kind == "publish":
        return PublishCommand(_read_submission(value))
    known = _FIELDS.get(kind) if type(kind) is str else None
    if known is None:
        raise RemoteProtocolError("type is subscribe, unsubscribe, publish, key, token or ping")
    if not value.keys() <= known:
        unknown = min(value.keys() - known)
        raise RemoteProtocolError(f"{kind} has no field {unknown[:100]!r}")
    if kind == "subscribe":
        return SubscribeCommand(_channels(value), _string(value, "since"), _history(value))
    if kind == "unsubscribe":
        return UnsubscribeCommand(_channels(value))
    if kind == "key":
        return KeyCommand(_string(value, "key").encode(errors="replace"))
    if kind == "token":
        return TokenCommand(_string(value, "token"))
    return PingCommand()


def _read_submission(value: dict[str, Any]) -> Submission:
    rest = {name: given for name, given in value.items() if name not in ("type", "id")}
    packed = rest.pop("base64", None)
    submission = parse_object(rest)
    if packed is None:
        return submission
    if submission.message is not None:
        raise RemoteProtocolError("it is message or base64, not both")
    try:
        return replace(submission, message=b64decode(packed, validate=True))
    except (Error, TypeError, ValueError):
        raise RemoteProtocolError("base64 is not base64") from None


def _channels(value: dict[str, Any]) -> Sequence[str]:
    given = value.get("channels")
    names = [given] if type(given) is str else given
    if type(names) is not list or not names or any(type(name) is not str for name in names):
        raise RemoteProtocolError("channels is a string, or an array of strings")
    return names


def _string(value: dict[str, Any], name: str) -> str:
    given = value.get(name, "")
    if type(given) is not str:
        raise RemoteProtocolError(f"{name} is a string")
    return given


def _history(value: dict[str, Any]) -> int | None:
    given = value.get("history")
    if given is None or (type(given) is int and 0 <= given <= MAX_HISTORY):
        return given
    raise RemoteProtocolError("history is a whole number")
