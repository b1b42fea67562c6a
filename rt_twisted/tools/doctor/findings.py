"""
Checks of the doctor: reasons, fixes and verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from rt_twisted.codecs.response import ReceivedHead


class Verdict(Enum):
    """
    Result of a check, the best first.
    """

    OK = "ok"
    SKIP = "skip"  # it could not be checked
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """
    Something that a proxy can do wrong.

    Args:
        name: one word, or two.
        why: one sentence on the effect for subscribers.
        nginx: the setting that fixes it.
        haproxy: the same.
    """

    name: str
    why: str
    nginx: str
    haproxy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Result of one check.

    Args:
        check: that was run.
        verdict: its result.
        detail: what was measured; one sentence.
    """

    check: Check
    verdict: Verdict
    detail: str


REACH = Check(
    "reach",
    "Clients cannot subscribe to what they cannot reach.",
    "listen 443 ssl; server_name HOST; ssl_certificate FULLCHAIN;",
    "bind :443 ssl crt FULLCHAIN_AND_KEY",
)
STATUS = Check(
    "status",
    "A browser's EventSource never reconnects after a status other than 200.",
    "proxy_pass http://127.0.0.1:8888/;  # where the daemon listens",
    "server daemon 127.0.0.1:8888  # where the daemon listens",
)
CONTENT_TYPE = Check(
    "content type",
    "A browser's EventSource never reconnects after a type other than text/event-stream.",
    "no proxy_hide_header Content-Type; no error_page in this location",
    "no http-response set-header Content-Type",
)
HTTP = Check(
    "http version",
    "HTTP/1.0 has no chunks and no kept connections: each request needs a new one, and the "
    "end of a stream cannot be distinguished from a lost connection.",
    'proxy_http_version 1.1; proxy_set_header Connection "";',
    "nothing: haproxy sends HTTP/1.1; check the proxy in front of it",
)
HEADERS = Check(
    "headers",
    "Without Cache-Control: no-cache, no-transform a proxy may cache or compress the stream.",
    "no proxy_hide_header Cache-Control; expires off;",
    "no http-response del-header, set-header or replace-header on Cache-Control",
)
BUFFERING = Check(
    "buffering",
    "Messages that a proxy buffers arrive late, or never.",
    "proxy_buffering off; proxy_http_version 1.1;  # and no proxy_ignore_headers X-Accel-Buffering",
    "no http-response wait-for-body",
)
COMPRESSION = Check(
    "compression",
    "A compressor buffers messages, and takes memory for each subscriber.",
    "gzip off;  # or text/event-stream out of gzip_types",
    "no text/event-stream in compression type",
)
RESUME = Check(
    "resume",
    "A subscriber that reconnects must receive what it missed, or messages are lost unnoticed.",
    "proxy_set_header Last-Event-ID $http_last_event_id;",
    "no http-request del-header Last-Event-ID; several daemons need a common broker",
)
KEEP_ALIVE = Check(
    "keep-alive",
    "A publisher that opens a connection for each message is slow, with TLS even more.",
    "keepalive_timeout 75s;",
    "option http-keep-alive  # not option httpclose",
)
SIZE = Check(
    "request size",
    "The proxy refuses messages and batches that the daemon accepts.",
    "client_max_body_size 2m;  # the daemon's max-body",
    "no rule on req.body_size below 2097152, the daemon's max-body",
)
CACHE = Check(
    "caching",
    "A cached response has old messages, and those of another subscriber.",
    "proxy_cache off;  # and no proxy_ignore_headers Cache-Control",
    "no http-request cache-use, no http-response cache-store",
)
IDLE = Check(
    "idle streams",
    "A proxy that closes quiet streams makes their clients reconnect again and again.",
    "proxy_read_timeout 75s;  # more than twice the daemon's heartbeat",
    "timeout server 75s  # more than twice the daemon's heartbeat",
)

CHECKS = (
    REACH,
    STATUS,
    CONTENT_TYPE,
    HTTP,
    HEADERS,
    BUFFERING,
    COMPRESSION,
    RESUME,
    KEEP_ALIVE,
    SIZE,
    CACHE,
    IDLE,
)  # in the order of the report


def worst(findings: Iterable[Finding]) -> Verdict:
    """
    Return the worst verdict; OK if there is nothing worse than a skip.
    """
    order = list(Verdict)
    found = max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)
    return Verdict.OK if found is Verdict.SKIP else found


def as_text(findings: Iterable[Finding]) -> str:
    """
    Format the findings as text, with fixes for warnings and failures.
    """
    lines = []
    for finding in findings:
        check = finding.check
        lines.append(f"{finding.verdict.value:<5} {check.name:<13} {finding.detail}")
        lines.append(f"{'':<19} {check.why}")
        if finding.verdict in (Verdict.WARN, Verdict.FAIL):
            lines.append(f"{'':<19} nginx:   {check.nginx}")
            lines.append(f"{'':<19} haproxy: {check.haproxy}")
    return "\n".join(lines) + "\n"


def as_dicts(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """
    Return the findings as dictionaries, ready for JSON.
    """
    return [
        {
            "check": finding.check.name,
            "verdict": finding.verdict.value,
            "said": finding.detail,
            "why": finding.check.why,
            "nginx": finding.check.nginx,
            "haproxy": finding.check.haproxy,
        }
        for finding in findings
    ]


def judge_version(head: ReceivedHead) -> Finding:
    """
    Judge the HTTP version, as far as it is visible.
    """
    via = head.header("via") or ""
    if head.version == "1.0":
        return Finding(HTTP, Verdict.WARN, "the response is HTTP/1.0")
    if any(each.split()[:1] in (["1.0"], ["HTTP/1.0"]) for each in via.split(",")):
        return Finding(HTTP, Verdict.WARN, f"a proxy on the way received HTTP/1.0: {via}")
    detail = (
        f"HTTP/{head.version} to here; the version between nginx and the daemon is not visible: "
        "1.0 unless proxy_http_version is 1.1"
    )
    return Finding(HTTP, Verdict.SKIP, detail)


def judge_headers(head: ReceivedHead, bare: bool) -> Finding:
    """
    Judge whether the headers are those of the daemon.

    Args:
        head: of the response.
        bare: the response is to HEAD, so a Content-Length is not an error.
    """
    cache = (head.header("cache-control") or "").lower().replace(" ", "").split(",")
    missing = [word for word in ("no-cache", "no-transform") if word not in cache]
    others = [word for word in cache if word.startswith(("max-age", "public", "s-maxage"))]
    if not bare and head.header("content-length") is not None:
        return Finding(HEADERS, Verdict.FAIL, "a Content-Length on a stream that does not end")
    if others:
        detail = f"Cache-Control was rewritten: {', '.join(others)}"
        return Finding(HEADERS, Verdict.FAIL, detail)
    if missing:
        detail = f"Cache-Control was stripped of {' and '.join(missing)}"
        return Finding(HEADERS, Verdict.WARN, detail)
    removed = head.header("x-accel-buffering") is None
    detail = "X-Accel-Buffering was taken out, as nginx does" if removed else "all are the daemon's"
    return Finding(HEADERS, Verdict.OK, f"Cache-Control is whole; {detail}")


def judge_idle(opened: float, arrivals: list[float], closed: float | None, now: float) -> Finding:
    """
    Judge what happened to a stream on which nothing was published.

    Args:
        opened: when its head arrived.
        arrivals: when data arrived, including the start of the stream.
        closed: when it was closed, if it was.
        now: when the observation ended.
    """
    moments = [opened, *arrivals]
    # What comes at once with the head is the start of the stream, not a heartbeat.
    beats = [moment for moment in arrivals if moment - opened > 0.5]
    pauses = [later - earlier for earlier, later in pairwise(beats)]
    if closed is not None:
        quiet, whole = closed - moments[-1], closed - opened
        if pauses and quiet < max(pauses) * 0.9:
            detail = (
                f"cut after {whole:.1f} s although heartbeats came: something bounds its whole life"
            )
        else:
            detail = f"cut after {quiet:.1f} s of silence"
        return Finding(IDLE, Verdict.FAIL, detail)
    watched = now - opened
    if beats:
        often = f"the longest silence was {max(pauses):.1f} s" if pauses else "one came"
        detail = f"{len(beats)} heartbeats in {watched:.0f} s, {often}; not cut"
        return Finding(IDLE, Verdict.OK, detail)
    if watched > 45:  # the daemon's default is a heartbeat in 30 s
        return Finding(IDLE, Verdict.WARN, f"no heartbeat in {watched:.0f} s; not cut")
    return Finding(
        IDLE, Verdict.SKIP, f"not cut in {watched:.0f} s, and no heartbeat: --patience 75 sees more"
    )


def judge_resume(missed: list[str], got: list[str], gap: bool) -> Finding:
    """
    Judge what a subscriber received after it reconnected with a Last-Event-ID.

    Args:
        missed: what was published while it was disconnected, and one message afterwards.
        got: what it received up to that last one.
        gap: whether a gap was reported.
    """
    if got == missed and not gap:
        return Finding(RESUME, Verdict.OK, "the subscriber received exactly what it had missed")
    if gap:
        detail = "it got a gap at once: another daemon answered, or history is off"
    elif set(got) > set(missed):
        detail = "the subscriber received messages again that it already had"
    elif len(got) < len(missed):
        detail = (
            "messages published during the disconnect did not arrive: Last-Event-ID was ignored"
        )
    else:
        detail = f"other messages than the missed ones arrived, or in another order: {len(got)}"
    return Finding(RESUME, Verdict.FAIL, detail)
