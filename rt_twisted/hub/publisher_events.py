"""
What applications learn of a live publisher: messages of a channel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Draft

_log = Logger()


class PublisherState(Enum):
    """
    What has happened to the publisher of a live stream.
    """

    STARTED = "started"
    LOST = "lost"  # or it has ended; viewers wait for another one
    RETURNED = "returned"
    ENDED = "ended"  # none has come back: the stream is over


Announce = Callable[[str, PublisherState, str], object]  # of a channel, with a reason or ""


def announce_nothing(channel: str, state: PublisherState, reason: str) -> None:
    """
    Publish no states: the route names no channel for them.
    """


def announce_to(events: str, publish: Callable[[Sequence[Draft]], Deferred[Any]]) -> Announce:
    """
    Return a function that publishes each state as JSON to the channel *events*.

    What cannot be published is logged: a live stream does not wait for it.
    """
    return partial(_announce, events, publish)


def _announce(
    events: str,
    publish: Callable[[Sequence[Draft]], Deferred[Any]],
    channel: str,
    state: PublisherState,
    reason: str,
) -> None:
    fields = {"channel": channel, "state": state.value}
    if reason:
        fields["reason"] = reason
    data = json.dumps(fields, ensure_ascii=False).encode(errors="surrogateescape")
    publish([Draft(events, data)]).addErrback(_on_failed, events, state)


def _on_failed(failure: Any, events: str, state: PublisherState) -> None:
    if failure.check(Unavailable) is None:
        _log.failure("while publishing to {events}", failure, events=events)
        return
    _log.warn(
        "{state} was not published to {events}: {reason}",
        state=state.value,
        events=events,
        reason=failure.getErrorMessage(),
    )
