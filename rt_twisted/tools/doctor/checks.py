"""
Checks of the doctor.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from twisted.internet.defer import Deferred, ensureDeferred

from rt_twisted.codecs.eventsource import EventReader
from rt_twisted.model.message import GAP
from rt_twisted.tools.doctor import findings as of
from rt_twisted.tools.doctor.findings import CHECKS, Check, Finding, Verdict
from rt_twisted.tools.doctor.probe import ProbeConnection, ProbeTarget, Unreachable

MAX_DELAY = 0.5  # seconds from publishing to arrival that are no longer "at once"
FILLER = 32 * 1024  # bytes of each message that is pushed behind one that does not come
MAX_FILLER = 512 * 1024
LARGE = 1536 * 1024  # bytes of a request: nginx takes 1 MiB by default, the daemon 2

HINTS = {
    301: "use the URL it redirects to: %s",
    302: "use the URL it redirects to: %s",
    307: "use the URL it redirects to: %s",
    308: "use the URL it redirects to: %s",
    303: "the daemon redirects browsers when no channel is named",
    401: "the proxy requires a password, which EventSource cannot send",
    403: "the proxy refuses",
    404: "no such path at the proxy or the daemon: check location and route",
    429: "too many subscribers from this address: set trusted-proxies, for the real addresses",
    502: "the proxy does not reach the daemon",
    503: "the daemon or the proxy accepts no connections now",
    504: "the daemon did not respond to the proxy in time",
}


class ProxyCheck:
    """
    Run all checks on one URL.

    Args:
        target: the stream's URL.
        publishing: where to publish.
        key: the secret for publishing, or "".
        channel: the channel of the URL, if its route names it; "" to use test channels.
        watch_seconds: how long to watch a quiet stream.
    """

    def __init__(
        self, target: ProbeTarget, publishing: ProbeTarget, key: str, channel: str, patience: float
    ) -> None:
        self._target = target
        self._publishing = publishing
        self._key = key
        self._channel = channel
        self._watch_seconds = patience
        self._clock = target.reactor
        self._mark = f"doctor-{random.getrandbits(48):012x}"
        self._sent = 0
        self._connections: list[ProbeConnection] = []
        self._findings: dict[Check, Finding] = {}
        self._no_publishing = ""  # why nothing can be published
        self._receivers: object = None  # how many readers the last message had, if that was said

    async def run_all(self) -> list[Finding]:
        """
        Check all, in about as long as the patience lasts.

        Returns:
            a finding for each check, in the order of CHECKS.
        """
        try:
            await self._run_all()
        finally:
            for connection in self._connections:
                connection.close()
        return [self._findings[check] for check in CHECKS]

    def _record(self, check: Check, verdict: Verdict, detail: str) -> None:
        self._findings[check] = Finding(check, verdict, detail)

    async def _run_all(self) -> None:
        stream = await self._open_stream()
        if stream is None:
            self._skip_rest("not checked: there is no stream")
            return
        watching: Deferred[Any] | None = None
        if stream.head is not None:
            watching = ensureDeferred(self._run_check(of.IDLE, self._idle))
        try:
            await self._run_check(of.BUFFERING, lambda: self._buffering(stream))
            stream.close()
            flows = self._findings[of.BUFFERING].verdict is not Verdict.FAIL
            if self._no_publishing:
                self._record(of.RESUME, Verdict.SKIP, self._no_publishing)
                self._record(of.CACHE, Verdict.SKIP, self._no_publishing)
            else:
                await self._run_check(of.CACHE, self._cache)
            if flows and not self._no_publishing:
                await self._run_check(of.RESUME, self._resume)
            if flows:
                await self._run_check(of.COMPRESSION, self._compression)
            await self._run_check(of.KEEP_ALIVE, self._keep_alive)
            await self._run_check(of.SIZE, self._size)
            if watching is not None:
                await watching
        except BaseException:
            if watching is not None:
                watching.addErrback(lambda _: None)
                watching.cancel()
            raise
        self._skip_rest("not checked: no messages arrive")

    def _skip_rest(self, why: str) -> None:
        for check in CHECKS:
            if check not in self._findings:
                self._record(check, Verdict.SKIP, why)

    async def _run_check(self, check: Check, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Unreachable as error:
            self._record(check, Verdict.FAIL, f"a further connection was not possible: {error}")

    # The stream.

    def _path(self, channel: str, **more: str) -> str:
        """
        The URL's path, for a channel of ours unless it names its own.
        """
        parts = urlsplit(self._target.path)
        query = parse_qsl(parts.query, keep_blank_values=True)
        if not self._channel:
            query = [(name, value) for name, value in query if name != "channels"]
            query.append(("channels", channel))
        query += more.items()
        return urlunsplit(("", "", parts.path, urlencode(query), ""))

    async def _open(
        self, channel: str, headers: dict[str, str] | None = None, **more: str
    ) -> ProbeConnection:
        wanted = {"Accept": "text/event-stream", "Cache-Control": "no-cache", **(headers or {})}
        connection = await self._target.send_request("GET", self._path(channel, **more), wanted)
        self._connections.append(connection)
        return connection

    async def _open_stream(self) -> ProbeConnection | None:
        """
        Reach it, and judge the head.

        Returns:
            a stream, its head there unless a proxy holds it back; None if there is none.
        """
        began = self._clock.seconds()
        try:
            connection = await self._open(self._name("a"))
        except Unreachable as error:
            self._record(of.REACH, Verdict.FAIL, str(error))
            return None
        seconds = self._clock.seconds() - began
        await connection.answered()
        if connection.head is None and connection.closed is not None:
            broken = connection.reason.startswith("TLS")
            self._record(
                of.REACH, Verdict.FAIL if broken else Verdict.OK, connection.reason or "connected"
            )
            if not broken:
                self._record(
                    of.STATUS, Verdict.FAIL, f"closed without a response: {connection.reason}"
                )
            return None
        self._record(of.REACH, Verdict.OK, f"connected in {seconds * 1e3:.0f} ms")
        head = connection.head
        if head is None:
            # A proxy that waits for more of the body holds the head back with it, but
            # there is no body to wait for when only the head is asked for.
            bare = await self._target.send_request("HEAD", self._path(self._name("a")))
            self._connections.append(bare)
            await bare.answered()
            head = bare.head
        timeout = self._target.timeout
        if head is None:
            self._record(of.STATUS, Verdict.FAIL, f"no response in {timeout:g} s")
            return None
        if head.status != 200:
            hint = HINTS.get(head.status, "see the proxy's log, then the daemon's")
            hint = hint.replace("%s", head.header("location") or "")
            self._record(of.STATUS, Verdict.FAIL, f"{head.status}: {hint}")
            return None
        if connection.head is not None and head.header("content-length") is not None:
            await connection.finished()
            if connection.retry_only is not None:
                detail = (
                    f"200, but only with retry={connection.retry_only:g} s: "
                    "the daemon accepts no subscriber now"
                )
                self._record(
                    of.STATUS, Verdict.FAIL, f"{detail} (max-readers, or too many at once)"
                )
                return None
        held = (
            ""
            if connection.head is not None
            else f", but to HEAD only: GET is silent for {timeout:g} s"
        )
        self._record(of.STATUS, Verdict.OK, f"200{held}")
        media = (head.header("content-type") or "none").strip()
        good = media.partition(";")[0].strip().lower() == "text/event-stream"
        self._record(of.CONTENT_TYPE, Verdict.OK if good else Verdict.FAIL, media)
        if not good:
            return None
        self._findings[of.HTTP] = of.judge_version(head)
        self._findings[of.HEADERS] = of.judge_headers(head, bare=connection.head is None)
        return connection

    # Messages.

    def _name(self, suffix: str) -> str:
        return self._channel or f"{self._mark}-{suffix}"

    def _text(self) -> str:
        self._sent += 1
        return f"{self._mark} {self._sent}"

    async def _publish(self, channel: str, text: str) -> str:
        """
        Publish *text* on *channel*.

        Returns:
            "" or why it did not go.
        """
        body = json.dumps({"channel": channel, "message": text}).encode()
        try:
            connection = await self._publishing.send_request(
                "POST", self._publishing.path, self._headers("application/json"), body
            )
        except Unreachable as error:
            return f"cannot publish: {error}"
        self._connections.append(connection)
        await connection.finished()
        connection.close()
        head = connection.head
        if head is not None and head.status == 200:
            self._receivers = _receivers(connection.body)
            return ""
        if head is None:
            return f"cannot publish: no response from {self._publishing.url}"
        hint = {
            401: "a KEY is needed, or this one is wrong",
            403: "a KEY is needed, or this one does not permit publishing",
            404: "publishing has another URL: set --publish URL",
            405: "publishing has another URL: set --publish URL",
        }.get(head.status, "")
        return f"cannot publish, status {head.status}: {hint}".rstrip(": ")

    def _headers(self, media: str) -> dict[str, str]:
        fields = {"Content-Type": media}
        if self._key:
            fields["Authorization"] = f"Bearer {self._key}"
        return fields

    async def _buffering(self, connection: ProbeConnection) -> None:
        timeout = self._target.timeout
        early = await connection.until(lambda: bool(connection.arrivals))
        first = (connection.arrivals or [0])[0] - connection.began
        start = f"the first bytes came after {first * 1e3:.0f} ms"
        if not early:
            start = f"the first bytes did not come in {timeout:g} s"
        text = self._text()
        sent = self._clock.seconds()
        self._no_publishing = await self._publish(self._name("a"), text)
        if self._no_publishing:
            if early:
                detail = f"{start}; not checked further: {self._no_publishing}"
                self._record(of.BUFFERING, Verdict.SKIP, detail)
            else:
                self._record(of.BUFFERING, Verdict.FAIL, start)
            return
        if await connection.until(lambda: text in connection.texts):
            took = next(when for when, event in connection.events if event.data == text) - sent
            late = took > MAX_DELAY or not early
            detail = f"{start}, a message {took * 1e3:.0f} ms after it was published"
            self._record(of.BUFFERING, Verdict.WARN if late else Verdict.OK, detail)
            return
        if connection.closed is not None:
            self._record(
                of.BUFFERING, Verdict.FAIL, f"cut before a message came: {connection.reason}"
            )
            return
        if self._receivers == 0:
            detail = (
                f"{start}, a message never, as the daemon that took it sees no reader: the route "
                "names its channel itself (say which by --channel), or there are several daemons"
            )
            self._record(of.BUFFERING, Verdict.FAIL, detail)
            return
        pushed = 0
        while pushed < MAX_FILLER and text not in connection.texts and connection.closed is None:
            await self._publish(self._name("a"), f"{self._mark} filler ".ljust(FILLER, "."))
            pushed += FILLER
            await connection.until(lambda: text in connection.texts, 0.1)
        if text in connection.texts:
            detail = (
                f"{start}; a message came only when {pushed // 1024} KiB had been sent behind it"
            )
        else:
            detail = f"{start}, a message not either, nor {pushed // 1024} KiB behind it"
        self._record(of.BUFFERING, Verdict.FAIL, detail)

    async def _compression(self) -> None:
        connection = await self._open(self._name("z"), {"Accept-Encoding": "gzip, deflate"})
        if not await connection.answered() or connection.head is None:
            self._record(of.COMPRESSION, Verdict.FAIL, "no response when gzip is accepted")
            return
        coding = connection.head.header("content-encoding")
        if coding in (None, "", "identity"):
            self._record(
                of.COMPRESSION, Verdict.OK, "not compressed, even if the client accepts it"
            )
            return
        if self._no_publishing:
            detail = f"compressed with {coding}; its delay was not measured"
            self._record(of.COMPRESSION, Verdict.WARN, detail)
            return
        text = self._text()
        # The head may be there before the daemon has been asked at all.
        await connection.until(lambda: bool(connection.arrivals))
        sent = self._clock.seconds()
        await self._publish(self._name("z"), text)
        if await connection.until(lambda: text in connection.texts):
            took = self._clock.seconds() - sent
            detail = f"compressed with {coding}; a message comes after {took * 1e3:.0f} ms"
            self._record(of.COMPRESSION, Verdict.WARN, detail)
        else:
            detail = f"compressed with {coding}, and messages no longer arrive"
            self._record(of.COMPRESSION, Verdict.FAIL, detail)

    async def _resume(self) -> None:
        channel = self._name("r")
        first, *missed = [self._text() for _ in range(4)]
        connection = await self._open(channel)
        await connection.until(lambda: bool(connection.arrivals))
        await self._publish(channel, first)
        if not await connection.until(lambda: first in connection.texts) or not connection.last_id:
            self._record(of.RESUME, Verdict.SKIP, "no event with an id arrived")
            return
        last_id = connection.last_id
        connection.close()
        for text in missed[:-1]:
            await self._publish(channel, text)
        found = await self._reconnect(channel, missed, {"Last-Event-ID": last_id})
        if found.verdict is Verdict.FAIL:
            # Is it the header, or the history?
            missed.append(self._text())
            again = await self._reconnect(channel, missed, None, lastEventId=last_id)
            if again.verdict is Verdict.OK:
                detail = "the header Last-Event-ID is stripped: the same id in the URL works"
                found = Finding(of.RESUME, Verdict.FAIL, detail)
        self._findings[of.RESUME] = found

    async def _reconnect(
        self, channel: str, missed: list[str], headers: dict[str, str] | None, **more: str
    ) -> Finding:
        connection = await self._open(channel, headers, **more)
        # What comes before the live message is the replay; so nothing waits for what never comes.
        await connection.until(lambda: bool(connection.arrivals))
        await self._publish(channel, missed[-1])
        await connection.until(lambda: missed[-1] in connection.texts)
        gap = any(event.type == GAP for _, event in connection.events)
        connection.close()
        ours = [text for text in connection.texts if text.startswith(self._mark)]
        return of.judge_resume(missed, ours, gap)

    # Requests.

    async def _keep_alive(self) -> None:
        request = self._target.request("HEAD", self._path(self._name("k")))
        connection = await self._target.connect()
        self._connections.append(connection)
        for turn in ("first", "second"):
            connection.send(request, "HEAD")
            if not await connection.answered():
                cut = turn == "second" and connection.closed is not None
                verdict = Verdict.WARN if cut else Verdict.SKIP
                self._record(of.KEEP_ALIVE, verdict, f"the {turn} request got no response")
                return
            if not connection.keeps_alive:
                self._record(
                    of.KEEP_ALIVE, Verdict.WARN, "the connection is closed after each response"
                )
                return
        self._record(of.KEEP_ALIVE, Verdict.OK, "a second request went over the same connection")
        connection.close()

    async def _size(self) -> None:
        # It names no channel: the daemon reads all of it, and publishes nothing.
        body = b"x=" + b"x" * (LARGE - 2)
        connection = await self._publishing.send_request(
            "POST",
            urlsplit(self._publishing.path).path,
            self._headers("application/x-www-form-urlencoded"),
            body,
        )
        self._connections.append(connection)
        await connection.answered()
        head = connection.head
        connection.close()
        size = f"{LARGE / 1024 / 1024:g} MiB"
        if head is None:
            detail = (
                f"a request of {size} got no response: {connection.reason or 'nothing arrived'}"
            )
            self._record(of.SIZE, Verdict.WARN, detail)
        elif head.status == 400:
            self._record(of.SIZE, Verdict.OK, f"a request of {size} reaches the daemon")
        elif head.status == 413:
            self._record(of.SIZE, Verdict.WARN, f"a request of {size} is too large (413)")
        else:
            detail = (
                f"status {head.status}: {self._no_publishing or 'not a response of the daemon'}"
            )
            self._record(of.SIZE, Verdict.SKIP, detail)

    async def _cache(self) -> None:
        """
        The same URL twice, for a stream that ends by itself, with something new in between.
        """
        channel = self._name("c")
        answers = []
        for _ in range(2):
            text = self._text()
            await self._publish(channel, text)
            connection = await self._open(channel, since="all", evs_buffer_size_limit="1")
            if not await connection.finished() or connection.head is None:
                self._record(of.CACHE, Verdict.SKIP, "the test stream did not end")
                return
            answers.append(_texts(connection.body))
            connection.close()
            head = connection.head
        caches = [
            head.header(name) or "" for name in ("x-cache", "x-cache-status", "cf-cache-status")
        ]
        hit = any("hit" in each.lower() for each in caches) or (head.header("age") or "0") != "0"
        if text not in answers[1] or hit:
            self._record(
                of.CACHE, Verdict.FAIL, "the second response is a cached copy of the first"
            )
        else:
            self._record(of.CACHE, Verdict.OK, "two requests of one URL got two responses")

    async def _idle(self) -> None:
        connection = await self._open(self._name("i"))
        await connection.until(lambda: connection.done, self._watch_seconds)
        if connection.opened is None:
            self._record(of.IDLE, Verdict.SKIP, "the stream to watch was not opened")
            return
        now = self._clock.seconds()
        closed = connection.closed or (now if connection.done else None)
        self._findings[of.IDLE] = of.judge_idle(connection.opened, connection.arrivals, closed, now)


def _receivers(answer: bytes | bytearray) -> object:
    try:
        return json.loads(answer)["receivers"]
    except (ValueError, TypeError, KeyError):
        return None


def _texts(body: bytes | bytearray) -> list[str]:
    return [event.data for event in EventReader().feed(bytes(body))]
