"""
The tables of JPEG that RTP leaves out (ITU-T T.81, annex K; RFC 2435, appendices A and B).
"""

from __future__ import annotations

from collections.abc import Mapping

# In zig-zag order.
_LUMA = bytes((
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
    26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
    56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
    95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
))  # fmt: skip
_CHROMA = bytes((
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99,
    *(99 for _ in range(48)),
))  # fmt: skip

_DC_VALUES = bytes(range(12))
_LUMA_DC = bytes((0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0))
_CHROMA_DC = bytes((0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0))
_LUMA_AC = bytes((0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D))
_LUMA_AC_VALUES = bytes.fromhex(
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f0"
    "2433627282090a161718191a25262728292a3435363738393a43444546474849"
    "4a535455565758595a636465666768696a737475767778797a83848586878889"
    "8a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5"
    "c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8"
    "f9fa"
)
_CHROMA_AC = bytes((0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77))
_CHROMA_AC_VALUES = bytes.fromhex(
    "000102031104052131061241510761711322328108144291a1b1c109233352f0"
    "156272d10a162434e125f11718191a262728292a35363738393a434445464748"
    "494a535455565758595a636465666768696a737475767778797a828384858687"
    "88898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3"
    "c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8"
    "f9fa"
)


# By class and number: how many codes of each length there are, then their values.
HUFFMAN: Mapping[int, bytes] = {
    0x00: _LUMA_DC + _DC_VALUES,
    0x10: _LUMA_AC + _LUMA_AC_VALUES,
    0x01: _CHROMA_DC + _DC_VALUES,
    0x11: _CHROMA_AC + _CHROMA_AC_VALUES,
}
HUFFMAN_SEGMENTS = b"".join(
    [
        b"\xff\xc4" + (3 + len(table)).to_bytes(2) + bytes((kind,)) + table
        for kind, table in HUFFMAN.items()
    ]
)


def quantization_tables(q: int) -> tuple[bytes, ...]:
    """
    Return the quantization tables for a Q of 1 to 99, in zig-zag order; none for others.
    """
    if not 1 <= q <= 99:
        return ()
    scale = 5000 // q if q < 50 else 200 - 2 * q
    return tuple(
        [
            bytes([min(255, max(1, (value * scale + 50) // 100)) for value in table])
            for table in (_LUMA, _CHROMA)
        ]
    )
