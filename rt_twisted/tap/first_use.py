"""
The parts of the daemon that are loaded when they are first used, and when that is too late.
"""

from __future__ import annotations

from pathlib import Path

import rt_twisted
from rt_twisted.formats import FORMATS
from rt_twisted.model.load_object import load_object
from rt_twisted.tap.options import Options

PARTS = (
    "multipart",
    "rt_twisted.actions.prometheus",
    "rt_twisted.http.h2",
    "rt_twisted.rtmp.tunnel_action",
    "twisted.internet.endpoints",
    "twisted.internet.ssl",
    *FORMATS.values(),
)
_READ, _SEARCH = 0o4, 0o1  # of all users


def loads_all(options: Options) -> bool:
    """
    Return whether everything has to be loaded at the start: later, this process cannot read its
    own modules, in a --chroot or as the user of --uid.
    """
    twistd = options.twistd or {}
    if twistd.get("chroot"):
        return True
    if twistd.get("uid") is None:
        return False
    file = Path(rt_twisted.__file__).resolve()
    folders = all(folder.stat().st_mode & _SEARCH for folder in file.parents)
    return not (folders and file.stat().st_mode & _READ)


def load_all() -> None:
    """
    Load the PARTS that are installed.
    """
    for name in PARTS:
        try:
            load_object(name)
        except ValueError:
            if name != "rt_twisted.http.h2":  # its library is optional
                raise
