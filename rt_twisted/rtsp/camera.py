"""
The client's side of RTSP: a camera is asked for its stream.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.codecs.digest_auth import DigestAnswer, digest_response, parse_parameters
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.sdp import parse_sdp
from rt_twisted.media.unit import MAX_UNIT
from rt_twisted.rtsp.camera_url import CameraUrl, join_control
from rt_twisted.rtsp.fields import choose_transport, session_of
from rt_twisted.rtsp.messages import (
    InterleavedPacket,
    MessageParser,
    RtspItem,
    RtspRequest,
    RtspResponse,
    write_request,
    write_response,
)
from rt_twisted.rtsp.presentation import Announcement, announce
from rt_twisted.rtsp.recording import Recording

ANSWER_SECONDS = 10.0  # for a response
MAX_REQUESTS = 100  # of a camera between two keep-alives: it may not read our responses
SESSION_SECONDS = 60  # of a session whose camera does not say
AGENT = ("User-Agent", "rt_twisted")

_TIMEOUT = re.compile(r"timeout\s*=\s*(\d{1,6})", re.IGNORECASE)


class CameraLost(Exception):
    """
    The camera refused a request, or its connection is lost; the text says why.
    """


class CameraConnection(Protocol):
    """
    A connection to a camera.

    Args:
        url: of the camera.
        reactor: the reactor.
        max_unit: bytes of a frame.

    Attributes:
        recording: receives the packets, once the camera plays.
        lost: fires with the reason when the connection is lost.
    """

    def __init__(self, url: CameraUrl, reactor: Any, max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self.recording: Recording | None = None
        self.lost: Deferred[str] = Deferred()
        self._url = url
        self._reactor = reactor
        self._parser = MessageParser()
        self._cseq = 0
        self._session = ""
        self._public: frozenset[str] = frozenset()
        self._waiting: Deferred[RtspResponse] | None = None
        self._challenge: str = ""
        self._uses = 0  # of the nonce
        self._reason = "the camera has closed the connection"
        self._keepalive: Any = None
        self._requests = 0  # of the camera since the last keep-alive

    async def play(self) -> Announcement:
        """
        Ask the camera for all of its tracks.

        Returns:
            the tracks, set up. Packets may arrive from now on: set `recording` at once.

        Raises:
            CameraLost: it refused, or did not answer in time.
            RemoteProtocolError: its description cannot be used.
        """
        options = await self._ask("OPTIONS", self._url.url)
        methods = options.headers.get("public", "").upper().split(",")
        self._public = frozenset([method.strip() for method in methods])
        described = await self._ask("DESCRIBE", self._url.url, ("Accept", "application/sdp"))
        headers = described.headers
        base = headers.get("content-base") or headers.get("content-location") or self._url.url
        description = parse_sdp(described.body)
        tracks = announce(self._url.place, description, max_unit=self._max_unit)
        timeout = SESSION_SECONDS
        for index, track in enumerate(tracks.tracks):
            if track.depacketizer is None:
                continue
            channels = f"{2 * index}-{2 * index + 1}"
            transport = ("Transport", f"RTP/AVP/TCP;unicast;interleaved={channels}")
            response = await self._ask("SETUP", join_control(base, track.media.control), transport)
            session = response.headers.get("session", "")
            self._session = session_of(session) or self._session
            found = _TIMEOUT.search(session)
            timeout = max(2, int(found[1])) if found is not None else timeout
            chosen = choose_transport(response.headers.get("transport", "")).channels
            tracks.channels[index] = chosen or (2 * index, 2 * index + 1)
        self._parser.channels = frozenset(
            [number for pair in tracks.channels.values() for number in pair]
        )
        await self._ask("PLAY", join_control(base, description.control), ("Range", "npt=0.000-"))
        self._keep_alive(base, timeout / 2)
        return tracks

    async def _ask(self, method: str, url: str, *headers: tuple[str, str]) -> RtspResponse:
        """
        Send a request and return its response, whose status is 200.
        """
        response = await self._exchange(method, url, headers)
        if response.status == 401 and response.challenges and self._url.user:
            self._challenge = _choose(response.challenges)
            self._uses = 0
            response = await self._exchange(method, url, headers)
        if response.status != 200:
            raise CameraLost(f"the camera answers {method} with {response.status}")
        return response

    async def _exchange(
        self, method: str, url: str, headers: Sequence[tuple[str, str]]
    ) -> RtspResponse:
        if self.lost.called:
            raise CameraLost(self._reason)
        waiting: Deferred[RtspResponse] = Deferred()
        self._waiting = waiting
        self._send(method, url, headers)
        waiting.addTimeout(ANSWER_SECONDS, self._reactor, _timed_out)
        return await waiting

    def _send(self, method: str, url: str, headers: Sequence[tuple[str, str]]) -> None:
        self._cseq += 1
        fields = [("CSeq", str(self._cseq)), AGENT, *headers]
        if self._session:
            fields.append(("Session", self._session))
        if self._challenge:
            self._uses += 1
            fields.append(("Authorization", self._credentials(method, url)))
        transport: Any = self.transport
        transport.write(write_request(method, url, fields))

    def _credentials(self, method: str, url: str) -> str:
        user, password = self._url.user, self._url.password
        scheme, _, text = self._challenge.partition(" ")
        if scheme.lower() == "basic":
            return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        given = parse_parameters(text)
        offered = [each.strip() for each in given.get("qop", "").lower().split(",")]
        qop = "auth" if "auth" in offered else ""
        answer = DigestAnswer(
            user,
            given.get("realm", ""),
            given.get("nonce", ""),
            url,
            "",
            given.get("algorithm", "MD5").upper(),
            qop,
            f"{self._uses:08x}" if qop else "",
            secrets.token_hex(8) if qop else "",
        )
        answer = replace(answer, response=digest_response(answer, method, password.encode()))
        parts = [
            f'username="{_escaped(user)}"',
            f'realm="{_escaped(answer.realm)}"',
            f'nonce="{answer.nonce}"',
            f'uri="{url}"',
            f'response="{answer.response}"',
        ]
        if "algorithm" in given:
            parts.append(f"algorithm={answer.algorithm}")
        if "opaque" in given:
            parts.append(f'opaque="{given["opaque"]}"')
        if qop:
            parts += [f"qop={qop}", f"nc={answer.nc}", f'cnonce="{answer.cnonce}"']
        return "Digest " + ", ".join(parts)

    def _keep_alive(self, url: str, interval: float) -> None:
        method = "GET_PARAMETER" if "GET_PARAMETER" in self._public else "OPTIONS"

        def send() -> None:
            self._requests = 0
            self._send(method, url, ())
            self._keepalive = self._reactor.callLater(interval, send)

        self._keepalive = self._reactor.callLater(interval, send)

    def abort(self, reason: str) -> None:
        """
        Close the connection at once, for *reason*.
        """
        if not self.lost.called:
            self._reason = reason
            transport: Any = self.transport
            transport.abortConnection()

    def end(self, reason: str) -> None:
        """
        End the session, for *reason*.
        """
        if not self.lost.called:
            self._reason = reason
            if self._session:
                self._send("TEARDOWN", self._url.url, ())
            transport: Any = self.transport
            transport.loseConnection()

    # The input.

    def pause_input(self) -> None:
        """
        Receive nothing more until `resume_input`.
        """
        transport: Any = self.transport
        transport.pauseProducing()

    def resume_input(self) -> None:
        """
        Receive again after `pause_input`.
        """
        if not self.lost.called:
            transport: Any = self.transport
            transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.recording is not None:
            self.recording.touch(len(data))
        items: list[RtspItem] = []
        problem = ""
        try:
            self._parser.feed(data, items)
        except RemoteProtocolError as error:
            problem = error.reason
        for item in items:
            if isinstance(item, InterleavedPacket):
                if self.recording is not None:
                    self.recording.packet(item.channel, item.data)
            elif isinstance(item, RtspResponse):
                waiting, self._waiting = self._waiting, None
                if waiting is not None and not waiting.called:
                    waiting.callback(item)
            elif isinstance(item, RtspRequest):
                self._refuse(item)
        if problem:
            self.abort(problem)

    def _refuse(self, request: RtspRequest) -> None:
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            self.abort(f"the camera has sent more than {MAX_REQUESTS} requests")
            return
        status = 200 if request.method == "OPTIONS" else 501
        transport: Any = self.transport
        transport.write(write_response(status, [("CSeq", request.headers.get("cseq", "0"))]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None
        if self.lost.called:
            return
        self.lost.callback(self._reason)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(CameraLost(self._reason))


def _choose(challenges: Sequence[str]) -> str:
    """
    Return the first Digest challenge that can be answered, or else that of Basic.

    Raises:
        CameraLost: there is neither.
    """
    for challenge in challenges:
        scheme, _, text = challenge.partition(" ")
        algorithm = parse_parameters(text).get("algorithm", "MD5").upper()
        if scheme.lower() == "digest" and algorithm in ("MD5", "SHA-256"):
            return challenge
    for challenge in challenges:
        if challenge.lower().startswith("basic"):
            return challenge
    raise CameraLost("the camera requires an authentication scheme that is not supported")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _timed_out(failure: object, seconds: float) -> object:
    raise CameraLost(f"the camera does not answer within {seconds:g} seconds")
