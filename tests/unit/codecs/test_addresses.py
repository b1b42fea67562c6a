"""
Client addresses behind proxies, and the PROXY protocol.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport

from rt_twisted.codecs.addresses import AddressHeader, Networks, client_address, limit_key
from rt_twisted.codecs.proxy_protocol import SIGNATURE, NoProxyHeader, ProxyHeader, ProxyParser
from rt_twisted.http.proxy_endpoint import ProxiedFactory

PROXIES = Networks.of(["192.0.2.1", "10.0.0.0/8", "2001:db8:ffff::/48", "unix"])
FOR, FORWARDED, REAL = AddressHeader


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("1.1.1.1", "1.1.1.1"),
        ("1.1.1.1:4711", "1.1.1.1"),
        ("1.1.1.1:_port", "1.1.1.1"),
        ("9.9.9.9, 1.1.1.1:80", "1.1.1.1"),
        ("1.1.1.1, 10.2.3.4:3333", "1.1.1.1"),
        ("1.1.1.1, 2001:db8:ffff::7 ,\t10.2.3.4", "1.1.1.1"),
        ('"1.1.1.1"', "1.1.1.1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::2]", "2001:db8::2"),
        ("2001:DB8:0:0::3", "2001:db8::3"),
        ("::ffff:1.1.1.1", "1.1.1.1"),
        ("[::ffff:1.1.1.1]:80", "1.1.1.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%\x1b[31m", "fe80::1"),
        ("", "192.0.2.1"),
        (" , ", "192.0.2.1"),
        ("unknown", "192.0.2.1"),
        ("1.1.1.1, unknown", "192.0.2.1"),
        ("1.1.1.1:80:80", "192.0.2.1"),
        ("[1.1.1.1", "192.0.2.1"),
        ("1.1.1.1, 10.1.1.1, garbage", "192.0.2.1"),
        ("10.1.1.1", "10.1.1.1"),
    ],
)
def test_x_forwarded_for_names_the_client(header: str, address: str) -> None:
    """
    Ports, brackets, quotes, mapped addresses and zones are parsed. Text that is no address
    ends the chain, as the client may have sent it.
    """
    assert client_address("192.0.2.1", header, FOR, PROXIES) == address
    assert client_address("", header, FOR, PROXIES) == address.replace("192.0.2.1", "")
    assert client_address("192.0.2.9", header, FOR, PROXIES) == "192.0.2.9"


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("for=1.1.1.1", "1.1.1.1"),
        ('For="1.1.1.1:4711"', "1.1.1.1"),
        ("for=1.1.1.1:4711", "1.1.1.1"),
        ('for="[2001:db8::1]:443";proto=https', "2001:db8::1"),
        ("proto=https;for=1.1.1.1;by=203.0.113.43", "1.1.1.1"),
        ("for=9.9.9.9, for=1.1.1.1;proto=http , for=10.0.0.7", "1.1.1.1"),
        (r'for="1.1.1.\1"', "1.1.1.1"),
        ('for=1.1.1.1;host="a,b;for=9.9.9.9"', "1.1.1.1"),
        ('for="9.9.9.9, for=8.8.8.8", for=1.1.1.1', "1.1.1.1"),
        ("for=unknown", "192.0.2.1"),
        ("for=_hidden, for=10.0.0.7", "10.0.0.7"),
        ("for=1.1.1.1, proto=https", "192.0.2.1"),
        ('for="9.9.9.9', "192.0.2.1"),
        ('for=9.9.9.9" , for=1.1.1.1', "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
)
def test_forwarded_names_the_client(header: str, address: str) -> None:
    """
    RFC 7239; an element without a known address ends the chain.
    """
    assert client_address("192.0.2.1", header, FORWARDED, PROXIES) == address


def test_x_real_ip_is_one_address() -> None:
    """
    The nearest proxy's address is used if there are several headers.
    """
    assert client_address("192.0.2.1", "1.1.1.1", REAL, PROXIES) == "1.1.1.1"
    assert client_address("192.0.2.1", "9.9.9.9, 1.1.1.1:80", REAL, PROXIES) == "1.1.1.1"
    assert client_address("192.0.2.1", "9.9.9.9, 10.0.0.1", REAL, PROXIES) == "10.0.0.1"


@given(some.text(), some.sampled_from(AddressHeader))
def test_any_header_gives_an_address(header: str, kind: AddressHeader) -> None:
    """
    Any text in a header gives an address, and raises nothing.
    """
    found = client_address("192.0.2.1", header, kind, PROXIES)
    assert found.isprintable() and " " not in found


def test_ipv6_networks_count_as_one() -> None:
    """
    A site has 2^64 addresses, which count as one.
    """
    assert limit_key("2001:db8:1:2:3:4:5:6") == limit_key("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert limit_key("2001:db8:1:3::") != limit_key("2001:db8:1:2::")
    assert limit_key("192.0.2.1") == "192.0.2.1"
    assert limit_key("") == ""
    assert limit_key("fe80::1%eth0") == "fe80::/64"


V2 = SIGNATURE + b"\x21\x11\x00\x0f" + bytes([198, 51, 100, 7, 10, 0, 0, 1])
V2 += b"\x11\x11\x00\x50" + b"\x04\x00\x00"  # ports, and a TLV
V2_6 = (
    SIGNATURE
    + b"\x21\x21\x00\x24"
    + bytes.fromhex("20010db8" + "0" * 23 + "1") * 2
    + b"\x11\x11\x00\x50"
)


def parsed(data: bytes, step: int) -> ProxyHeader | None:
    """
    Parse *data* in pieces of *step* bytes, and append what follows the header.
    """
    parser = ProxyParser()
    for at in range(0, len(data), step):
        header = parser.feed(data[at : at + step])
        if header is not None:
            rest = header.rest + data[at + step :]
            return ProxyHeader(header.source, header.destination, rest)
    return None


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 4369 80\r\n", "198.51.100.7"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::1 4369 80\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),  # 107 bytes
        (V2, "198.51.100.7"),
        (V2_6, "2001:db8::1"),
        (SIGNATURE + b"\x20\x00\x00\x00", None),
        (SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12), None),
        (SIGNATURE + b"\x21\x00\x00\x00", None),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), None),
    ],
)
def test_proxy_headers_are_parsed(header: bytes, source: str | None, step: int) -> None:
    """
    Both versions, however they are split. UNKNOWN, LOCAL and unix sockets name no client.
    """
    found = parsed(header + b"GET /", step)
    assert found is not None and found.rest == b"GET /"
    if source is None:
        assert found.source is None
    else:
        assert found.source is not None and found.destination is not None
        assert (str(found.source.address), found.source.port) == (source, 4369)
        assert found.destination.port == 80


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 fe80::1%a fe80::1 1 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n",
        b"PROXY TCP4 \xff 1.1.1.1 1 1\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_malformed_proxy_headers_are_refused(data: bytes) -> None:
    """
    Each is refused, whole and byte by byte.
    """
    for step in (1, 1000):
        with pytest.raises(NoProxyHeader):
            parsed(data, step)


@given(some.binary())
def test_any_bytes_raise_only_no_proxy_header(data: bytes) -> None:
    """
    Any input of a peer gives a header, nothing yet, or NoProxyHeader.
    """
    for head in (b"", b"PROXY ", SIGNATURE):
        with suppress(NoProxyHeader):
            parsed(head + data, 1000)


class Received(Protocol):
    """
    Records the bytes that it receives.
    """

    data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


def connect(senders: str, peer: IPv4Address | IPv6Address | UNIXAddress) -> Received | None:
    """
    Return the protocol behind an endpoint to which *peer* has connected; None if it was
    closed.
    """
    factory = ProxiedFactory(
        Factory.forProtocol(Received), Networks.of(senders.split()), lambda: 0.0
    )
    wrapper = factory.buildProtocol(peer)
    if wrapper is None:
        return None
    wrapper.makeConnection(StringTransport(peerAddress=peer))
    wrapper.dataReceived(b"PROXY TCP4 198.51.100.7 10.0.0.1 4369 80\r\nGET")
    wrapper.dataReceived(b" /")
    received: Received = wrapper.wrappedProtocol
    return received


def test_proxy_headers_of_untrusted_peers_are_refused() -> None:
    """
    Others could claim any address: their connections are closed.
    """
    near, far = IPv4Address("TCP", "127.0.0.1", 1), IPv4Address("TCP", "192.0.2.9", 1)
    mapped = IPv6Address("TCP", "::ffff:127.0.0.1", 1)
    for peer in (near, mapped, UNIXAddress("")):
        received = connect("127.0.0.1 unix", peer)
        assert received is not None and received.data == b"GET /"
        assert received.transport is not None
        assert received.transport.getPeer() == IPv4Address("TCP", "198.51.100.7", 4369)
        assert received.transport.getHost() == IPv4Address("TCP", "10.0.0.1", 80)
    assert connect("127.0.0.1", far) is None
    assert connect("127.0.0.1", UNIXAddress("")) is None
    assert connect("192.0.2.0/24", far) is not None


def test_health_check_of_a_proxy_has_its_own_address() -> None:
    """
    A header without a client is a health check of the proxy.
    """
    near = IPv4Address("TCP", "127.0.0.1", 1)
    factory = ProxiedFactory(Factory.forProtocol(Received), Networks.of(["127.0.0.1"]), lambda: 0.0)
    wrapper = factory.buildProtocol(near)
    assert wrapper is not None
    transport = StringTransport(peerAddress=near)
    wrapper.makeConnection(transport)
    wrapper.dataReceived(b"PROXY UNKNOWN\r\n")
    assert wrapper.getPeer() == near
