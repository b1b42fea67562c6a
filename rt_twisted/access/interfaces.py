"""
Interfaces of the access check.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from rt_twisted.access.grants import Grant
from rt_twisted.model.errors import HttpError


class ITokenVerifier(Interface):
    """
    Turns a token into a grant.
    """

    now = Attribute("Callable[[], float]: returns Unix time.")
    leeway = Attribute("float: seconds after its `exp` for which a token is still valid.")

    def verify(token: str) -> Grant:
        """
        Return the grant of *token*.

        Raises:
            HttpError: 401, it is not valid; the reason has no secrets.
        """


class IAuthorizer(Interface):
    """
    Asks the application.
    """

    url = Attribute("HttpUrl: that is asked.")
    now = Attribute("Callable[[], float]: returns Unix time.")

    def ask(question: Any) -> Deferred[Any]:
        """
        Return the `AppAnswer` to a `Question`; the Deferred may be cancelled.

        Returns:
            fails with HttpError: 503, there is no answer; 400, it cannot be asked.
        """

    def unusable(reason: str) -> HttpError:
        """
        Return the error for a client whose answer cannot be used, and log *reason*.
        """
