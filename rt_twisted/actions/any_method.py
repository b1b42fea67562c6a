"""
The methods of actions that serve every request, whatever its method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

_COMMON = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class _AnyMethod(Collection[str]):
    """
    Contains every method, and iterates over the common ones.
    """

    def __contains__(self, method: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMON)

    def __len__(self) -> int:
        return len(_COMMON)


ANY_METHOD: Collection[str] = _AnyMethod()
