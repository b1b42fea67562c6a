"""
Publishing what Socket.IO clients and applications send.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt_twisted.actions.context import ActionContext
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import check_event
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, PublishResult


async def publish_checked(context: ActionContext, drafts: Sequence[Draft]) -> PublishResult:
    """
    Check *drafts* against the limits, and publish them as `Hub.publish` does.

    Raises:
        HttpError: 400 for the name of a channel or event, 413 for a message larger than
            `max-message`, 503 if the broker is not available.
    """
    for draft in drafts:
        context.names.check(draft.channel)
        if draft.event is not None:
            _check_event_type(draft.event)
        if len(draft.data) > context.max_message:
            raise HttpError(413, f"the message is larger than {context.max_message} bytes")
    try:
        return await context.publish(drafts)
    except Unavailable as error:
        raise HttpError(503, str(error)) from None


def _check_event_type(event: str) -> None:
    try:
        check_event(event)
    except RemoteProtocolError as error:
        raise HttpError(error.status, error.reason) from None
    try:
        # JSON can escape half a surrogate pair, which brokers and other transports cannot carry.
        event.encode()
    except UnicodeEncodeError:
        raise HttpError(400, "an event type cannot have half a surrogate pair") from None
