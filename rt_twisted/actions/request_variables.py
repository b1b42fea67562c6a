"""
uWSGI's variables of a request, by name: `${PATH_INFO}`, `${HTTP_X_USER}`, `${qs[name]}`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol

from rt_twisted.codecs.authority import split_authority
from rt_twisted.codecs.route_texts import UUID, split_key
from rt_twisted.model.errors import HttpError


class VariableSource(Protocol):
    """
    The part of a request that variables are read from: an `IExchange`, or `RoutedRequest`.
    """

    @property
    def method(self) -> str:
        """
        The request method, in upper case.
        """

    @property
    def path(self) -> str:
        """
        The path, percent-decoded, without query.
        """

    @property
    def query_string(self) -> str:
        """
        The query, as received.
        """

    @property
    def target(self) -> bytes:
        """
        The request target, as received.
        """

    @property
    def version(self) -> str:
        """
        The version of HTTP.
        """

    @property
    def address(self) -> str:
        """
        The client's address.
        """

    @property
    def scheme(self) -> str:
        """
        Either http or https.
        """

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case); None if it was not sent.
        """

    def query(self) -> Mapping[str, list[str]]:
        """
        Return the fields of the query.
        """

    def cookies(self) -> Mapping[str, str]:
        """
        Return the cookies by name.
        """


Reader = Callable[[VariableSource], str]


class RoutedRequest:
    """
    A request whose action is looked up, which may be by another method or path.

    Args:
        method: that is looked up.
        path: that is looked up, percent-decoded.
        exchange: the `IExchange` of the client; None if there is none.

    Attributes:
        error: why a variable could not be read; None if all could be.
    """

    __slots__ = ("_exchange", "error", "method", "path")

    def __init__(self, method: str, path: str, exchange: VariableSource | None) -> None:
        self.method = method
        self.path = path
        self._exchange = exchange
        self.error: HttpError | None = None

    @property
    def target(self) -> bytes:
        """
        The request target; without the query if another path is looked up.
        """
        exchange = self._exchange
        if exchange is None or exchange.path != self.path:
            return self.path.encode()
        return exchange.target

    @property
    def query_string(self) -> str:
        """
        The query, as received.
        """
        return "" if self._exchange is None else self._exchange.query_string

    @property
    def version(self) -> str:
        """
        The version of HTTP.
        """
        return "" if self._exchange is None else self._exchange.version

    @property
    def address(self) -> str:
        """
        The client's address.
        """
        return "" if self._exchange is None else self._exchange.address

    @property
    def scheme(self) -> str:
        """
        Either http or https.
        """
        return "" if self._exchange is None else self._exchange.scheme

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case); None if it was not sent.
        """
        return None if self._exchange is None else self._exchange.header(name)

    def query(self) -> Mapping[str, list[str]]:
        """
        Return the fields of the query. One with too many fields has none, and sets `error`.
        """
        if self._exchange is None:
            return {}
        try:
            return self._exchange.query()
        except HttpError as error:
            self.error = error
            return {}

    def cookies(self) -> Mapping[str, str]:
        """
        Return the cookies by name.
        """
        return {} if self._exchange is None else self._exchange.cookies()


@cache
def variable_reader(name: str) -> Reader:
    """
    Return what reads the variable *name* of a request; "" if it is not set.

    Raises:
        ValueError: there can be no such variable.
    """
    known = _VARIABLES.get(name)
    if known is not None:
        return known
    keyed = split_key(name)
    if keyed is not None:
        return _keyed_reader(*keyed)
    if name.startswith("HTTP_"):
        header = name[5:].replace("_", "-").lower()
        return lambda request: request.header(header) or ""
    return _nothing


def make_uuid(request: object) -> str:
    """
    Return a new UUID.
    """
    return str(uuid.uuid4())


def _keyed_reader(name: str, key: str) -> Reader:
    if name == "qs":
        return lambda request: (request.query().get(key) or [""])[-1]
    if name == "cookie":
        return lambda request: request.cookies().get(key, "")
    raise ValueError(f"${{{name}[{key}]}} is not possible here: the grant is not known yet")


def _nothing(request: object) -> str:
    return ""


def _server(request: VariableSource) -> tuple[str, str]:
    """
    Return the host and the port that the client has named.
    """
    host, port = split_authority(request.header("host") or "")
    return host, port or ("443" if request.scheme == "https" else "80")


_VARIABLES: dict[str, Reader] = {
    "CONTENT_LENGTH": lambda request: request.header("content-length") or "",
    "CONTENT_TYPE": lambda request: request.header("content-type") or "",
    "HTTPS": lambda request: "on" if request.scheme == "https" else "",
    "PATH_INFO": lambda request: request.path,
    "QUERY_STRING": lambda request: request.query_string,
    "REMOTE_ADDR": lambda request: request.address,
    "REQUEST_METHOD": lambda request: request.method,
    "REQUEST_SCHEME": lambda request: request.scheme,
    "REQUEST_URI": lambda request: request.target.decode("latin-1"),
    "SERVER_NAME": lambda request: _server(request)[0],
    "SERVER_PORT": lambda request: _server(request)[1],
    "SERVER_PROTOCOL": lambda request: f"HTTP/{request.version}",
    UUID: make_uuid,
}
