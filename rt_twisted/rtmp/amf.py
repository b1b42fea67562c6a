"""
AMF0: the values of RTMP commands and metadata (Action Message Format AMF 0, 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from struct import Struct

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_DEPTH = 16  # of objects and arrays in each other
MAX_VALUES = 4096  # of one message

# A date is its milliseconds since 1970. None stands for null and undefined.
Value = float | bool | str | None | Mapping[str, "Value"] | Sequence["Value"]

_DOUBLE = Struct(">d")
_NUMBER_SIZE = 8


class _Marker(IntEnum):
    NUMBER = 0
    BOOLEAN = 1
    STRING = 2
    OBJECT = 3
    NULL = 5
    UNDEFINED = 6
    REFERENCE = 7
    ECMA_ARRAY = 8
    OBJECT_END = 9
    STRICT_ARRAY = 10
    DATE = 11
    LONG_STRING = 12
    UNSUPPORTED = 13
    XML_DOCUMENT = 15
    TYPED_OBJECT = 16


class _UnknownMarkerError(Exception):
    """
    A value whose length is not known; the values around it are returned as far as they go.
    """


def decode(data: bytes) -> list[Value]:
    """
    Decode the values of *data*.

    A value of an unknown type ends the list, as its length is not known. Objects and arrays
    that contain one have what precedes it.

    Raises:
        RemoteProtocolError: a value is truncated, values are nested deeper than MAX_DEPTH, or
            there are more than MAX_VALUES.
    """
    reader = _Reader(data)
    values: list[Value] = []
    try:
        while not reader.at_end:
            reader.read(values.append, 0)
    except _UnknownMarkerError:
        pass
    return values


class _Reader:
    """
    Reads values one after the other.

    Each value is passed to a function when it begins to exist, so that containers are kept
    when something in them is unknown.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._count = 0
        self._complex: list[Value] = []  # that references refer to

    @property
    def at_end(self) -> bool:
        return self._position >= len(self._data)

    def read(self, add: Callable[[Value], object], depth: int) -> None:
        """
        Read the next value, and pass it to *add*.
        """
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_VALUES:
            raise RemoteProtocolError("AMF: too many values, or nested too deep")
        match self._take(1)[0]:
            case _Marker.NUMBER:
                add(self._double())
            case _Marker.BOOLEAN:
                add(self._take(1) != b"\0")
            case _Marker.STRING:
                add(self._text(2))
            case _Marker.OBJECT:
                self._object(add, depth)
            case _Marker.NULL | _Marker.UNDEFINED | _Marker.UNSUPPORTED:
                add(None)
            case _Marker.REFERENCE:
                add(self._referenced())
            case _Marker.ECMA_ARRAY:
                self._take(4)  # a count that is not used: the end marker counts
                self._object(add, depth)
            case _Marker.STRICT_ARRAY:
                self._strict_array(add, depth)
            case _Marker.DATE:
                add(self._date())
            case _Marker.LONG_STRING | _Marker.XML_DOCUMENT:
                add(self._text(4))
            case _Marker.TYPED_OBJECT:
                self._text(2)  # its class
                self._object(add, depth)
            case _:
                raise _UnknownMarkerError

    def _take(self, size: int) -> bytes:
        start = self._position
        end = start + size
        if end > len(self._data):
            raise RemoteProtocolError("AMF: a value is truncated")
        self._position = end
        return self._data[start:end]

    def _double(self) -> float:
        number: float = _DOUBLE.unpack(self._take(_NUMBER_SIZE))[0]
        return number

    def _date(self) -> float:
        milliseconds = self._double()
        self._take(2)  # a time zone, which is reserved
        return milliseconds

    def _text(self, width: int) -> str:
        size = int.from_bytes(self._take(width))
        return self._take(size).decode(errors="replace")

    def _referenced(self) -> Value:
        number = int.from_bytes(self._take(2))
        if number >= len(self._complex):
            raise RemoteProtocolError("AMF: a reference to no value")
        return self._complex[number]

    def _object(self, add: Callable[[Value], object], depth: int) -> None:
        found: dict[str, Value] = {}
        self._complex.append(found)
        add(found)
        while True:
            name = self._text(2)
            if not name and self._data[self._position : self._position + 1] == b"\x09":
                self._position += 1
                return
            self.read(partial(found.__setitem__, name), depth + 1)

    def _strict_array(self, add: Callable[[Value], object], depth: int) -> None:
        found: list[Value] = []
        self._complex.append(found)
        add(found)
        for _ in range(int.from_bytes(self._take(4))):
            self.read(found.append, depth + 1)


def encode(*values: Value) -> bytes:
    """
    Encode values, one behind the other.

    Args:
        values: numbers become doubles, dicts objects, and other sequences strict arrays.
    """
    return b"".join([_encode(value) for value in values])


def _encode(value: Value) -> bytes:
    if value is None:
        return b"\x05"
    if isinstance(value, bool):
        return b"\x01\x01" if value else b"\x01\x00"
    if isinstance(value, int | float):
        return b"\x00" + _DOUBLE.pack(value)
    if isinstance(value, str):
        text = value.encode()
        if len(text) < 65536:
            return b"\x02" + len(text).to_bytes(2) + text
        return b"\x0c" + len(text).to_bytes(4) + text
    if isinstance(value, Mapping):
        pairs = [_name(name) + _encode(each) for name, each in value.items()]
        return b"\x03" + b"".join(pairs) + b"\0\0\x09"
    return b"\x0a" + len(value).to_bytes(4) + encode(*value)


def _name(name: str) -> bytes:
    text = name.encode()
    return len(text).to_bytes(2) + text


def number(value: Value) -> float:
    """
    Return *value* if it is a finite number, 0 otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return float(value)


def text(value: Value) -> str:
    """
    Return *value* if it is a string, "" otherwise.
    """
    return value if isinstance(value, str) else ""


def mapping(value: Value) -> Mapping[str, Value]:
    """
    Return *value* if it is an object, an empty one otherwise.
    """
    return value if isinstance(value, Mapping) else {}
