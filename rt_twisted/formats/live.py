"""
What the formats of live streams have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.codec_strings import codec_string
from rt_twisted.media.unit import End, Head, Kind, Title, Unit, read
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Mark, Message

STEP = 1000  # microseconds after a skip: less than a frame, so that no track has a hole

_MP4 = ("h264", "h265", "aac", "mp3")
_WEBM = ("vp8", "vp9", "av1", "opus", "vorbis")
_RTSP = ("pcmu", "pcma")
_WORDS = {
    **dict.fromkeys(_RTSP, "rtsp"),
    **dict.fromkeys(_MP4, "mp4"),
    **dict.fromkeys(_WEBM, "webm"),
    "jpeg": "mjpeg",
}


def read_live(message: Message) -> Head | Unit | Title | End | None:
    """
    Return what a message of a live stream carries; None for one that is malformed, and for
    a plain message.
    """
    try:
        return read(message)
    except RemoteProtocolError:
        return None


def changes_tracks(message: Message) -> bool:
    """
    Return whether *message* is a head whose tracks are not those before it.
    """
    if message.mark is not Mark.HEAD:
        return False
    head = read_live(message)
    return isinstance(head, Head) and not head.again


def time_of(message: Message) -> int | None:
    """
    Return the presentation time of a frame, or of the frame behind a head (microseconds);
    None for other messages.
    """
    thing = read_live(message)
    if isinstance(thing, Unit):
        return thing.pts
    return thing.time if isinstance(thing, Head) else None


def shift_after_skip(shift: int, last: int | None, first: int | None) -> int:
    """
    Return what is added to the times after a skip, so that *first* follows *last*.

    Args:
        shift: what was added before it (microseconds).
        last: the time of the last frame that was sent; None if it has none.
        first: the time of the next one; None if it has none.
    """
    return shift if last is None or first is None else last + shift + STEP - first


def content_type_of(head: Head, container: str, name: str, codecs: Set[str]) -> str:
    """
    Return the Content-Type of a stream that begins with *head*, with its codec strings.

    Args:
        head: the head.
        container: the subtype: `webm` or `mp4`.
        name: of the container, for the sentence.
        codecs: that it can carry.

    Raises:
        HttpError: 415, it cannot carry one of them. The sentence names the route word of a
            format that can.
    """
    for track in head.tracks:
        if track.codec not in codecs:
            raise HttpError(415, refusal(track.codec, name))
    kind = "video" if _has_video(head) else "audio"
    return f'{kind}/{container}; codecs="{",".join(map(codec_string, head.tracks))}"'


def _has_video(head: Head) -> bool:
    kinds: Iterable[Kind] = (track.kind for track in head.tracks)
    return Kind.VIDEO in kinds


def refusal(codec: str, name: str) -> str:
    """
    Return why the container *name* cannot carry *codec*, and the route word of one that can.
    """
    word = _WORDS.get(codec)
    # Other names are what the publisher wrote.
    return (
        f"{name} cannot carry {codec}; the route word {word} can"
        if word
        else (f"{name} cannot carry one of the codecs")
    )
