"""
The websocket protocol (RFC 6455) as a server speaks it: the opening handshake,
and frames to send. Frames that come in are read by `websocket_inbound`.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode, urlsafe_b64decode
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

VERSION = "13"
DEFLATE = "permessage-deflate"
MAX_CONTROL_PAYLOAD = 125  # bytes of a control frame's payload (5.5)
MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2
KEY_PREFIX = "key."  # a subprotocol that begins so is a publish key
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, 5.6.2
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # 1.3
_TAIL = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.1: every message ends so, none says it


class Opcode(IntEnum):
    """
    What a frame is (5.2).
    """

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """
    Why a websocket is closed (7.4.1); an application's own are 3000 to 4999.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NO_CODE = 1005  # never sent: the close frame had none
    LOST = 1006  # never sent: there was no close frame
    NOT_TEXT = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_LATER = 1013


def frame(opcode: int, payload: bytes, compressed: bool = False) -> bytes:
    """
    One whole frame from server to client: final, not masked (5.2).

    Args:
        opcode: see `Opcode`.
        payload: of a control frame no more than MAX_CONTROL_PAYLOAD bytes.
        compressed: *payload* is what `deflate` made (RFC 7692, 6).
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
    A close frame (5.5.1).

    Args:
        code: 1005 for a frame without code and reason.
        reason: cut to what fits.

    Raises:
        ValueError: *code* is none that may be sent (7.4).
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
    Whether messages to a client are compressed, as agreed (RFC 7692).

    No compressor outlives its message (`server_no_context_takeover`): what is
    compressed for one reader is right for all.

    Args:
        min_size: bytes from which it is worth the time.
        window_bits: the compressor's, in bits; 9 to 15.
    """

    min_size: int = 512
    window_bits: int = 15

    def compress(self, payload: bytes) -> bytes | None:
        """
        *payload* compressed; None if it stays as it is.
        """
        if len(payload) < self.min_size:
            return None
        press = zlib.compressobj(wbits=-self.window_bits, memLevel=8)
        small = press.compress(payload) + press.flush(zlib.Z_SYNC_FLUSH)
        return small[: -len(_TAIL)] if len(small) - len(_TAIL) < len(payload) else None


def data_frame(payload: bytes, binary: bool, deflate: DeflateParameters | None = None) -> bytes:
    """
    A message as one frame.

    Args:
        payload: valid UTF-8 unless *binary*.
        binary: else text.
        deflate: what was agreed with the readers; None for nothing.
    """
    opcode = Opcode.BINARY if binary else Opcode.TEXT
    small = deflate.compress(payload) if deflate is not None else None
    if small is not None:
        return frame(opcode, small, compressed=True)
    return frame(opcode, payload)


def is_text(payload: bytes) -> bool:
    """
    Whether *payload* may go in a text frame: it is valid UTF-8.
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
    What the opening handshake came to.

    Args:
        key: for `Sec-WebSocket-Accept`.
        subprotocol: the chosen one; "" for none.
        deflate: how messages to the client are compressed; None for not at all,
            neither way.
        extension: for `Sec-WebSocket-Extensions`; "" for none.
    """

    key: str
    subprotocol: str = ""
    deflate: DeflateParameters | None = None
    extension: str = ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """
        Those of the 101 response (4.2.2).
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


REQUIRED = (  # with a 426
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
    Read the client's side of the opening handshake (4.2.1). That it is a GET of
    HTTP/1.1 is for the caller to know.

    Args:
        header: gives headers by lower-case name.
        subprotocols: that the application speaks; the first of the client's
            that is among them is chosen. If none are given, the client's first is: a
            browser closes a websocket for which none of those it offered is chosen.
        compress_from: bytes of a message that is worth compressing; 0 to negotiate
            on no compression.

    Raises:
        RemoteProtocolError: 426, it is no websocket handshake, or one of
            another version: answer with the headers REQUIRED; 400, it is a
            malformed one.
    """
    if "websocket" not in _split_tokens(header("upgrade")):
        raise RemoteProtocolError("this is a websocket: ask with Upgrade: websocket", 426)
    if "upgrade" not in _split_tokens(header("connection")):
        raise RemoteProtocolError("Connection lacks Upgrade")
    version = header("sec-websocket-version")
    if version is None:
        raise RemoteProtocolError("no Sec-WebSocket-Version")
    if version != VERSION:
        raise RemoteProtocolError("the websocket version spoken here is 13", 426)
    key = header("sec-websocket-key")
    if key is None or not _is_key(key):
        raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
    chosen = _choose_subprotocol(header("sec-websocket-protocol"), subprotocols)
    deflate, extension = None, ""
    offers = header("sec-websocket-extensions")
    if offers and compress_from:
        deflate, extension = _negotiate_deflate(offers, compress_from)
    return WebSocketHandshake(key, chosen, deflate, extension)


def offered_key(offer: str | None) -> bytes | None:
    """
    The publish key in `Sec-WebSocket-Protocol`, the only header a page can choose: an
    entry `key.` and the key in base64url, without padding (RFC 4648, 5).

    Returns:
        None if there is none, or it is malformed; `negotiate` refuses that.
    """
    if not offer or KEY_PREFIX not in offer:
        return None
    for name in _split_list(offer):
        if name.startswith(KEY_PREFIX):
            return _read_key(name)
    return None


def accept_key(key: str) -> str:
    """
    What proves that a server has understood the handshake (4.2.2, 5.4).
    """
    return b64encode(sha1((key + _GUID).encode()).digest()).decode()


@lru_cache(maxsize=64)  # each kind of client has its own words, always the same
def _negotiate_deflate(offers: str, compress_from: int) -> tuple[DeflateParameters | None, str]:
    """
    The first offer of compression that can be met (RFC 7692, 7).
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


def _choose_subprotocol(offer: str | None, spoken: Sequence[str]) -> str:
    """
    The one that the response names; "" for none. It is never a key.
    """
    if not offer:
        return ""
    names = []
    for name in _split_list(offer):
        if not name.startswith(KEY_PREFIX):
            names.append(name)
        elif _read_key(name) is None:
            raise RemoteProtocolError(f"{KEY_PREFIX} is followed by a key in base64url")
    if not names:
        raise RemoteProtocolError("offer a subprotocol beside the key, such as realtime")
    if spoken:
        return next((name for name in names if name in spoken), "")
    return next((name for name in names if _TOKEN.fullmatch(name)), "")


def _read_key(name: str) -> bytes | None:
    text = name.removeprefix(KEY_PREFIX)
    if not _BASE64URL.fullmatch(text):
        return None
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except Error:
        return None


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except (Error, ValueError):
        return False


def _split_list(value: str | None) -> list[str]:
    return [item.strip() for item in (value or "").split(",")]


def _split_tokens(value: str | None) -> list[str]:
    return _split_list(value.lower()) if value else []
