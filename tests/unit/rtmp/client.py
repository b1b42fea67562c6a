"""
What a publisher by RTMP sends, and what it is sent.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.media.h264 import write_avcc
from rt_twisted.rtmp import amf
from rt_twisted.rtmp.chunks import ChunkReader, RtmpMessage, write_message
from rt_twisted.rtmp.handshake import SIZE

AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20

HANDSHAKE = b"\x03" + bytes(2 * SIZE)
SPS = bytes.fromhex("6742c00bd9024fe2223ff00c400c31000003000100000300320f142a48")  # 130x98
AVCC = write_avcc(SPS, b"\x68\xcb\x8c\xb2")
AAC_48000_STEREO = bytes.fromhex("1190")


def command(name: str, transaction: float, *values: Any, stream: int = 0) -> bytes:
    payload = amf.encode(name, transaction, *values)
    return write_message(RtmpMessage(COMMAND, stream, 0, payload), 128, 3)


def media(type: int, time: int, body: bytes) -> bytes:
    """
    Return one message with audio, video or data on the first message stream.
    """
    return write_message(RtmpMessage(type, 1, time, body), 128, 4)


def dialogue(app: str, name: str, **about: Any) -> bytes:
    """
    Return what ffmpeg sends up to its first frames.
    """
    return b"".join(
        [
            HANDSHAKE,
            command("connect", 1, {"app": app, "type": "nonprivate", **about}),
            command("releaseStream", 2, None, name),
            command("FCPublish", 3, None, name),
            command("createStream", 4, None),
            command("publish", 5, None, name, "live", stream=1),
        ]
    )


def metadata(**values: Any) -> bytes:
    return media(DATA, 0, amf.encode("@setDataFrame", "onMetaData", values))


def avc(time: int, frame: bytes, key: bool, composition: int = 0) -> bytes:
    head = (b"\x17" if key else b"\x27") + b"\x01" + composition.to_bytes(3, signed=True)
    return media(VIDEO, time, head + len(frame).to_bytes(4) + frame)


def avc_configuration(record: bytes = AVCC) -> bytes:
    return media(VIDEO, 0, b"\x17\0\0\0\0" + record)


def aac(time: int, frame: bytes) -> bytes:
    return media(AUDIO, time, b"\xaf\x01" + frame)


def aac_configuration(config: bytes = AAC_48000_STEREO) -> bytes:
    return media(AUDIO, 0, b"\xaf\0" + config)


def replies(sent: bytes) -> list[RtmpMessage]:
    """
    Return the messages that the server has sent behind its handshake.
    """
    reader = ChunkReader()
    return reader.feed(sent[2 * SIZE + 1 :])


def commands(sent: bytes) -> list[list[Any]]:
    """
    Return the commands that the server has sent.
    """
    return [amf.decode(each.payload) for each in replies(sent) if each.type == COMMAND]


def codes(sent: bytes) -> list[str]:
    """
    Return the codes of its `onStatus` commands.
    """
    return [each[3]["code"] for each in commands(sent) if each[0] == "onStatus"]
