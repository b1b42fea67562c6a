"""
Responses that ask by GRIP to be held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from twisted.internet.error import ConnectionLost

from rt_twisted.access.grants import Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.grip.hold import EVENT_STREAM, HeldRequest, answer, hold_response
from rt_twisted.actions.grip.not_followed import log_not_followed
from rt_twisted.actions.handed.headers import header, passed_headers
from rt_twisted.actions.handed.problems import check_name, log_cut, unusable
from rt_twisted.actions.handover import HandedBody, HandedResponse
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.eventsource import whole_events
from rt_twisted.codecs.grip import (
    INSTRUCT,
    GripHold,
    GripResponse,
    HoldMode,
    read_hold,
    read_instruction,
)
from rt_twisted.codecs.query import media_type
from rt_twisted.model.errors import HttpError

MAX_BODY = 65536  # bytes of a response that is held
BODY_SECONDS = 1.0  # in which they are received
_CUT = "breaks off, or takes longer than a second"


@dataclass(frozen=True, slots=True)
class GripRequest:
    """
    A request whose response asks to be held, or has an instruction as its body.

    Args:
        context: the hub and the settings.
        response: of the application.
        hold: how it is held; None if the body says so.
        grant: of the client, by this response.
    """

    context: ActionContext
    response: HandedResponse
    hold: GripHold | None
    grant: Grant

    async def start(self) -> None:
        """
        Read the body, then hold the response, or answer with it.

        Raises:
            HttpError: 502, the response cannot be held, or its body is not complete; or see
                `hold_response`.
        """
        exchange, headers = self.response.exchange, self.response.headers
        coded = header(headers, "content-encoding") is not None
        is_events = media_type(header(headers, "content-type") or "") == EVENT_STREAM
        received = await self.response.read(MAX_BODY, BODY_SECONDS)
        if exchange.answered:  # the client has disconnected meanwhile
            raise ConnectionLost
        hold, body = self.hold, received.data
        response = GripResponse(self.response.status, tuple(passed_headers(headers)), body)
        if hold is None:
            hold, response = self._read_instruction(received)
        elif hold.mode is HoldMode.RESPONSE and (coded or len(body) >= MAX_BODY):
            reason = "a response that is held is not encoded, and smaller than 64 KiB"
            raise unusable(exchange, reason)
        elif hold.mode is HoldMode.RESPONSE and not received.complete:
            raise unusable(exchange, f"the response that is held {_CUT}")
        elif coded:
            response = replace(response, body=b"")
        elif not received.complete and not is_events:
            raise unusable(exchange, f"the beginning of the stream has 64 KiB, {_CUT}")
        elif not received.complete:
            log_cut(self.context)
            response = replace(response, body=whole_events(body, complete=False))
        if hold is None or not hold.channels:
            answer(exchange, response)
            return
        log_not_followed(self.context, hold.not_followed)
        position = self.response.position
        held = HeldRequest(self.context, exchange, hold, response, self.grant, position)
        result = hold_response(held)
        if result is not None:
            await result  # type: ignore[misc]  # a coroutine: see `when_admitted`
        self.context.metrics.handovers_by_grip += 1

    def _read_instruction(self, body: HandedBody) -> tuple[GripHold | None, GripResponse]:
        exchange = self.response.exchange
        try:
            if len(body.data) >= MAX_BODY:
                raise RemoteProtocolError("its instruction has more than 64 KiB")
            if not body.complete:
                raise RemoteProtocolError(f"its instruction {_CUT}")
            instruction = read_instruction(body.data)
        except RemoteProtocolError as error:
            raise unusable(exchange, error.reason) from None
        hold = instruction.hold
        if hold is not None:
            check_channels(self.context, self.response, hold.channels)
        return hold, instruction.response


def asks_for_hold(response: HandedResponse) -> bool:
    """
    Return whether *response* is to be held, or its body may say so.
    """
    if header(response.headers, "grip-hold") is not None:
        return True
    return media_type(header(response.headers, "content-type") or "") == INSTRUCT


def find_hold(context: ActionContext, response: HandedResponse) -> GripHold | None:
    """
    Return how *response* is to be held by its headers; None if its body says so.

    Raises:
        HttpError: 502, a header of GRIP is malformed, or a channel cannot exist.
    """
    try:
        hold = read_hold(response.headers)
    except RemoteProtocolError as error:
        raise unusable(response.exchange, error.reason) from None
    if hold is not None:
        check_channels(context, response, hold.channels)
    return hold


def check_channels(
    context: ActionContext, response: HandedResponse, channels: Sequence[str]
) -> None:
    """
    Check the *channels* that *response* names.

    Raises:
        HttpError: 502, one of them cannot exist, or there are too many.
    """
    for name in channels:
        check_name(context, response.exchange, name)
    try:
        if channels:
            context.names.check_all(channels)
    except HttpError as error:
        raise unusable(response.exchange, error.reason) from None
