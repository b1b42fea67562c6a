"""
The filter of a `publish` route: an application that sees each message first.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rt_twisted.access.questions import PUBLISH, UnusableAnswer, read_refusal
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.subscription import while_connected
from rt_twisted.http.interfaces import IExchange

_TYPE = ("Content-Type", "application/octet-stream")


async def filtered(
    context: ActionContext,
    exchange: IExchange,
    url: str,
    data: bytes,
    event: str | None,
    channels: Sequence[str],
) -> bytes | None:
    """
    Send a message to the filter, and return what is published in its place.

    Args:
        context: has the limits.
        exchange: the publisher's request.
        url: of the filter.
        data: of the message.
        event: its type; None for none.
        channels: to which it is to be published.

    Returns:
        None if the filter drops it.

    Raises:
        HttpError: how the filter refuses the publisher; 503, it does not answer.
    """
    assert context.gate.find_app is not None
    app = context.gate.find_app(url)
    question = context.gate.question(exchange, PUBLISH, "publish", channels)
    headers = (*question.request_headers(), _TYPE)
    if event is not None:
        headers = (*headers, ("X-Event", event.encode(errors="replace").decode("latin-1")))
    try:
        sent = Deferred.fromCoroutine(app.post(headers, data, context.max_message))
        response, body = await while_connected(exchange, sent)
    except UnusableAnswer as error:
        raise app.unusable(str(error)) from None
    for cookie in response.all("set-cookie"):
        exchange.add_header("Set-Cookie", cookie)
    if response.status == 304 or (response.status == 200 and not body):
        return data
    if response.status == 204:
        return None
    if response.status == 200:
        return bytes(body)
    try:
        raise read_refusal(response, body)
    except UnusableAnswer as error:
        raise app.unusable(str(error)) from None
