"""
Whether the packages on disk are still those with which this process began.

Parts of the daemon are imported when they are first used. After an upgrade of a package on
disk, such a part would be of the new version, and the rest of the process of the old one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

# This package, and those of whose modules some may be imported late.
PACKAGES = (
    *("rt_twisted", "OpenSSL", "cryptography", "h2", "hpack", "hyperframe", "jwt", "multipart"),
    *("prometheus_client", "twisted", "txamqp", "txredisapi", "websockets", "zope.interface"),
)

_Identity = tuple[int, int, int]  # device, inode and time of the last change


class InstalledPackages:
    """
    The packages as they are on disk when this is built.

    Args:
        names: of packages; those that are not installed are left out.
    """

    def __init__(self, names: Iterable[str] = PACKAGES) -> None:
        self._files: Mapping[str, tuple[str, _Identity | None]] = {
            name: (path, _identity(path)) for name in names if (path := _path_of(name)) is not None
        }

    def changed(self) -> list[str]:
        """
        Return the names of packages that have been replaced or removed since.
        """
        return [name for name, (path, was) in self._files.items() if _identity(path) != was]


def _path_of(name: str) -> str | None:
    try:
        spec = find_spec(name)
    except ImportError:
        return None
    return spec.origin if spec is not None else None


def _identity(path: str) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


AT_START = InstalledPackages()
