"""
Writes live fragmented MP4 (ISO/IEC 14496-12, 8.8): an init segment, and one fragment for
each frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from rt_twisted.media.mp4_boxes import box, full_box
from rt_twisted.media.mp4_tracks import sample_entry
from rt_twisted.media.reorder import DEFAULT_DURATION
from rt_twisted.media.unit import Kind, Track, Unit

TIMESCALE = 1_000_000  # of all tracks: a unit's times are written as they are

_FILE_TYPE = box(b"ftyp", b"iso5", b"\0\0\2\0", b"iso5iso6mp41")
_MATRIX = b"".join(
    number.to_bytes(4) for number in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
)
_DATA_SOURCE = box(b"dinf", full_box(b"dref", 0, 0, b"\0\0\0\1", full_box(b"url ", 0, 1)))
_NO_SAMPLES = b"".join(
    full_box(kind, 0, 0, bytes(8 if kind == b"stsz" else 4))
    for kind in (b"stts", b"stsc", b"stsz", b"stco")
)
_UNDETERMINED = b"\x55\xc4"  # the language "und"
_KEY, _DELTA = 0x02000000, 0x01010000  # sample flags

# moof, mfhd, traf, tfhd (the base is the moof), tfdt, trun (offset; duration, size, flags,
# signed composition offset), and the header of mdat.
_FRAGMENT = Struct(">I4sI4sIII4sI4sIII4sIQI4sIIIIIIiI4s")
_MOOF = _FRAGMENT.size - 8


def write_init(tracks: Iterable[Track]) -> bytes:
    """
    Return the init segment of tracks whose codecs are in `mp4_tracks.CODECS`.
    """
    given = tuple(tracks)
    following = max(track.id for track in given) + 1
    movie_header = full_box(
        b"mvhd",
        0,
        0,
        bytes(8) + TIMESCALE.to_bytes(4) + bytes(4),
        b"\0\1\0\0\1\0" + bytes(10) + _MATRIX + bytes(24) + following.to_bytes(4),
    )
    extends = [
        full_box(b"trex", 0, 0, track.id.to_bytes(4) + b"\0\0\0\1" + bytes(12)) for track in given
    ]
    return _FILE_TYPE + box(
        b"moov", movie_header, *map(_write_track, given), box(b"mvex", *extends)
    )


def _write_track(track: Track) -> bytes:
    is_video = track.kind is Kind.VIDEO
    width, height = track.size
    header = full_box(
        b"tkhd",
        0,
        7,
        bytes(8) + track.id.to_bytes(4) + bytes(8),
        bytes(12) + (b"\0\0" if is_video else b"\1\0") + bytes(2) + _MATRIX,
        (width << 16).to_bytes(4) + (height << 16).to_bytes(4),
    )
    description = full_box(b"stsd", 0, 0, b"\0\0\0\1", sample_entry(track))
    if is_video:
        media_header = full_box(b"vmhd", 0, 1, bytes(8))
    else:
        media_header = full_box(b"smhd", 0, 0, bytes(4))
    media = box(
        b"mdia",
        full_box(
            b"mdhd", 0, 0, bytes(8) + TIMESCALE.to_bytes(4) + bytes(4), _UNDETERMINED, b"\0\0"
        ),
        full_box(b"hdlr", 0, 0, bytes(4), b"vide" if is_video else b"soun", bytes(13)),
        box(b"minf", media_header, _DATA_SOURCE, box(b"stbl", description, _NO_SAMPLES)),
    )
    return box(b"trak", header, media)


def write_fragment(unit: Unit, shift: int, number: int) -> bytes:
    """
    Return the fragment of one frame.

    Args:
        unit: the frame.
        shift: is added to its times, microseconds. The earliest decoding time is 0.
        number: of the fragment; increases within a stream.
    """
    decoded = max(0, unit.dts + shift)
    offset = max(-(2**31), min(unit.pts + shift - decoded, 2**31 - 1))
    size = len(unit.data)
    return (
        _FRAGMENT.pack(
            _MOOF, b"moof",
            16, b"mfhd", 0, number & 0xFFFFFFFF,
            _MOOF - 24, b"traf",
            16, b"tfhd", 0x020000, unit.track,
            20, b"tfdt", 0x01000000, decoded,
            36, b"trun", 0x01000F01, 1, _MOOF + 8,
            unit.duration or DEFAULT_DURATION, size, _KEY if unit.key else _DELTA, offset,
            8 + size, b"mdat",
        )
        + unit.data
    )  # fmt: skip
