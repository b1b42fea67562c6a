"""
Live streams made of files, as a publisher's node makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rt_twisted.media.unit import End, Head, Kind, Track, Unit, write
from rt_twisted.model.message import Message, Position, Replay


def messages(things: Iterable[Head | Unit | End | bytes]) -> list[Message]:
    """
    Return the messages of *things*; bytes are messages without a type.
    """
    found = []
    for number, thing in enumerate(things, 1):
        event, data = (None, thing) if isinstance(thing, bytes) else write(thing)
        found.append(Message("cam", data, Position("e", number), event))
    return found


def live(parts: Sequence[tuple[Track, ...] | Unit]) -> list[Message]:
    """
    Return what a reader found as a live stream, with a head before each keyframe.
    """
    things: list[Head | Unit] = []
    tracks: tuple[Track, ...] = ()
    again = False
    for part in parts:
        if isinstance(part, tuple):
            again = again and part == tracks
            tracks = part
            videos = {track.id for track in tracks if track.kind is Kind.VIDEO}
            continue
        if part.key and part.track in (videos or {tracks[0].id}):
            things.append(Head("r", 0.5, tracks, part.pts, again))
            again = True
        things.append(part)
    return messages(things)


def replay(found: Sequence[Message]) -> Replay:
    """
    Return the replay that has all of *found*.
    """
    return Replay(tuple(found), True, found[-1].position if found else Position("e", 0))
