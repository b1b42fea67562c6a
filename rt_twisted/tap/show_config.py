"""
The settings in force, as `--show-config` shows them: with their origins and without secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rt_twisted.codecs.route_lines import mask_secrets
from rt_twisted.tap import values
from rt_twisted.tap.log_filter import printable
from rt_twisted.tap.setting_values import GivenValue
from rt_twisted.tap.settings import SECTIONS, Setting

MASK = "***"

_REFERENCE = re.compile(r"(?:file|env):\S+")  # where a secret is, not the secret itself
_WORDS_BEHIND_SECRET = (values.publish_key, values.token_key)  # channels, or an issuer
_NAMED_SECRET = re.compile(r"(?i)([\w-]*(?:key|secret|password|token)[\w-]*[= ]\s*)[^\s-]\S*")


def config_lines(found: Mapping[str, Sequence[GivenValue]]) -> Iterator[str]:
    """
    Yield the lines of a settings file that has every setting, with its origin as a comment.

    Args:
        found: of each setting what is in force; a setting without a value has its default.
    """
    for title, settings in SECTIONS:
        yield f"## {title}"
        for setting in settings:
            for each in found.get(setting.name) or [GivenValue(setting.default, "default")]:
                shown = f" {mask(setting, each.text)}" if each.text else ""
                yield f"{setting.name} ={shown} # {each.place}"


def mask(setting: Setting, text: str) -> str:
    """
    Return the *text* of a setting without secrets, in one line.

    A `file:` or `env:` reference to a secret is shown. Of a URL only the login and the query
    are hidden.
    """
    text = printable(" ".join(text.splitlines()))
    if setting.parse not in values.CONFIDENTIAL:
        return mask_secrets(
            _NAMED_SECRET.sub(rf"\1{MASK}", text) if setting.name == "helper" else text
        )
    first, *others = text.split()
    shown = first if _REFERENCE.fullmatch(first) else MASK
    if setting.parse in _WORDS_BEHIND_SECRET:
        return " ".join((shown, *others))
    if shown == first and not others:
        return shown
    if setting.name.endswith("-url") and "://" in text:
        return _mask_url(text)
    return MASK


def _mask_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    place, query, _ = place.partition("?")
    return f"{scheme}://{MASK + at if at else ''}{place}{query + MASK if query else ''}"
