"""
Addresses of applications in route lines and settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.actions.template import Template
from rt_twisted.codecs.http_url import HttpUrl


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """
    Where an application listens.

    Args:
        urls: of its processes, which are used in turn.
        modifier1: of the uwsgi protocol.
        modifier2: likewise.
    """

    urls: tuple[HttpUrl, ...]
    modifier1: int = 0
    modifier2: int = 0


def parse_url(text: str) -> HttpUrl:
    """
    Parse `HOST:PORT`, `/PATH/OF.SOCKET`, `http://HOST:PORT` or `https://HOST:PORT`.

    Raises:
        ValueError: one sentence.
    """
    address = text
    if text.startswith("//"):  # what route = ^/ http://host:port has behind its word
        address = f"http:{text}"
    elif text.startswith("/"):
        address = f"http://unix:{text}:/"
    elif "://" not in text:
        address = f"http://{text}"
    try:
        url = HttpUrl.parse(address)
    except ValueError:
        expected = "HOST:PORT, /PATH/OF.SOCKET, http://HOST:PORT or https://HOST:PORT"
        if "," in text:  # as uWSGI's http:ADDRESS,HOST
            raise ValueError(f"write to=ADDRESS,host=NAME instead of {text!r}") from None
        raise ValueError(f"the address of an application is {expected}, not {text!r}") from None
    if url.target != "/":
        raise ValueError(f"{text!r}: the address of an application has no path")
    return url


def fixed_text(template: Template) -> str:
    """
    Return the text of *template*.

    Raises:
        ValueError: it has variables. A client could choose the address.
    """
    if not all(isinstance(part, str) for part in template.parts):
        raise ValueError(f"the address of an application cannot have variables: {template.source}")
    return template.source


def http_address(to: Sequence[Template]) -> UpstreamAddress:
    """
    Return the address that the arguments of `http:` name.

    Raises:
        ValueError: one sentence.
    """
    return UpstreamAddress(tuple(parse_url(fixed_text(each)) for each in to))


def uwsgi_address(to: Sequence[Template]) -> UpstreamAddress:
    """
    Return the address that the arguments of `uwsgi:` name: `HOST:PORT[,MODIFIER1[,MODIFIER2]]`.

    Raises:
        ValueError: one sentence.
    """
    urls = []
    modifiers = [0, 0]
    for each in to:
        text, *given = fixed_text(each).split(",")
        url = parse_url(text)
        if url.scheme == "https":
            raise ValueError(f"{text!r}: the uwsgi protocol has no TLS")
        if len(given) > 2 or not all(part.isdecimal() and int(part) < 256 for part in given):
            raise ValueError("uwsgi is 'HOST:PORT,MODIFIER1,MODIFIER2', with modifiers up to 255")
        urls.append(url)
        modifiers = [*map(int, given), 0, 0][:2]
    return UpstreamAddress(tuple(urls), *modifiers)
