"""
The tracks and frames of a publisher that sends FLV tags, as RTMP publishers do.
"""

from __future__ import annotations

from collections.abc import Set

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import aac, av1, h264, h265, opus, vp8, vp9
from rt_twisted.media.flv import AGGREGATE, AUDIO, VIDEO, FlvTag, parse_audio, parse_video
from rt_twisted.media.flv import split_aggregate as split
from rt_twisted.media.live_run import MAX_HELD, SILENCE
from rt_twisted.media.mpeg_audio import HEADER, parse_header
from rt_twisted.media.reorder import JUMP
from rt_twisted.media.sample_clock import SampleClock
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import MAX_HEAD, MAX_UNIT, Kind, Track, Unit

_TIMES = 2**32  # timestamps count modulo this, milliseconds
_VIDEO_ID, _AUDIO_ID = 1, 2
_IDS = {Kind.VIDEO: _VIDEO_ID, Kind.AUDIO: _AUDIO_ID}  # members of an Enum are slow to look up
_BOTH = frozenset(_IDS.values())
_OPUS_HEAD = 19  # bytes


class FlvReader:
    """
    Reads the tags of one publisher, with a video and an audio track.

    The tracks are returned when each that is expected has sent a frame, or SILENCE later
    without those that have not; then again each time that one changes or is added.

    Args:
        max_unit: bytes of a frame.

    Attributes:
        silent: the kinds of tracks that were expected and are left out.
    """

    def __init__(self, max_unit: int = MAX_UNIT) -> None:
        self._video = _VideoTrack(max_unit)
        self._audio = _AudioTrack()
        self._expected: Set[int] = _BOTH  # ids of tracks
        self._announced: dict[int, Track] = {}
        self._held: list[Unit] = []  # until the tracks are announced
        self._held_bytes = 0
        self._begun = False
        self.silent: Set[Kind] = frozenset()
        self._time: int | None = None  # the last timestamp, without the modulo

    def expect(self, kinds: Set[Kind], size: tuple[int, int] = (0, 0)) -> None:
        """
        Note what the publisher's metadata say.

        Args:
            kinds: of its tracks; empty if they do not say.
            size: of the picture, for codecs whose frames do not say.
        """
        self._expected = {_IDS[kind] for kind in kinds} or _BOTH
        if all(0 < each < 65536 for each in size):
            self._video.size = size

    def take_silent(self) -> Set[Kind]:
        """
        Return `silent`, which is empty afterwards.
        """
        silent, self.silent = self.silent, frozenset()
        return silent

    def feed(self, type: int, timestamp: int, body: bytes) -> list[Part]:
        """
        Read one tag.

        Args:
            type: AUDIO, VIDEO or AGGREGATE; others are left out.
            timestamp: milliseconds modulo 2**32.
            body: of the tag.

        Returns:
            In order: the tracks, and the frames; `packets` and `offset` are 0.

        Raises:
            RemoteProtocolError: the tag is malformed, or its codec cannot be shown.
        """
        found: list[Part] = []
        if type == AGGREGATE:
            for one, time, payload in split(timestamp, body):
                self._read(one, time, payload, found)
        else:
            self._read(type, timestamp, body, found)
        return found

    def _read(self, type: int, timestamp: int, body: bytes, found: list[Part]) -> None:
        source: _VideoTrack | _AudioTrack
        if type == VIDEO:
            tag, source, id = parse_video(body), self._video, _VIDEO_ID
        elif type == AUDIO:
            tag, source, id = parse_audio(body), self._audio, _AUDIO_ID
        else:
            return
        if tag is None:
            return
        if tag.is_configuration:
            if len(tag.data) > MAX_HEAD // 4:
                raise RemoteProtocolError("RTMP: the configuration of a decoder is too large")
            source.configure(tag.codec, tag.data)
            return
        unit = source.read(tag, self._unwrap(timestamp) * 1000)
        track = source.track
        if unit is None or track is None:
            return
        if self._begun:
            if track is not self._announced.get(id):
                self._announced[id] = track
                found.append(self._tracks())
            found.append(unit)
            return
        self._announced[id] = track
        self._hold(unit)
        if self._begun:
            found.append(self._tracks())
            found += self._held
            self._held = []

    def _unwrap(self, timestamp: int) -> int:
        last = self._time
        if last is None:
            self._time = timestamp
        else:
            half = _TIMES // 2
            self._time = last + (timestamp - last + half) % _TIMES - half
        return self._time

    def _hold(self, unit: Unit) -> None:
        """
        Hold a frame, and decide whether the stream can begin.
        """
        self._held.append(unit)
        self._held_bytes += len(unit.data)
        missing = self._expected - self._announced.keys()
        waited = abs(unit.dts - self._held[0].dts)
        if not missing or waited >= SILENCE or self._held_bytes > MAX_HELD // 2:
            self._begun = True
            self.silent = {kind for kind, id in _IDS.items() if id in missing}

    def _tracks(self) -> tuple[Track, ...]:
        return tuple(sorted(self._announced.values(), key=lambda track: track.id))


class _VideoTrack:
    """
    The video of a publisher.

    Args:
        max_unit: bytes of a frame.

    Attributes:
        track: None until it is known.
        size: of the picture, if the codec does not say.
    """

    def __init__(self, max_unit: int) -> None:
        self._max_unit = max_unit
        self.track: Track | None = None
        self.size = (0, 0)
        self._nal_length = 4
        self._last = 0  # dts of the last frame
        self._duration = 0

    def configure(self, codec: str, record: bytes) -> None:
        nal_length = 4
        size = (0, 0)
        if codec in ("h264", "h265"):
            parse = h264.parse_avcc if codec == "h264" else h265.parse_hvcc
            nal_length, sets = parse(record)
            if not sets:
                return  # sent before the encoder has any
            parse_sps = h264.parse_sps if codec == "h264" else h265.parse_sps
            size = parse_sps(sets[0]).size
        elif codec == "av1":
            size = av1.size_of(record[av1.CONFIGURATION :])
        else:
            return  # keyframes of VP8 and VP9 have all that is needed
        self._nal_length = nal_length
        self._set(codec, record, size)

    def read(self, tag: FlvTag, dts: int) -> Unit | None:
        data = tag.data
        if tag.key and tag.codec in ("vp8", "vp9", "av1"):
            self._look_at(tag.codec, data)
        if self.track is None or self.track.codec != tag.codec or not data:
            return None
        if self._nal_length != 4:
            data = h264.lengthened(data, self._nal_length)
        elif tag.codec == "av1":
            data = av1.without_delimiter(data)
        if len(data) > self._max_unit:
            raise RemoteProtocolError(f"RTMP: a frame is larger than {self._max_unit} bytes")
        if 0 < dts - self._last < JUMP:
            self._duration = dts - self._last  # as long as the frame before
        self._last = dts
        pts = dts + tag.composition * 1000
        return Unit(_VIDEO_ID, pts, dts, self._duration, tag.key, 0, 0, data)

    def _look_at(self, codec: str, frame: bytes) -> None:
        """
        Read from a keyframe what the configuration does not say.
        """
        if codec == "vp8" and vp8.is_keyframe(frame):
            self._set(codec, b"", vp8.size_of(frame))
        elif codec == "vp9":
            header = vp9.parse_keyframe(frame)
            if header is not None:
                level = vp9.level_of(header.size)
                private = vp9.write_features(header.profile, level, header.depth)
                self._set(codec, private, header.size)
        elif codec == "av1" and self.track is not None and self.track.size == (0, 0):
            self._set(codec, self.track.private, av1.size_of(frame))

    def _set(self, codec: str, private: bytes, size: tuple[int, int]) -> None:
        known = size if size != (0, 0) else self.size
        track = Track(_VIDEO_ID, Kind.VIDEO, codec, private, size=known)
        if track != self.track:
            self.track = track


class _AudioTrack:
    """
    The audio of a publisher.

    Attributes:
        track: None until it is known.
    """

    def __init__(self) -> None:
        self.track: Track | None = None
        self._clock: SampleClock | None = None
        self._samples = 0  # of a frame; 0 if its packets say

    def configure(self, codec: str, private: bytes) -> None:
        if codec == "aac":
            config = aac.parse_config(private)
            if not config.rate:
                raise RemoteProtocolError("AAC: the sample rate is invalid")
            self._samples = config.samples
            self._set(codec, private, config.rate, config.channels)
        elif codec == "opus":
            if len(private) < _OPUS_HEAD:
                raise RemoteProtocolError("Opus: the identification header is truncated")
            self._samples = 0
            self._set(codec, private, opus.RATE, private[9])

    def read(self, tag: FlvTag, time: int) -> Unit | None:
        data = tag.data
        if tag.codec == "mp3":
            header = parse_header(data + bytes(HEADER), 0)
            if header is None:
                return None
            self._samples = header.samples
            self._set("mp3", b"", header.rate, header.channels)
        if self.track is None or self.track.codec != tag.codec or not data or self._clock is None:
            return None
        samples = self._samples or opus.duration_of(data) * opus.RATE // 1_000_000
        pts, duration = self._clock.place(time, samples)
        return Unit(_AUDIO_ID, pts, pts, duration, True, 0, 0, data)

    def _set(self, codec: str, private: bytes, rate: int, channels: int) -> None:
        track = Track(_AUDIO_ID, Kind.AUDIO, codec, private, rate, channels)
        if track != self.track:
            self.track = track
            self._clock = SampleClock(rate)
