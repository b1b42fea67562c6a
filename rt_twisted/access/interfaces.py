"""
Interfaces of the access check.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

from rt_twisted.access.grants import Grant


class ITokenVerifier(Interface):
    """
    Turns a token into a grant.
    """

    now = Attribute("Callable[[], float]: returns Unix time.")

    def verify(token: str) -> Grant:
        """
        Return the grant of *token*.

        Raises:
            HttpError: 401, it is not valid; the reason has no secrets.
        """
