"""
Keys of live publishers: where they may be, and how a publisher without one is challenged.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

import pytest

from rt_twisted.access.keys import Key, Keys
from rt_twisted.model.errors import HttpError

KEYS = Keys([Key.of("se:cret", ["cam*"]), Key.of("ключ")])


def basic(password: str, user: str = "source") -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class PublisherStub:
    """
    The request of a publisher.
    """

    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, list[str]] = field(default_factory=dict)
    local: bool = False

    def header(self, name: str) -> str | None:
        return {"host": "a", **self.headers}.get(name)

    def query(self) -> dict[str, list[str]]:
        return self.fields


@pytest.mark.parametrize(
    "request_",
    [
        PublisherStub({"authorization": basic("se:cret")}),
        PublisherStub({"authorization": basic("se:cret", "")}),
        PublisherStub({"authorization": basic("ключ")}),
        PublisherStub({"authorization": "Bearer se:cret"}),
        PublisherStub({"x-publish-key": "se:cret"}),
        PublisherStub({}, {"key": ["se:cret"]}),
        PublisherStub({}, {"key": ["ключ"]}),
        # A proxy with passwords of its own passes them on.
        PublisherStub({"x-publish-key": "se:cret", "authorization": basic("proxy")}),
        PublisherStub({"authorization": basic("proxy")}, {"key": ["se:cret"]}),
        PublisherStub({"authorization": basic("se:cret"), "origin": "http://a"}),
        PublisherStub({"authorization": "Bearer se:cret", "origin": "http://other"}),
    ],
)
def test_a_key_may_be_in_four_places(request_: PublisherStub) -> None:
    """
    The key is a password with any user name, a bearer token, a header or a field of the query.
    """
    assert KEYS.authorize_live(request_, ["cam1"]).permits("cam1")


@pytest.mark.parametrize(
    "request_",
    [
        PublisherStub(),
        PublisherStub(local=True),
        PublisherStub({"authorization": basic("wrong")}),
        PublisherStub({"authorization": basic("")}),
        PublisherStub({"authorization": "Basic !"}),
        PublisherStub({"authorization": "Digest se:cret"}),
        PublisherStub({"authorization": "Bearer wrong"}),
        PublisherStub({"x-publish-key": "wrong", "authorization": basic("se:cret")}),
        PublisherStub({}, {"key": ["wrong"]}),
        # A browser adds a stored password to the requests of any page.
        PublisherStub({"authorization": basic("se:cret"), "origin": "http://other"}),
        PublisherStub({"authorization": basic("se:cret"), "origin": "null"}),
        PublisherStub({"authorization": basic("se:cret"), "sec-fetch-site": "cross-site"}),
    ],
)
def test_others_are_challenged(request_: PublisherStub) -> None:
    """
    A publisher without the right key gets 401 with a challenge for a password.
    """
    with pytest.raises(HttpError) as caught:
        KEYS.authorize_live(request_, ["cam1"])

    assert caught.value.status == 401
    ((name, value),) = caught.value.headers
    assert name == "WWW-Authenticate"
    assert value.startswith("Basic realm=")


def test_a_key_opens_its_channels_only() -> None:
    """
    The right key for another channel is 403, which has no challenge.
    """
    with pytest.raises(HttpError) as caught:
        KEYS.authorize_live(PublisherStub({"authorization": basic("se:cret")}), ["news"])
    assert (caught.value.status, list(caught.value.headers)) == (403, [])


def test_without_keys_this_machine_may_publish() -> None:
    """
    With no key set, programs on this machine need none, and others get 403.
    """
    local = PublisherStub({"host": "localhost"}, local=True)
    assert Keys().authorize_live(local).permits("cam1")
    local.headers["authorization"] = basic("anything")
    assert Keys().authorize_live(local).permits("cam1")
    with pytest.raises(HttpError) as caught:
        Keys().authorize_live(PublisherStub({"host": "localhost"}))
    assert caught.value.status == 403
