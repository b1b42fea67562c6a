"""
The mounts of a server as icecast2 reports them to scripts and monitoring, in JSON and XML.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax import saxutils

SERVER_ID = "rt_twisted"
# What no document can have (XML 1.0, 2.2), escaped or not.
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_AUDIO_INFO = ("ice-bitrate", "ice-channels", "ice-samplerate")
_XML_ONLY = {"public": "public", "user_agent": "agent"}


@dataclass(frozen=True, slots=True)
class MountStatus:
    """
    One mount that has a source.

    Args:
        about: what the source says about itself, see `media.unit.Head`.
        listeners: now.
        started: when the source connected, in seconds since 1970.
        channels: of the audio; 0 if unknown.
        rate: samples per second; 0 if unknown.
        codec: see `media.unit.Track`.
        peak: of the listeners.
    """

    about: dict[str, str]
    listeners: int
    started: float
    channels: int
    rate: int
    codec: str
    peak: int = 0


@dataclass(frozen=True, slots=True)
class ShownListener:
    """
    A listener, as scripts see it.

    Args:
        id: no other listener has it.
        address: of the client.
        agent: header `User-Agent`.
        connected: seconds.
    """

    id: int
    address: str
    agent: str
    connected: int


def status_json(mounts: Sequence[MountStatus], base: str, started: float) -> bytes:
    """
    Return the status as `status-json.xsl` has it: `source` is an object for one mount, a list
    for several, and missing without any.

    Args:
        mounts: of the server.
        base: URL of the server without a slash at the end.
        started: when the server was started, in seconds since 1970.
    """
    stats = _server(base, started)
    sources = [_source(mount, base) for mount in mounts]
    if sources:
        stats["source"] = sources[0] if len(sources) == 1 else sources
    else:
        stats["dummy"] = None  # as in `_source`
    return json.dumps({"icestats": stats}).encode()


def stats_xml(mounts: Sequence[MountStatus], base: str, started: float) -> bytes:
    """
    Return the statistics as `/admin/stats` has them; see `status_json`.
    """
    total = sum([mount.listeners for mount in mounts])
    parts = [
        '<?xml version="1.0"?>\n<icestats>',
        _elements(_server(base, started) | {"listeners": total, "sources": len(mounts)}),
    ]
    for mount in mounts:
        parts.append(f"<source mount={_quoted(mount.about.get('mount', ''))}>")
        about = {name: mount.about.get(key) for name, key in _XML_ONLY.items()}
        parts.append(_elements(_source(mount, base) | about))
        parts.append("</source>")
    return "".join([*parts, "</icestats>\n"]).encode()


def mounts_xml(mounts: Sequence[MountStatus]) -> bytes:
    """
    Return the list of mounts as `/admin/listmounts` has it.
    """
    parts = ['<?xml version="1.0"?>\n<icestats>']
    now = time.time()
    for mount in mounts:
        parts.append(f"<source mount={_quoted(mount.about.get('mount', ''))}>")
        fields = {
            "fallback": "",
            "listeners": mount.listeners,
            "Connected": max(0, round(now - mount.started)),
            "content-type": mount.about.get("content_type", ""),
        }
        parts.append(_elements(fields) + "</source>")
    return "".join([*parts, "</icestats>\n"]).encode()


def listeners_xml(mount: str, listeners: Sequence[ShownListener]) -> bytes:
    """
    Return the listeners of a mount as `/admin/listclients` has them.

    Args:
        mount: its path.
        listeners: in order.
    """
    parts = [f'<?xml version="1.0"?>\n<icestats><source mount={_quoted(mount)}>']
    parts.append(_elements({"Listeners": len(listeners)}))
    for listener in listeners:
        fields = {
            "IP": listener.address,
            "UserAgent": listener.agent,
            "Connected": listener.connected,
            "ID": listener.id,
        }
        parts.append(f"<listener>{_elements(fields)}</listener>")
    return "".join([*parts, "</source></icestats>\n"]).encode()


def xspf(mount: MountStatus, base: str) -> bytes:
    """
    Return the playlist of one mount (XSPF 1).
    """
    about = mount.about
    notes = {
        "Stream Title": about.get("name"),
        "Stream Description": about.get("description"),
        "Content Type": about.get("content_type"),
        "Current Listeners": mount.listeners,
        "Stream Genre": about.get("genre"),
    }
    lines = [f"{name}: {value}" for name, value in notes.items() if value is not None]
    track = {
        "location": base + about.get("mount", ""),
        "title": about.get("title", ""),
        "annotation": "\n".join(lines),
    }
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<playlist xmlns="http://xspf.org/ns/0/" version="1">'
        f"<trackList><track>{_elements(track)}</track></trackList></playlist>\n"
    ).encode()


def response_xml(message: str, done: bool) -> bytes:
    """
    Return the response to a command.
    """
    return (
        f'<?xml version="1.0"?>\n<iceresponse><message>{_escaped(message)}</message>'
        f"<return>{int(done)}</return></iceresponse>\n"
    ).encode()


def _server(base: str, started: float) -> dict[str, object]:
    return {
        "admin": "",
        "host": base.partition("://")[2].rpartition(":")[0] or base.partition("://")[2],
        "location": "",
        "server_id": SERVER_ID,
        "server_start": _date(started),
        "server_start_iso8601": _iso(started),
    }


def _source(mount: MountStatus, base: str) -> dict[str, object]:
    about = mount.about
    found: dict[str, object] = {
        "audio_info": about.get("audio_info"),
        "bitrate": _number(about.get("bitrate", "")),
        "channels": mount.channels or None,
        "genre": about.get("genre", "various"),
        "listener_peak": mount.peak,
        "listeners": mount.listeners,
        "listenurl": base + about.get("mount", ""),
        "samplerate": mount.rate or None,
        "server_description": about.get("description", "Unspecified description"),
        "server_name": about.get("name", "Unspecified name"),
        "server_type": about.get("content_type"),
        "server_url": about.get("url"),
        "stream_start": _date(mount.started),
        "stream_start_iso8601": _iso(mount.started),
        "title": about.get("title"),
    }
    for pair in about.get("audio_info", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name in _AUDIO_INFO:  # butt names its bit rate only here
            found[name] = _number(value)
    found = {name: value for name, value in found.items() if value is not None}
    found["dummy"] = None  # icecast2 has it, and scripts rely on the shape
    return found


def _elements(fields: Mapping[str, object]) -> str:
    return "".join(
        [
            f"<{name}>{_escaped(str(value))}</{name}>"
            for name, value in fields.items()
            if value is not None
        ]
    )


def _escaped(text: str) -> str:
    return saxutils.escape(_NO_XML.sub("?", text))


def _quoted(text: str) -> str:
    return saxutils.quoteattr(_NO_XML.sub("?", text))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _date(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S %z", time.localtime(seconds))


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
