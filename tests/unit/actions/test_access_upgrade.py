"""
The grant of a Socket.IO session moves with it from polling to a websocket.
"""

from __future__ import annotations

import json

from tests.unit.actions.test_access_streams import (
    SIO,
    SOCKETIO,
    Sio,
    connect,
    daemon,
    pass_seconds,
    show,
    token,
)
from tests.unit.actions.websocket.daemon import WebSocketDaemon
from tests.unit.http.clients import Caller, read_answers

POLLING = SIO.replace("websocket", "polling")


def upgraded(server: WebSocketDaemon, seconds: float) -> Sio:
    """
    Return a client that has connected by polling with a token of *seconds*, and has upgraded.
    """
    [opened] = read_answers(show(server, POLLING).written())
    session = f"&sid={json.loads(opened.body[1:])['sid']}"
    body = ("40" + json.dumps({"token": token(seconds, channels=["news"])})).encode()
    head = f"POST {POLLING}{session} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    Caller(server.server, "127.0.0.1").send(head.encode() + body)
    server.turn()
    show(server, POLLING + session)
    client = Sio(server, path=SIO + session)
    assert client.send("2probe") == ["3probe"]
    client.send("5")
    server.turn()
    return client


def test_a_token_that_is_renewed_after_an_upgrade_lasts() -> None:
    """
    What is left of polling is kept for ten seconds, but its grant is not: it neither ends the
    session nor keeps the first token revocable.
    """
    server = daemon(SOCKETIO)
    client = upgraded(server, 8)
    assert client.emit("token", token(600, channels=["news"], jti="next")) == {"status": "ok"}
    server.hub.holders.end_all(lambda grant: grant.token_id != "next")
    pass_seconds(server, 9)
    assert not client.peer.is_closed
    server.publish("on")
    assert any('"on"' in each for each in client.received())


def test_a_token_ends_the_session_after_an_upgrade() -> None:
    """
    Without renewal the websocket is closed, as that of other sessions.
    """
    server = daemon(SOCKETIO)
    client = upgraded(server, 8)
    pass_seconds(server, 9)
    assert client.peer.is_closed
    assert len(server.hub.holders) == 0
    assert connect(Sio(server)) == 401
