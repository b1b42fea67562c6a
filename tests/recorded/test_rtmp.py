"""
The dialogue with publishers by RTMP.
"""

from __future__ import annotations

import socket

from rt_twisted.rtmp import amf
from tests.real.conftest import PATIENCE, Server
from tests.recorded.conftest import Check
from tests.recorded.transcript import Transcript
from tests.unit.rtmp.client import COMMAND, HANDSHAKE, command, dialogue, replies

CONNECT = HANDSHAKE + command("connect", 1, {"app": "live", "tcUrl": "rtmp://host/live"})
ENCODER = dialogue("live", "rtmp-a", fourCcList=["hvc1"]) + command("_checkbw", 6, None)
DIALOGUES = {
    "an encoder begins and ends": (
        ENCODER
        + command("FCUnpublish", 7, None, "rtmp-a")
        + command("deleteStream", 8, None, 1.0)
        + command("unknown", 9, None)
    ),
    "no route has the name": dialogue("other", "rtmp-a"),
    "a player": CONNECT + command("play", 2, None, "rtmp-a", stream=1),
    "a command before connect": HANDSHAKE + command("publish", 1, None, "rtmp-a"),
}


def talk(server: Server, sent: bytes) -> bytes:
    """
    Return what the server sends, up to its end or the response to an unknown command.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(sent)
        while b"NetConnection.Call.Failed" not in received:
            data = client.recv(65536)
            if not data:
                break
            received += data
    return received


def test_rtmp(shared: Server, check: Check) -> None:
    """
    An encoder publishes, and others are refused.
    """
    record = Transcript()
    for title, sent in DIALOGUES.items():
        record.title(title)
        for message in replies(talk(shared, sent)):
            text = message.payload.hex()
            if message.type == COMMAND:
                text = " ".join(map(repr, amf.decode(message.payload)))
            record.received(f"type {message.type}, stream {message.stream}: {text}\n")
    check("rtmp.txt", record)
