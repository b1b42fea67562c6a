"""
The port for RTMP alone.
"""

from __future__ import annotations

import pytest

from rt_twisted.rtmp.port import RtmpPortFactory
from tests.unit.http.clients import Caller, Wire, get
from tests.unit.rtmp.client import HANDSHAKE, codes, command, commands, dialogue
from tests.unit.rtmp.studio import Studio


def caller(studio: Studio, *pieces: bytes) -> Caller:
    """
    Connect a client to the port of RTMP.
    """
    client = Caller.__new__(Caller)
    client.wire = Wire("127.0.0.1")
    factory = RtmpPortFactory(studio.server, 8080)
    client.wire.protocol = factory.buildProtocol(client.wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
    client.wire.protocol.makeConnection(client.wire)
    return client.send(*pieces)


@pytest.mark.parametrize("step", [1, 5000])
def test_publishers_are_accepted(step: int) -> None:
    """
    A connection that begins with the first byte of RTMP is as on the other ports.
    """
    sent = dialogue("live", "cam")
    pieces = [sent[start : start + step] for start in range(0, len(sent), step)]

    publisher = caller(Studio(), *pieces)

    assert codes(publisher.written()) == ["NetStream.Publish.Start"]


def test_other_protocols_are_not() -> None:
    """
    HTTP is not served there: the port may be open where that of HTTP is not.
    """
    client = caller(Studio(), get(b"/live/cam"))

    assert client.wire.aborted
    assert client.written() == b""


def test_players_get_the_port_of_http() -> None:
    """
    The sentence for players names a URL that they can open.
    """
    about = {"app": "live", "tcUrl": "rtmp://host.example:1935/live"}
    connect = HANDSHAKE + command("connect", 1, about)

    player = caller(Studio(), connect + command("play", 2, None, "cam", stream=1))

    description = commands(player.written())[-1][3]["description"]
    assert description.endswith("open http://host.example:8080/live/cam")
