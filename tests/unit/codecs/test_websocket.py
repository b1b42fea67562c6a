"""
The opening handshake of websockets, and the frames that a server sends.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
)
from websockets.http11 import Response
from websockets.uri import parse_uri

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import (
    PING,
    CloseCode,
    DeflateParameters,
    Opcode,
    WebSocketHandshake,
    accept_key,
    close_frame,
    data_frame,
    frame,
    negotiate,
)
from rt_twisted.codecs.websocket_inbound import parse_close
from rt_twisted.codecs.websocket_keys import offered_key
from tests.unit.codecs.websocket_frames import (
    HUGE,
    KEY,
    LONG,
)


def offer(key: bytes) -> str:
    """
    Return *key* as a subprotocol.
    """
    return "key." + urlsafe_b64encode(key).decode().rstrip("=")


def test_frames_of_the_rfc_examples() -> None:
    """
    Frames equal the examples of RFC 6455, 5.7.
    """
    assert data_frame(b"Hello", False) == bytes.fromhex("810548656c6c6f")
    assert frame(Opcode.PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert frame(Opcode.PONG, b"Hello") == bytes.fromhex("8a0548656c6c6f")
    assert data_frame(LONG, True) == bytes.fromhex("827e0100") + LONG
    assert data_frame(HUGE, True) == bytes.fromhex("827f0000000000010000") + HUGE
    assert data_frame(b"x" * 125, True)[:2] == bytes.fromhex("827d")
    assert data_frame(b"x" * 126, True)[:4] == bytes.fromhex("827e007e")
    assert data_frame(b"x" * 65535, True)[:4] == bytes.fromhex("827effff")
    assert close_frame(1000) == bytes.fromhex("880203e8")
    assert close_frame(1005) == bytes.fromhex("8800")
    assert frame(Opcode.PING, b"") == PING == bytes.fromhex("8900")


def test_close_reason_is_cut_between_characters() -> None:
    """
    A long reason is cut to 123 bytes, between two characters.
    """
    data = close_frame(4000, "€" * 100)

    assert data[1] == 2 + 123
    assert parse_close(data[2:]) == (4000, "€" * 41)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1016, 2999, 5000])
def test_invalid_close_codes_raise(code: int) -> None:
    """
    A close code that must not be sent raises a ValueError.
    """
    with pytest.raises(ValueError, match=f"^{code} is not a code to close with$"):
        close_frame(code)


def test_incompressible_messages_are_sent_plain() -> None:
    """
    Compression that does not make a message smaller is left out (bit RSV1 is 0).
    """
    import random

    noise = random.Random(1).randbytes(2000)

    assert data_frame(b"x" * 511, False, DeflateParameters(512))[0] == 0x81
    assert data_frame(b"x" * 512, False, DeflateParameters(512))[0] == 0xC1
    assert data_frame(noise, True, DeflateParameters(512)) == data_frame(noise, True)


def headers_of(**more: str | None) -> Any:
    headers: dict[str, str | None] = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": KEY,
    }
    headers.update({name.replace("_", "-"): value for name, value in more.items()})
    return headers.get


def test_accept_key_of_the_rfc_example() -> None:
    """
    The accept key equals the example of RFC 6455, 1.3.
    """
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in negotiate(
        headers_of()
    ).headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"upgrade": None}, 426),
        ({"upgrade": "h2c"}, 426),
        ({"connection": None}, 400),
        ({"connection": "keep-alive"}, 400),
        ({"sec_websocket_version": None}, 400),
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_version": "13, 13"}, 426),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": "short"}, 400),
        ({"sec_websocket_key": KEY + ", " + KEY}, 400),
        ({"sec_websocket_key": "é"}, 400),
        ({"sec_websocket_extensions": "a b"}, 400),
    ],
)
def test_invalid_handshakes_are_refused(headers: dict[str, str | None], status: int) -> None:
    """
    426 names what is required, 400 what is wrong (RFC 6455, 4.2.1 and 4.4).
    """
    with pytest.raises(RemoteProtocolError) as refused:
        negotiate(headers_of(**headers), (), 512)

    assert refused.value.status == status


def test_header_lists_and_case_are_accepted() -> None:
    """
    Firefox sends a list in Connection, and case does not matter.
    """
    handshake = negotiate(headers_of(connection="keep-alive, upgrade", upgrade="foo, WebSocket"))

    assert handshake == WebSocketHandshake(KEY)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(None, ""), ("", ""), ("mqtt", "mqtt"), ("x, wamp,mqtt", "wamp"), ("x", "")],
)
def test_first_supported_subprotocol_is_chosen(offered: str | None, chosen: str) -> None:
    """
    Without a common subprotocol none is chosen, and the client decides.
    """
    handshake = negotiate(headers_of(sec_websocket_protocol=offered), ("mqtt", "wamp"))

    assert handshake.subprotocol == chosen
    assert (("Sec-WebSocket-Protocol", chosen) in handshake.headers) is bool(chosen)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("realtime", "realtime"),
        ("a, b", "a"),
        (f"realtime, {offer(b'secret')}", "realtime"),
        (f"{offer(b'secret')},mqtt", "mqtt"),
        ("a b, c", "c"),
        (", ,x", "x"),
        ("a;b", ""),
    ],
)
def test_first_subprotocol_is_chosen_by_default(offered: str, chosen: str) -> None:
    """
    A browser closes a websocket if none that it offered is chosen: the first valid one is,
    never a key.
    """
    assert negotiate(headers_of(sec_websocket_protocol=offered)).subprotocol == chosen


@pytest.mark.parametrize("key", [b"x", b"secret", "a ключ, ü".encode(), bytes(range(256))])
def test_key_among_the_subprotocols(key: bytes) -> None:
    """
    A key may have any bytes, in base64url without padding.
    """
    assert offered_key(f"realtime, {offer(key)}") == key
    assert offered_key(f"{offer(key)},realtime") == key


@pytest.mark.parametrize("offered", [None, "", "realtime", "keys, a.key.b", "x-key.YQ"])
def test_subprotocols_without_a_key(offered: str | None) -> None:
    """
    Only an entry that begins with `key.` is a key.
    """
    assert offered_key(offered) is None


@pytest.mark.parametrize(
    "offered", [offer(b"secret"), "a, key.", "a, key.=", "a, key.YQ==", "a, key.a", "a, key.a+b/"]
)
def test_malformed_keys_are_refused(offered: str) -> None:
    """
    Malformed keys are refused, and a key without a subprotocol, as the response could name
    none.
    """
    with pytest.raises(RemoteProtocolError) as caught:
        negotiate(headers_of(sec_websocket_protocol=offered))

    assert caught.value.status == 400
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize(
    ("offer", "window_bits", "answer"),
    [
        ("permessage-deflate", 15, ""),
        ("permessage-deflate; client_max_window_bits", 15, ""),
        ("permessage-deflate; server_max_window_bits=10", 10, "; server_max_window_bits=10"),
        ("x-webkit-deflate-frame, permessage-deflate", 15, ""),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, ""),
        ("permessage-deflate; odd", None, None),
        ("permessage-deflate; server_max_window_bits=8", None, None),
        ("permessage-deflate; server_max_window_bits=16", None, None),
        ("bbf-usp-protocol", None, None),
    ],
)
def test_compression_without_context_takeover(
    offer: str, window_bits: int | None, answer: str | None
) -> None:
    """
    Neither side keeps its window between messages; offers that cannot be met are declined.
    """
    handshake = negotiate(headers_of(sec_websocket_extensions=offer), (), 512)

    if window_bits is None:
        assert (handshake.deflate, handshake.extension) == (None, "")
        return
    assert handshake.deflate == DeflateParameters(512, window_bits)
    taken = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert handshake.extension == f"{taken}{answer}"


def test_compression_can_be_disabled() -> None:
    """
    With compress_from 0 offers are ignored, malformed ones too.
    """
    assert (
        negotiate(headers_of(sec_websocket_extensions="permessage-deflate"), (), 0).deflate is None
    )


def test_websockets_client_accepts_our_response() -> None:
    """
    The client of the `websockets` library accepts key, subprotocol and extension.
    """
    client = ClientProtocol(
        parse_uri("ws://a/"),
        extensions=[ClientPerMessageDeflateFactory()],
        subprotocols=["mqtt"],  # type: ignore[list-item]  # a NewType of str
    )
    request = client.connect()
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    handshake = negotiate(headers.get, ("mqtt",), 512)
    client.send_request(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in handshake.headers)

    client.receive_data(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())

    (response,) = client.events_received()
    assert isinstance(response, Response)
    assert client.handshake_exc is None
    assert client.subprotocol == "mqtt"
    assert len(client.extensions) == 1


def test_close_codes_have_the_numbers_of_the_rfc() -> None:
    """
    The codes are those of RFC 6455, 7.4.1.
    """
    assert (CloseCode.GOING_AWAY, CloseCode.NOT_TEXT, CloseCode.POLICY, CloseCode.TOO_BIG) == (
        1001,
        1007,
        1008,
        1009,
    )
