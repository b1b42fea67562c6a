"""
File names that clients propose, made safe for Linux, macOS and Windows.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

MAX_NAME = 200  # bytes in UTF-8; file systems allow 255, and a label may be added
MAX_SUFFIX = 20  # bytes of an extension that is kept if the name is cut
UNNAMED = "unnamed"  # in place of a name of which nothing is left

_SEPARATOR = re.compile(r"[/\\]")
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # on Windows
_LEADING = ". -~"  # hidden files, options of commands, home folders
_TRAILING = ". "  # Windows removes them
# Names of devices on Windows, with any extension.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.I)
_BLANKS = dict.fromkeys(map(ord, "\u115f\u1160\u2800\u3164\uffa0"), " ")  # letters without ink


def safe_name(text: str) -> str:
    """
    Return a visible file name for *text*, which a client proposes.

    A folder in front is removed: `a/b` and `a\\b` are `b`. Characters that cannot be seen or that
    a system forbids are replaced by `_`, leading dots removed, device names of Windows changed.

    Returns:
        at most MAX_NAME bytes in UTF-8, never empty. A name that is safe is not changed.
    """
    name = unicodedata.normalize("NFC", _SEPARATOR.split(text)[-1]).translate(_BLANKS)
    name = _FORBIDDEN.sub("_", "".join(map(_visible, name)))
    name = name.lstrip(_LEADING).rstrip(_TRAILING)
    if _DEVICE.match(name):
        name = "_" + name
    return _cut(name) or UNNAMED


def labeled_name(name: str, label: str) -> str:
    """
    Return a safe *name* with *label* before its extension: `photo-2.jpg`.
    """
    stem, suffix = _split(name)
    return f"{stem}-{label}{suffix}"


def header_name(value: str) -> str:
    """
    Return the file name in the value of a header, as `IExchange.header` returns it.

    Pages send a name that is not ASCII by `encodeURIComponent`, programs as it is, in UTF-8 or
    Latin-1.
    """
    raw = value.encode("latin-1", "replace")
    for data in (unquote_to_bytes(raw), raw):
        try:
            return data.decode()
        except UnicodeDecodeError:
            continue
    return value


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "Z":
        return " "
    # Controls, directions of text, surrogates and characters without a meaning.
    return "_" if category[0] == "C" else character


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) >= MAX_SUFFIX:
        return name, ""
    return stem, dot + suffix


def _cut(name: str) -> str:
    if len(name.encode()) <= MAX_NAME:
        return name
    stem, suffix = _split(name)
    stem = stem.encode()[: MAX_NAME - len(suffix.encode())].decode(errors="ignore")
    return stem.rstrip(_TRAILING) + suffix
