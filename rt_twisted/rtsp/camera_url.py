"""
The URLs of cameras, and of their tracks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

_URL = re.compile(r"(rtsps?)://(.+)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s]+)(?::(\d{1,5}))?([/?].*)?", re.DOTALL)
_PORTS = {"rtsp": 554, "rtsps": 322}


@dataclass(frozen=True, slots=True)
class CameraUrl:
    """
    Where a camera is fetched from.

    Args:
        secure: by TLS.
        host: a name or an address.
        port: of TCP.
        url: without user and password, as requests have it.
        user: "" for none.
        password: likewise.
    """

    secure: bool
    host: str
    port: int
    url: str
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """
        Return host and port, for log lines.
        """
        return f"{self.host}:{self.port}"


def parse_camera_url(text: str) -> CameraUrl:
    """
    Parse the URL of a camera. User and password end at the last `@`, and are percent-decoded.

    Raises:
        ValueError: the end of the sentence "source= must be ...".
    """
    found = _URL.fullmatch(text.strip())
    if found is None:
        raise ValueError("a URL that begins with rtsp:// or rtsps://")
    scheme, rest = found[1].lower(), found[2]
    login, at, place = rest.rpartition("@")
    if at and "/" in login and ":" not in login.partition("/")[0]:
        login, place = "", rest  # the @ belongs to the path
    where = _HOST.fullmatch(place)
    port = int(where[2] or _PORTS[scheme]) if where is not None else 0
    if where is None or not 0 < port < 65536:
        raise ValueError("a URL with a host and a valid port")
    user, _, password = login.partition(":")
    return CameraUrl(
        scheme == "rtsps",
        where[1].strip("[]"),
        port,
        f"{scheme}://{place}",
        unquote(user),
        unquote(password),
    )


def join_control(base: str, control: str) -> str:
    """
    Return the URL of a track, or of the whole presentation.

    Args:
        base: of the presentation: its Content-Base, or the URL of the DESCRIBE.
        control: of `a=control`; "" and `*` stand for *base* itself.
    """
    if control in ("", "*"):
        return base
    if re.match(r"rtsps?://", control, re.IGNORECASE):
        return control
    return f"{base}{'' if base.endswith('/') else '/'}{control.removeprefix('/')}"
