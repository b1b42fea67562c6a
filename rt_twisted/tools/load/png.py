"""
Simple pictures as PNG (W3C PNG, third edition): rectangles and lines of text.
"""

from __future__ import annotations

import struct
import zlib

GLYPH, ADVANCE, HEIGHT = 5, 6, 8  # dots: a glyph's columns, with the blank behind it, its rows
LARGEST_SIDE = 10_000  # dots

# The printable characters of ASCII from blank to tilde: five columns each, a byte
# a column, the lowest bit on top.
_FONT = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300"
    "001c224100 0041221c00 2a1c7f1c2a 08083e0808 0080703000 0808080808 0000606000 2010080402"
    "3e5149453e 00427f4000 7249494946 2141494d33 1814127f10 2745454539 3c4a494931 4121110907"
    "3649494936 464949291e 0000140000 0040340000 0008142241 1414141414 0041221408 0201590906"
    "3e415d594e 7c1211127c 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e41415173"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f021c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 2649494932 03017f0103 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0304780403 6159494d43 007f414141 0204081020 004141417f 0402010204 4040404040"
    "0003070800 2054547840 7f28444438 3844444428 384444287f 3854545418 00087e0902 18a4a49c78"
    "7f08040478 00447d4000 2040403d00 7f10284400 00417f4000 7c04780478 7c08040478 3844444438"
    "fc18242418 18242418fc 7c08040408 4854545424 04043f4424 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 4c9090907c 4464544c44 0008364100 0000770000 0041360800 0201020402"
)

Color = tuple[int, int, int]  # red, green, blue; 0 to 255


class Canvas:
    """
    A picture of up to 256 colors.

    Args:
        width: dots, up to LARGEST_SIDE.
        height: the same.
        background: what it is filled with.
    """

    def __init__(self, width: int, height: int, background: Color) -> None:
        if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
            raise ValueError(f"a side of a picture has 1 to {LARGEST_SIDE} dots")
        self.width = width
        self.height = height
        self._colors = [background]
        self._rows = [bytearray(width) for _ in range(height)]

    def fill(self, left: int, top: int, width: int, height: int, color: Color) -> None:
        """
        A rectangle; what lies outside of the picture is left out.
        """
        right = min(max(left + width, 0), self.width)
        bottom = min(max(top + height, 0), self.height)
        left, top = max(left, 0), max(top, 0)
        if right <= left:
            return
        run = bytes([self._index(color)]) * (right - left)
        for row in self._rows[top:bottom]:
            row[left:right] = run

    def text(
        self, left: int, top: int, text: str, color: Color, scale: int = 1, anchor: float = 0.0
    ) -> None:
        """
        A line of text; what is not printable ASCII becomes a question mark.

        Args:
            left: where it begins, and *top* of its capitals.
            top: see above.
            text: without line ends.
            color: of its letters.
            scale: how many dots wide and high a dot of a letter is.
            anchor: which part of it shall be left of *left*: 1.0 to end there.
        """
        left -= round(text_width(text, scale) * anchor)
        for place, byte in enumerate(text.encode("ascii", errors="replace")):
            start = (byte if 0x20 <= byte < 0x7F else ord("?")) - 0x20
            for column in range(GLYPH):
                bits = _FONT[start * GLYPH + column]
                x = left + (place * ADVANCE + column) * scale
                for row in range(HEIGHT):
                    if bits >> row & 1:
                        self.fill(x, top + row * scale, scale, scale, color)

    def encode(self) -> bytes:
        """
        The picture as a PNG file.
        """
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 3, 0, 0, 0)
        palette = b"".join(map(bytes, self._colors))
        # Each row begins with the number of its filter: none (PNG, 9.2).
        pixels = zlib.compress(b"".join(b"\0" + row for row in self._rows), 9)
        parts = ((b"IHDR", head), (b"PLTE", palette), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_part(name, data) for name, data in parts)

    def _index(self, color: Color) -> int:
        if color not in self._colors:
            if len(self._colors) == 256:
                raise ValueError("more than 256 colors")
            self._colors.append(color)
        return self._colors.index(color)


def text_width(text: str, scale: int = 1) -> int:
    """
    How many dots wide *text* is, without the blank behind its last letter.
    """
    return max(len(text) * ADVANCE - 1, 0) * scale


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
