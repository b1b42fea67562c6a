"""
The methods of actions that serve every request, whatever its method.
"""

from __future__ import annotations


class _AnyMethod(tuple[str, ...]):
    """
    Contains every method, and iterates over the common ones.
    """

    def __contains__(self, method: object) -> bool:
        return True


ANY_METHOD = _AnyMethod(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
