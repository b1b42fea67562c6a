"""
The states of an RTSP session, and which methods are possible in each (RFC 2326, A.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from rt_twisted.codecs.errors import RemoteProtocolError


class RtspState(Enum):
    """
    What an RTSP session is doing.
    """

    INIT = "init"  # no track is set up
    READY = "ready"
    PLAYING = "playing"
    RECORDING = "recording"


_INIT, _READY, _PLAYING, _RECORDING = RtspState

# The state behind each method that changes it. Methods that are missing in a state are
# answered with 455; those of _ANYWHERE are possible in all states.
_TRANSITIONS: Mapping[RtspState, Mapping[str, RtspState]] = {
    _INIT: {"ANNOUNCE": _INIT, "SETUP": _READY},
    _READY: {
        "SETUP": _READY,
        "PLAY": _PLAYING,
        "RECORD": _RECORDING,
        "PAUSE": _READY,
        "TEARDOWN": _INIT,
    },
    _PLAYING: {"PLAY": _PLAYING, "PAUSE": _READY, "TEARDOWN": _INIT},
    _RECORDING: {"RECORD": _RECORDING, "PAUSE": _READY, "TEARDOWN": _INIT},
}
_ANYWHERE = frozenset(("OPTIONS", "DESCRIBE", "GET_PARAMETER", "SET_PARAMETER"))


def next_state(state: RtspState, method: str) -> RtspState:
    """
    Return the state of a session once *method* has succeeded.

    Raises:
        RemoteProtocolError: 454, there is no session; 455, the method is not possible now.
    """
    if method in _ANYWHERE:
        return state
    following = _TRANSITIONS[state].get(method)
    if following is None:
        if state is _INIT:
            raise RemoteProtocolError(f"{method} needs a session: begin with SETUP", 454)
        raise RemoteProtocolError(f"{method} is not possible while {state.value}", 455)
    return following
