"""
Codec of AMQP 0-9-1 fields (4.2.5), as RabbitMQ writes and reads them.

Input of other programs is bounded: however deep or broken a table is, reading it raises
`MalformedTable` at most, in time linear in its size.

The library pamqp (4.0) was measured in its place: it copies the rest of a table for each
field (an array of 128 KiB takes fourteen times as long), does not bound nested tables,
accepts strings that are cut off, and takes times after 2106 for milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from struct import Struct, error
from typing import Any

MAX_DEPTH = 32  # of nested tables and arrays; real ones have less than five
MAX_SHORT = 255  # bytes of a short string
_MAX_TIMESTAMP = 253402300799  # the end of the year 9999, Python's last

_octet = Struct("!B")
_short = Struct("!H")
_long = Struct("!L")
_longlong = Struct("!Q")
_sizes = {"octet": _octet, "short": _short, "long": _long, "longlong": _longlong}
_sizes["timestamp"] = _longlong
_small = Struct("!i")
_large = Struct("!q")
_double = Struct("!d")

# RabbitMQ's type letters; the standard has `L` and `U` for RabbitMQ's `l` and `s`.
_NUMBERS = {
    ord(letter): Struct(format)
    for letter, format in {
        "b": "!b",
        "B": "!B",
        "s": "!h",
        "U": "!h",
        "u": "!H",
        "I": "!i",
        "i": "!I",
        "l": "!q",
        "L": "!q",
        "f": "!f",
        "d": "!d",
    }.items()
}


class MalformedTable(Exception):
    """
    Raised for bytes that are not valid AMQP fields.
    """


def read_fields(types: Iterable[str], data: bytes, at: int = 0) -> tuple[Any, ...]:
    """
    Parse the arguments of a method.

    Args:
        types: elementary domains: `bit`, `octet`, `short`, `long`, `longlong`,
            `timestamp`, `shortstr`, `longstr` and `table`.
        data: the frame's payload.
        at: where the first argument begins.

    Returns:
        the values: strings as `str`, long strings that are not UTF-8 as `bytes`.

    Raises:
        MalformedTable: the bytes are not such arguments.
    """
    values: list[Any] = []
    bit = 8  # of the octet before *at*
    try:
        for type in types:
            if type == "bit":
                if bit == 8:
                    bit, at = 0, at + 1
                values.append(bool(data[at - 1] >> bit & 1))
                bit += 1
                continue
            bit = 8
            if type == "shortstr":
                value: Any
                value, at = read_short(data, at)
            elif type == "longstr":
                value, at = _read_text(data, at, 0)
            elif type == "table":
                value, at = _read_table(data, at, 0)
            else:
                (value,) = _sizes[type].unpack_from(data, at)
                at += _sizes[type].size
            values.append(value)
    except (IndexError, error):
        raise MalformedTable("a method is shorter than its arguments") from None
    return tuple(values)


def write_fields(types: Iterable[str], values: Iterable[Any]) -> bytes:
    """
    Encode the arguments of a method; see `read_fields`. A long string may be `bytes`,
    or a mapping, which is encoded as a table.

    Raises:
        ValueError: a short string has more than 255 bytes.
        TypeError: a table has a value for which AMQP has no type.
    """
    pieces: list[bytes] = []
    bits: list[bool] = []
    for type, value in zip(types, values, strict=True):
        if type == "bit":
            bits.append(value)
            continue
        _flush(bits, pieces)
        if type == "shortstr":
            pieces.append(write_short(value))
        elif type == "table" or isinstance(value, Mapping):
            pieces.append(write_table(value))
        elif type == "longstr":
            pieces.append(_write_long(value))
        else:
            pieces.append(_sizes[type].pack(value))
    _flush(bits, pieces)
    return b"".join(pieces)


def _flush(bits: list[bool], pieces: list[bytes]) -> None:
    for first in range(0, len(bits), 8):
        octet = sum([bool(bit) << place for place, bit in enumerate(bits[first : first + 8])])
        pieces.append(_octet.pack(octet))
    bits.clear()


def read_short(data: bytes, at: int) -> tuple[str, int]:
    """
    Parse a short string; returns it and the offset behind it.

    Bytes that are not UTF-8 become surrogates, so that the text equals no valid name.

    Raises:
        MalformedTable: the string is cut off.
    """
    end = at + 1 + data[at] if at < len(data) else len(data) + 1
    if end > len(data):
        raise MalformedTable("a short string is cut off")
    return data[at + 1 : end].decode("utf-8", "surrogateescape"), end


def write_short(text: str | bytes) -> bytes:
    """
    Encode a short string.

    Raises:
        ValueError: it has more than 255 bytes.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    if len(data) > MAX_SHORT:
        raise ValueError(f"AMQP allows {MAX_SHORT} bytes here, the text has {len(data)}")
    return _octet.pack(len(data)) + data


def read_table(data: bytes) -> dict[str, Any]:
    """
    Parse a field table with its length before it.

    Numbers are numbers, `S` is `str` (or `bytes` if it is not UTF-8), `x` is
    `bytes`, `T` a `datetime`, `D` a `Decimal`, `V` None, `A` a list, `F` a dict.

    Raises:
        MalformedTable: the bytes are not a table.
    """
    try:
        return _read_table(data, 0, 0)[0]
    except (IndexError, error):
        raise MalformedTable("a table is cut off") from None


def write_table(table: Mapping[str, Any]) -> bytes:
    """
    Encode a field table with its length before it.

    Raises:
        ValueError: a number or a name is too large.
        TypeError: AMQP has no type for a value.
    """
    data = b"".join([write_short(name) + _write_value(value) for name, value in table.items()])
    return _write_long(data)


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """
    Return start and end of a value that has its length before it.
    """
    (size,) = _long.unpack_from(data, at)
    if size > len(data) - at - 4:
        raise MalformedTable("a field is longer than the data around it")
    return at + 4, at + 4 + size


def _read_table(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    at, end = _bounds(data, at)
    table = {}
    while at < end:
        name, at = read_short(data, at)
        table[name], at = _read_value(data, at, depth)
    if at > end:
        raise MalformedTable("a table is longer than its length")
    return table, end


def _read_array(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    at, end = _bounds(data, at)
    values = []
    while at < end:
        value, at = _read_value(data, at, depth)
        values.append(value)
    if at > end:
        raise MalformedTable("an array is longer than its length")
    return values, end


def _read_text(data: bytes, at: int, depth: int) -> tuple[str | bytes, int]:
    start, end = _bounds(data, at)
    found = data[start:end]
    try:
        return found.decode(), end
    except UnicodeDecodeError:
        return found, end


def _read_bytes(data: bytes, at: int, depth: int) -> tuple[bytes, int]:
    start, end = _bounds(data, at)
    return data[start:end], end


def _read_bool(data: bytes, at: int, depth: int) -> tuple[bool, int]:
    return data[at] != 0, at + 1


def _read_none(data: bytes, at: int, depth: int) -> tuple[None, int]:
    return None, at


def _read_timestamp(data: bytes, at: int, depth: int) -> tuple[datetime | int, int]:
    (seconds,) = _longlong.unpack_from(data, at)
    # Some programs write milliseconds.
    time = datetime.fromtimestamp(seconds, UTC) if seconds <= _MAX_TIMESTAMP else seconds
    return time, at + 8


def _read_decimal(data: bytes, at: int, depth: int) -> tuple[Decimal, int]:
    (value,) = _small.unpack_from(data, at + 1)
    return Decimal(value).scaleb(-data[at]), at + 5


def _read_number(format: Struct, data: bytes, at: int, depth: int) -> tuple[float, int]:
    return format.unpack_from(data, at)[0], at + format.size


_READ: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    ord("t"): _read_bool,
    ord("S"): _read_text,
    ord("x"): _read_bytes,
    ord("V"): _read_none,
    ord("T"): _read_timestamp,
    ord("D"): _read_decimal,
    ord("A"): _read_array,
    ord("F"): _read_table,
    **{letter: partial(_read_number, format) for letter, format in _NUMBERS.items()},
}


def _read_value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth == MAX_DEPTH:
        raise MalformedTable(f"more than {MAX_DEPTH} nested tables")
    read = _READ.get(data[at])
    if read is None:
        raise MalformedTable(f"a field of the unknown type {data[at]:#x}")
    return read(data, at + 1, depth + 1)


def _write_long(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _long.pack(len(data)) + data


def _write_value(value: Any) -> bytes:
    if isinstance(value, str):
        return b"S" + _write_long(value)
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        small = -(1 << 31) <= value < 1 << 31
        try:
            return b"I" + _small.pack(value) if small else b"l" + _large.pack(value)
        except error:
            raise ValueError(f"AMQP has no number as large as {value}") from None
    if isinstance(value, float):
        return b"d" + _double.pack(value)
    if isinstance(value, bytes):
        return b"x" + _write_long(value)
    if value is None:
        return b"V"
    if isinstance(value, datetime):
        return b"T" + _longlong.pack(int(value.timestamp()))
    if isinstance(value, Mapping):
        return b"F" + write_table(value)
    if isinstance(value, list | tuple):
        return b"A" + _write_long(b"".join(map(_write_value, value)))
    raise TypeError(f"AMQP has no type for {value!r}")
