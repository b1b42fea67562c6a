"""
The payload formats by the names of their encodings.
"""

from __future__ import annotations

from collections.abc import Mapping

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.rtp.aac import AacPayload
from rt_twisted.media.rtp.av1 import Av1Payload
from rt_twisted.media.rtp.g711 import G711Payload
from rt_twisted.media.rtp.h264 import H264Payload
from rt_twisted.media.rtp.h265 import H265Payload
from rt_twisted.media.rtp.jpeg import JpegPayload
from rt_twisted.media.rtp.latm import LatmPayload
from rt_twisted.media.rtp.mpeg_audio import MpegAudioPayload
from rt_twisted.media.rtp.opus import OpusPayload
from rt_twisted.media.rtp.payload_format import PayloadFormat
from rt_twisted.media.rtp.vorbis import VorbisPayload
from rt_twisted.media.rtp.vp8 import Vp8Payload
from rt_twisted.media.rtp.vp9 import Vp9Payload

PAYLOADS: Mapping[str, PayloadFormat] = {
    "h264": H264Payload(),
    "h265": H265Payload(),
    "vp8": Vp8Payload(),
    "vp9": Vp9Payload(),
    "av1": Av1Payload(),
    "jpeg": JpegPayload(),
    "opus": OpusPayload(),
    "mpeg4-generic": AacPayload(),
    "mp4a-latm": LatmPayload(),
    "vorbis": VorbisPayload(),
    "mpa": MpegAudioPayload(),
    "pcmu": G711Payload("pcmu"),
    "pcma": G711Payload("pcma"),
}

# One for each codec: that which players are sent.
BY_CODEC: Mapping[str, PayloadFormat] = {
    payload.codec: payload for payload in reversed(tuple(PAYLOADS.values()))
}


def payload_of(encoding: str) -> PayloadFormat:
    """
    Return the payload format of an encoding name in lower case.

    Raises:
        RemoteProtocolError: 415, there is none.
    """
    found = PAYLOADS.get(encoding)
    if found is None:
        known = ", ".join(PAYLOADS)
        raise RemoteProtocolError(f"the encoding {encoding!r} is none of {known}", 415)
    return found
