"""
The server's side of WebSocket (RFC 6455): the opening handshake (4.2), frames to send (5),
and compression (RFC 7692). `websocket_inbound` parses received frames.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import sha1
from struct import pack

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket_keys import KEY_PREFIX, read_key, split_list

VERSION = "13"
DEFLATE = "permessage-deflate"
MAX_CONTROL_PAYLOAD = 125  # bytes of a control frame's payload (5.5)
MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, 5.6.2
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # 1.3
_TAIL = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.1: the end of every compressed message, never sent


class Opcode(IntEnum):
    """
    The type of a frame (5.2).
    """

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """
    Why a websocket is closed (7.4.1). 3000 to 4999 are for applications (7.4.2).
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NO_CODE = 1005  # never sent: the close frame had no code
    LOST = 1006  # never sent: there was no close frame
    NOT_TEXT = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_LATER = 1013


def frame(opcode: int, payload: bytes, compressed: bool = False) -> bytes:
    """
    Encode one frame from server to client: final, not masked (5.2).

    Args:
        opcode: an `Opcode`.
        payload: of a control frame no more than MAX_CONTROL_PAYLOAD bytes.
        compressed: *payload* is from `DeflateParameters.compress` (RFC 7692, 6).
    """
    first = 0x80 | 0x40 * compressed | opcode
    size = len(payload)
    if size < 126:
        return pack("!BB", first, size) + payload
    if size < 65536:
        return pack("!BBH", first, 126, size) + payload
    return pack("!BBQ", first, 127, size) + payload


PING = frame(Opcode.PING, b"")


def close_frame(code: int, reason: str = "") -> bytes:
    """
    Encode a close frame (5.5.1).

    Args:
        code: 1005 for a frame without code and reason.
        reason: cut to MAX_CLOSE_REASON bytes.

    Raises:
        ValueError: *code* must not be sent (7.4).
    """
    if code == CloseCode.NO_CODE:
        return frame(Opcode.CLOSE, b"")
    if not (code in SENDABLE_CODES or 3000 <= code < 5000):
        raise ValueError(f"{code} is not a code to close with")
    text = reason.encode(errors="replace")
    if len(text) > MAX_CLOSE_REASON:
        text = text[:MAX_CLOSE_REASON].decode(errors="ignore").encode()
    return frame(Opcode.CLOSE, pack("!H", code) + text)


SENDABLE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))


@dataclass(frozen=True, slots=True)
class DeflateParameters:
    """
    How messages to a client are compressed, as negotiated (RFC 7692).

    Each message has a compressor of its own (`server_no_context_takeover`): a frame
    compressed for one subscriber is valid for all with equal parameters.

    Args:
        min_size: bytes from which a message is worth compressing.
        window_bits: size of the compressor's window; 9 to 15.
    """

    min_size: int
    window_bits: int = 15

    def compress(self, payload: bytes) -> bytes | None:
        """
        Return *payload* compressed; None if it is small, or would not become smaller.
        """
        if len(payload) < self.min_size:
            return None
        compressor = zlib.compressobj(wbits=-self.window_bits, memLevel=8)
        compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return compressed[: -len(_TAIL)] if len(compressed) - len(_TAIL) < len(payload) else None


def data_frame(payload: bytes, binary: bool, deflate: DeflateParameters | None = None) -> bytes:
    """
    Encode a message as one frame.

    Args:
        payload: valid UTF-8 unless *binary*.
        binary: send a binary frame, not a text frame.
        deflate: as negotiated with the subscribers; None for no compression.
    """
    opcode = Opcode.BINARY if binary else Opcode.TEXT
    compressed = deflate.compress(payload) if deflate is not None else None
    if compressed is not None:
        return frame(opcode, compressed, compressed=True)
    return frame(opcode, payload)


def is_text(payload: bytes) -> bool:
    """
    Return whether *payload* is valid UTF-8, as text frames require.
    """
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class WebSocketHandshake:
    """
    The result of an opening handshake.

    Args:
        key: the client's `Sec-WebSocket-Key`.
        subprotocol: the chosen one; "" for none.
        deflate: how messages to the client are compressed; None for no compression in
            either direction.
        extension: for `Sec-WebSocket-Extensions`; "" for none.
    """

    key: str
    subprotocol: str = ""
    deflate: DeflateParameters | None = None
    extension: str = ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """
        The headers of the 101 response (4.2.2).
        """
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(self.key)),
        ]
        if self.subprotocol:
            headers.append(("Sec-WebSocket-Protocol", self.subprotocol))
        if self.extension:
            headers.append(("Sec-WebSocket-Extensions", self.extension))
        return headers


REQUIRED = (  # headers of a 426 response
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", VERSION),
)


def negotiate(
    header: Callable[[str], str | None],
    subprotocols: Sequence[str] = (),
    compress_from: int = 0,
) -> WebSocketHandshake:
    """
    Check the client's opening handshake (4.2.1), and choose subprotocol and compression.

    The caller checks method and version of the request.

    Args:
        header: returns a header by its lower-case name.
        subprotocols: that the application supports. The first of the client's that is
            among them is chosen. If empty, the client's first is chosen, as a browser
            closes a websocket if none of those that it offered is chosen.
        compress_from: bytes from which a message is worth compressing; 0 to refuse
            compression.

    Raises:
        RemoteProtocolError: 426, the request is no websocket handshake, or of another
            version: respond with the headers REQUIRED; 400, the handshake is malformed.
    """
    if "websocket" not in _split_tokens(header("upgrade")):
        raise RemoteProtocolError("this is a WebSocket URL: send Upgrade: websocket", 426)
    if "upgrade" not in _split_tokens(header("connection")):
        raise RemoteProtocolError("Connection lacks Upgrade")
    version = header("sec-websocket-version")
    if version is None:
        raise RemoteProtocolError("no Sec-WebSocket-Version")
    if version != VERSION:
        raise RemoteProtocolError("only version 13 of WebSocket is supported", 426)
    key = header("sec-websocket-key")
    if key is None or not _is_key(key):
        raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
    chosen = _choose_subprotocol(header("sec-websocket-protocol"), subprotocols)
    deflate, extension = None, ""
    offers = header("sec-websocket-extensions")
    if offers and compress_from:
        deflate, extension = _negotiate_deflate(offers, compress_from)
    return WebSocketHandshake(key, chosen, deflate, extension)


def accept_key(key: str) -> str:
    """
    Return the value of `Sec-WebSocket-Accept` (4.2.2, step 5.4).
    """
    return b64encode(sha1((key + _GUID).encode()).digest()).decode()


@lru_cache(maxsize=64)  # each kind of client always sends the same offer
def _negotiate_deflate(offers: str, compress_from: int) -> tuple[DeflateParameters | None, str]:
    """
    Accept the first offer of compression that can be met (RFC 7692, 7).
    """
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    )
    try:
        parsed = parse_extension(offers)
    except InvalidHeader:
        raise RemoteProtocolError("malformed Sec-WebSocket-Extensions") from None
    for name, parameters in parsed:
        if name != DEFLATE:
            continue
        try:
            answer, agreed = factory.process_request_params(parameters, [])
        except NegotiationError:
            continue
        window_bits = agreed.local_max_window_bits
        return DeflateParameters(compress_from, window_bits), build_extension([(name, answer)])
    return None, ""


def _choose_subprotocol(offer: str | None, supported: Sequence[str]) -> str:
    """
    Choose the subprotocol for the response; "" for none. Never a key.
    """
    if not offer:
        return ""
    names = []
    for name in split_list(offer):
        if not name.startswith(KEY_PREFIX):
            names.append(name)
        elif read_key(name) is None:
            raise RemoteProtocolError(f"{KEY_PREFIX} is followed by a key in base64url")
    if not names:
        raise RemoteProtocolError("offer a subprotocol beside the key, such as realtime")
    if supported:
        return next((name for name in names if name in supported), "")
    return next((name for name in names if _TOKEN.fullmatch(name)), "")


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except (Error, ValueError):
        return False


def _split_tokens(value: str | None) -> list[str]:
    return split_list(value.lower()) if value else []
