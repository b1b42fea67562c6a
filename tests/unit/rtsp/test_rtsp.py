"""
Publishers and players by RTSP on one server, without sockets.
"""

from __future__ import annotations

import base64
import gc
import socket
import weakref
from itertools import pairwise
from typing import Any

import jwt
import pytest
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.task import Clock

from rt_twisted.access.gate import Gate
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.codecs.digest_auth import DigestAnswer, digest_response, parse_parameters
from rt_twisted.media.rtp.packet import parse_packet, parse_reports, write_packet
from rt_twisted.media.sdp import parse_sdp
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.rtsp.connection import RtspConnection
from rt_twisted.rtsp.dialogue import Dialogue
from rt_twisted.rtsp.messages import write_interleaved
from rt_twisted.rtsp.recording import Recording
from rt_twisted.rtsp.server import MAX_IDLE_SESSIONS
from tests.unit.http.clients import Caller, Wire, get
from tests.unit.rtsp.clients import IDR, SDP, SLICE, URL, RtspClient, RtspPlace


def streaming() -> tuple[RtspPlace, RtspClient]:
    """
    Return a place, and a publisher there that has sent a keyframe and more.
    """
    place = RtspPlace("GET ^/cam.mp4$ mp4:cam", "^/cam$ rtsp:cam")
    publisher = place.connect()
    publisher.record()
    publisher.sound(0)
    publisher.picture(0, IDR)
    for number in range(1, 5):
        publisher.picture(number)
        publisher.sound(number)
    return place, publisher


def test_a_player_begins_at_a_keyframe() -> None:
    """
    A description, a report of each track and the keyframe come first; RTP-Info has the numbers of
    the first packet of each track.
    """
    place, publisher = streaming()
    player = place.connect()

    played = player.play()
    publisher.picture(5)
    player.responses()

    assert played.status == 200
    channels = [packet.channel for packet in player.packets]
    assert channels[:2] == [1, 3]
    assert all(parse_reports(packet.data) for packet in player.packets[:2])
    video = [parse_packet(each.data) for each in player.packets if each.channel == 0]
    audio = [parse_packet(each.data) for each in player.packets if each.channel == 2]
    assert video[0].payload == IDR
    assert [packet.payload for packet in video[1:]] == [SLICE] * (len(video) - 1)
    assert (
        f"url={URL}/trackID=1;seq={video[0].sequence};rtptime={video[0].timestamp}"
        in (played.headers["rtp-info"])
    )
    assert (
        f"url={URL}/trackID=2;seq={audio[0].sequence};rtptime={audio[0].timestamp}"
        in (played.headers["rtp-info"])
    )
    steps = {after.timestamp - before.timestamp for before, after in pairwise(video)}
    assert steps == {3600}


def test_what_rtsp_publishes_is_shown_as_mp4() -> None:
    """
    Without another muxer: the tracks have their decoder configurations.
    """
    place, _ = streaming()

    viewer = Caller(place.place.server, "127.0.0.1").send(get(b"/cam.mp4"))
    place.turn()

    written = viewer.written()
    assert b'video/mp4; codecs="avc1.42C00D,mp4a.40.2"' in written
    assert b"keyframe" in written


def test_a_described_stream_names_its_tracks() -> None:
    """
    The description has what decoders need, and one control URL for each track.
    """
    place, _ = streaming()

    described = place.connect().ask("DESCRIBE")

    assert described.headers["content-type"] == "application/sdp"
    assert described.headers["content-base"] == f"{URL}/"
    media = parse_sdp(described.body).media
    assert [(one.encoding, one.rate, one.control) for one in media] == [
        ("h264", 90000, "trackID=1"),
        ("mpeg4-generic", 48000, "trackID=2"),
    ]
    assert media[0].parameters["sprop-parameter-sets"].startswith("Z0LADdoFB+w")
    assert media[1].parameters["config"] == "118856E500"
    assert b"=\r\n" not in described.body


def test_without_a_publisher_a_stream_is_not_found() -> None:
    """
    DESCRIBE waits for a publisher as long as the route says.
    """
    place = RtspPlace("^/cam$ rtsp:cam,wait=2")
    player = place.connect()

    player.send(player.request("DESCRIBE"))
    assert player.responses() == []
    place.pass_seconds(3)

    [response] = player.responses()
    assert response.status == 404


def test_a_client_that_leaves_while_it_waits_for_a_publisher() -> None:
    """
    Nothing of it is left; one that has sent more requests is not read meanwhile.
    """
    place = RtspPlace()
    player, hasty = place.connect(), place.connect()
    player.send(player.request("DESCRIBE"))
    hasty.send(hasty.request("DESCRIBE") + hasty.request("OPTIONS"))
    assert place.hub.statistics.counts_of("cam").subscribers == 2
    assert player.caller.wire.producerState == "producing"
    assert hasty.caller.wire.producerState == "paused"

    player.caller.hang_up()

    assert place.hub.statistics.counts_of("cam").subscribers == 1
    place.pass_seconds(11)
    assert place.hub.statistics.counts_of("cam").subscribers == 0
    assert hasty.caller.wire.producerState == "producing"
    assert [response.status for response in hasty.responses()] == [404, 200]


def test_pipelined_requests_and_packets_between_them() -> None:
    """
    Requests are answered in order, and packets in front of and behind them are received.
    """
    place, publisher = streaming()
    player = place.connect()
    player.play()

    publisher.caller.send(publisher.request("GET_PARAMETER") + publisher.request("OPTIONS", "*"))
    publisher.picture(5)
    place.turn()

    assert [response.status for response in publisher.responses()] == [200, 200]
    player.responses()
    assert len([each for each in player.packets if each.channel == 0]) >= 3


def test_a_pause_and_another_play() -> None:
    """
    A paused player is sent nothing, and can go on; TEARDOWN ends its session.
    """
    place, publisher = streaming()
    player = place.connect()
    player.play()
    place.turn()

    assert player.ask("PAUSE").status == 200
    count = len(player.packets)
    publisher.picture(5)
    player.responses()
    assert len(player.packets) == count
    assert player.ask("PLAY").status == 200
    player.responses()
    assert len(player.packets) > count
    assert player.ask("TEARDOWN").status == 200
    assert player.ask("PLAY").status == 454
    assert place.hub.current_metrics().joined == 2


def test_a_publisher_that_pauses_and_ends_as_gstreamer_does() -> None:
    """
    PAUSE and TEARDOWN are answered, and another publisher can follow at once.
    """
    place, publisher = streaming()

    assert publisher.ask("PAUSE").status == 200
    assert publisher.ask("TEARDOWN").status == 200
    place.connect().record()


def test_a_second_publisher_is_refused() -> None:
    """
    The channel has one publisher at a time.
    """
    place, publisher = streaming()
    second = place.connect()
    second.ask("ANNOUNCE", body=SDP, Content_Type="application/sdp")
    second.setup("streamid=0", "0-1")

    assert second.ask("RECORD").status == 403
    assert publisher.ask("OPTIONS").status == 200
    assert place.hub.metrics.refused["publishes"] == {"forbidden": 1}


def test_a_lost_publisher_returns_with_the_same_numbers() -> None:
    """
    Players stay, and the numbers of packets go on.
    """
    place, publisher = streaming()
    player = place.connect()
    player.play()
    publisher.caller.hang_up()
    publisher.place.turn()

    again = place.connect()
    again.record()
    again.sound(0)
    again.picture(0, IDR)
    for number in range(1, 5):
        again.picture(number)
        again.sound(number)
    player.responses()

    video = [parse_packet(each.data) for each in player.packets if each.channel == 0]
    numbers = [packet.sequence for packet in video]
    assert [after - before & 0xFFFF for before, after in pairwise(numbers)] == [1] * (
        len(numbers) - 1
    )
    assert [packet.payload for packet in video].count(IDR) == 2


def test_udp_is_refused_and_tcp_is_chosen_from_a_list() -> None:
    """
    Clients that offer UDP alone fall back by themselves.
    """
    place = RtspPlace()
    client = place.connect()
    client.ask("ANNOUNCE", body=SDP, Content_Type="application/sdp")
    udp = "RTP/AVP/UDP;unicast;client_port=15990-15991;mode=record"

    assert client.ask("SETUP", f"{URL}/streamid=0", Transport=udp).status == 461
    both = f"{udp},RTP/AVP/TCP;unicast;interleaved=168-169"
    chosen = client.ask("SETUP", f"{URL}/streamid=0", Transport=both)
    assert chosen.status == 200
    assert "interleaved=168-169" in chosen.headers["transport"]


@pytest.mark.parametrize(
    ("method", "url", "headers", "status"),
    [
        ("ANNOUNCE", URL, {"Content_Type": "text/plain"}, 415),
        ("ANNOUNCE", URL, {"Content_Type": "application/sdp"}, 400),
        ("DESCRIBE", "rtsp://localhost/other", {}, 404),
        ("SETUP", f"{URL}/trackID=1", {"Transport": "RTP/AVP;unicast;client_port=1-2"}, 461),
        ("PLAY", URL, {}, 454),
        ("RECORD", URL, {}, 454),
        ("GET_PARAMETER", URL, {"Session": "12"}, 454),
        ("REDIRECT", URL, {}, 501),
        ("OPTIONS", "ftp://localhost/", {}, 400),
        ("OPTIONS", URL, {"Require": "play.basic"}, 551),
    ],
)
def test_requests_that_are_refused(
    method: str, url: str, headers: dict[str, str], status: int
) -> None:
    """
    The connection stays open for another request.
    """
    client = RtspPlace("^/cam$ rtsp:cam,wait=0").connect()
    client.ask("OPTIONS", "*")

    assert (
        client.ask(method, url, b"x" if method == "ANNOUNCE" else b"", **headers).status == status
    )
    assert client.ask("OPTIONS", "*").status == 200


def test_requests_in_the_wrong_state() -> None:
    """
    Each state has its methods; a body of GET_PARAMETER asks for what there is not.
    """
    place, publisher = streaming()

    assert publisher.ask("ANNOUNCE", body=SDP, Content_Type="application/sdp").status == 455
    assert publisher.ask("PLAY").status == 455
    assert publisher.ask("GET_PARAMETER", body=b"position\r\n").status == 451
    assert publisher.ask("SET_PARAMETER").status == 200
    client = place.connect()
    client.ask("DESCRIBE")
    assert client.ask("SETUP", Transport="RTP/AVP/TCP;unicast;interleaved=0-1").status == 459


@pytest.mark.parametrize("shape", ["{};timeout=60", "{} ; timeout=60", " {}"])
def test_clients_send_the_session_back_with_its_timeout(shape: str) -> None:
    """
    What follows the semicolon is not compared; a session of another connection is not found.
    """
    _, publisher = streaming()
    other = RtspPlace().connect()
    other.record()
    session, publisher.session = publisher.session, ""

    assert publisher.ask("SET_PARAMETER", Session=shape.format(session)).status == 200
    assert publisher.ask("SET_PARAMETER", Session=other.session).status == 454
    assert publisher.ask("TEARDOWN", Session=shape.format(session)).status == 200


def test_a_path_that_only_publishers_have() -> None:
    """
    A route that forwards cannot be played: the method is wrong, and not the path.
    """
    client = RtspPlace("^/cam$ interleaved:10.0.0.5:5004", "GET ^/mp4$ mp4:cam").connect()

    refused = client.ask("DESCRIBE")
    assert refused.status == 405
    assert refused.headers["allow"] == "ANNOUNCE"
    assert client.ask("DESCRIBE", "rtsp://localhost/mp4").status == 404
    assert client.ask("DESCRIBE", "rtsp://localhost/other").status == 404


def test_one_track_without_a_control_attribute() -> None:
    """
    The URL of the description is that of the track, and any pair of channels is used.
    """
    place = RtspPlace()
    head, _, _ = SDP.partition(b"a=control:streamid=0")
    publisher = place.connect()
    assert publisher.ask("ANNOUNCE", body=head, Content_Type="application/sdp").status == 200
    transport = "RTP/AVP/TCP;unicast;interleaved=2-3;mode=record"
    response = publisher.ask("SETUP", URL, Transport=transport)
    publisher.session = response.headers["session"].partition(";")[0]
    assert "interleaved=2-3" in response.headers["transport"]
    assert publisher.ask("RECORD").status == 200
    for number in range(4):
        packet = write_packet(96, True, number, 3600 * number, 7, SLICE if number else IDR)
        publisher.send(write_interleaved(2, packet))

    player = place.connect()
    assert player.play().status == 200
    player.responses()
    assert IDR in [parse_packet(each.data).payload for each in player.packets if each.channel == 0]


@pytest.mark.parametrize("tracks", [1, 2])
def test_an_announced_track_without_packets(tracks: int) -> None:
    """
    The others are played, whether it is never set up or stays silent.
    """
    place = RtspPlace()
    publisher = place.connect()
    publisher.record(tracks=tracks)
    for number in range(30):
        publisher.picture(number, SLICE if number else IDR)

    described = place.connect().ask("DESCRIBE")
    assert described.status == 200
    assert [media.encoding for media in parse_sdp(described.body).media] == ["h264"]


def test_what_precedes_an_error_counts() -> None:
    """
    A request is answered and a picture published, though the same segment ends with garbage.
    """
    place, publisher = streaming()
    player = place.connect()
    player.play()
    last = write_packet(96, True, 5, 3600 * 5, 7, b"\x41\x9alast")

    publisher.caller.send(
        write_interleaved(0, last) + publisher.request("OPTIONS", "*") + b"PLAY * RTSP/3.0\r\n\r\n"
    )
    place.turn()

    assert [response.status for response in publisher.responses()] == [200, 505]
    player.responses()
    sent = [parse_packet(each.data).payload for each in player.packets if each.channel == 0]
    assert sent[-1] == b"\x41\x9alast"


def test_incomplete_input_is_bounded_in_sum() -> None:
    """
    As that of HTTP: clients that have begun large requests do not take all memory; a whole
    request and a lost connection give their share back.
    """
    inbound = InboundMemory(Clock(), 1_000_000)
    place = RtspPlace(changed={"inbound": inbound})
    announcement = RtspPlace().connect().request("ANNOUNCE", body=SDP + b"a=x\r\n" * 20_000)
    clients = [place.connect() for _ in range(30)]
    for client in clients:
        client.send(announcement[:90_000])
    assert 400_000 < inbound.used <= inbound.limit
    paused = [client for client in clients if client.caller.wire.producerState == "paused"]
    assert len(paused) + len([client for client in clients if not client.open]) > 10

    for client in clients:
        client.caller.hang_up()
    assert inbound.used == 0
    one = place.connect()
    one.send(announcement[:90_000])
    assert inbound.used > 80_000
    one.send(announcement[90_000:])
    assert inbound.used == 0
    assert [response.status for response in one.responses()] == [415]


def test_packets_with_many_frames() -> None:
    """
    The frames that arrive at once are bounded: packets of AAC may have hundreds of one byte.
    """
    place = RtspPlace()
    publisher = place.connect()
    bits = b"sizelength=13;indexlength=3;indexdeltalength=3;"
    publisher.record(SDP.replace(bits, b"sizelength=4;indexlength=0;indexdeltalength=0;"))
    publisher.picture(0, IDR)
    payload = (256 * 4).to_bytes(2) + b"\x11" * 128 + b"x" * 256
    sound = [
        write_interleaved(2, write_packet(97, True, number, number * 256 * 1024, 8, payload))
        for number in range(80)
    ]
    for at in range(0, 40, 20):
        publisher.send(b"".join(sound[at : at + 20]))
    assert publisher.open
    publisher.send(b"".join(sound[40:]))

    assert not publisher.open
    assert len(place.hub.live.publishers) == 0


def test_a_request_that_becomes_complete_while_its_input_is_paused() -> None:
    """
    What TLS has decrypted is still received behind a pause: the connection goes on.
    """
    inbound = InboundMemory(Clock(), 200_000, 1)
    place = RtspPlace(changed={"inbound": inbound})
    announcement = RtspPlace().connect().request("ANNOUNCE", body=SDP + b"a=x\r\n" * 20_000)
    first, one = place.connect(), place.connect()
    first.send(announcement[:60_000])
    one.send(announcement[:60_000])
    assert one.caller.wire.producerState == "paused"
    one.send(announcement[60_000:])

    assert [response.status for response in one.responses()] == [415]
    assert one.caller.wire.producerState == "producing"


def test_one_unusable_track_does_not_end_the_others() -> None:
    """
    The track can be set up, and its packets are ignored.
    """
    place = RtspPlace()
    sdp = SDP + b"m=application 0 RTP/AVP 107\r\na=control:streamid=2\r\n"
    publisher = place.connect()
    publisher.record(sdp, tracks=3)
    publisher.sound(0)
    publisher.picture(0, IDR)
    publisher.send(b"$\4\0\4meta")
    publisher.picture(1)
    publisher.picture(2)
    publisher.picture(3)

    assert b"trackID=2" in place.connect().ask("DESCRIBE").body


def test_a_description_without_a_usable_track_is_refused() -> None:
    """
    The sentence names the codecs that can be published.
    """
    sdp = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000\r\n"
    refused = RtspPlace().connect().ask("ANNOUNCE", body=sdp, Content_Type="application/sdp")

    assert refused.status == 415
    assert b"'theora' is none of h264" in refused.body


def test_a_path_of_rtsp_by_http() -> None:
    """
    The sentence names the URL to use.
    """
    place = RtspPlace()

    [answer] = place.place.call(get(b"/cam")).responses()

    assert answer.status == 404
    assert b"://a/cam" in answer.body


def test_silent_connections_are_closed() -> None:
    """
    A handshake has ten seconds, and a publisher ten without a byte.
    """
    place, publisher = streaming()
    silent = place.connect()
    silent.ask("OPTIONS")
    place.pass_seconds(9)
    assert silent.open
    place.pass_seconds(4)
    assert not silent.open
    assert not publisher.open


@pytest.mark.parametrize("method", ["GET_PARAMETER", "SET_PARAMETER", "OPTIONS", "", "packet"])
def test_a_session_lasts_as_long_as_its_client_sends(method: str) -> None:
    """
    Any request without a body, an empty line or a report; then it ends within 70 seconds.
    """
    place, publisher = streaming()
    player = place.connect()
    player.play()
    report = b"$\1\0\x08\x80\xc9\0\1\0\0\0\7"
    for _ in range(3):
        for _ in range(5):
            place.pass_seconds(9)
            publisher.send(b"\r\n")
        if method in ("", "packet"):
            player.send(report if method else b"\r\n")
        else:
            assert player.ask(method).status == 200
    assert player.open
    place.pass_seconds(70)
    assert not player.open


def answered(challenge: str, method: str, password: bytes, qop: str = "", uri: str = URL) -> str:
    """
    Return Digest credentials for a challenge.
    """
    given = parse_parameters(challenge.partition(" ")[2])
    nc, cnonce = ("00000001", "xyz") if qop else ("", "")
    answer = DigestAnswer(
        "any", given["realm"], given["nonce"], uri, "", given["algorithm"], qop, nc, cnonce
    )
    response = digest_response(answer, method, password)
    more = f', qop={qop}, nc={nc}, cnonce="{cnonce}"' if qop else ""
    return (
        f'Digest username="any", realm="{given["realm"]}", nonce="{given["nonce"]}", '
        f'uri="{uri}", response="{response}", algorithm={given["algorithm"]}{more}'
    )


@pytest.mark.parametrize("qop", ["", "auth"])
@pytest.mark.parametrize("algorithm", [0, 1])
def test_players_prove_a_key_by_digest(algorithm: int, qop: str) -> None:
    """
    By MD5, which is offered first, or by SHA-256.
    """
    place = RtspPlace("^/cam$ rtsp:cam,view_key=see,wait=0")
    player = place.connect()
    refused = player.ask("DESCRIBE")
    assert refused.status == 401
    assert ["MD5" in each for each in refused.challenges] == [True, False, False]
    challenge = refused.challenges[algorithm]

    right = answered(challenge, "DESCRIBE", b"see", qop, f"{URL}/?x=1")
    assert player.ask("DESCRIBE", Authorization=right).status == 404
    wrong = answered(challenge, "DESCRIBE", b"sea", qop)
    assert player.ask("DESCRIBE", Authorization=wrong).status == 401
    assert not player.open


def test_an_old_nonce_is_stale() -> None:
    """
    The client may try again on the same connection.
    """
    place = RtspPlace("^/cam$ rtsp:cam,view_key=see,wait=0")
    challenge = place.connect().ask("DESCRIBE").challenges[0]
    place.pass_seconds(400)
    player = place.connect()

    answer = answered(challenge, "DESCRIBE", b"see")
    stale = player.ask("DESCRIBE", Authorization=answer)

    assert stale.status == 401
    assert all("stale=true" in each for each in stale.challenges[:2])
    assert player.open


def test_a_nonce_is_of_one_address() -> None:
    """
    Credentials that were recorded are of no use from another address.
    """
    place = RtspPlace("^/cam$ rtsp:cam,view_key=see,wait=0")
    challenge = place.connect("192.0.2.1").ask("DESCRIBE").challenges[0]
    answer = answered(challenge, "DESCRIBE", b"see")

    assert place.connect("192.0.2.1").ask("DESCRIBE", Authorization=answer).status == 404
    assert place.connect("192.0.2.2").ask("DESCRIBE", Authorization=answer).status == 401


class LateWire(Wire):
    """
    A transport with a socket, which is given what was written in the next turn of the reactor.
    """

    producer: Any = None

    def __init__(self) -> None:
        super().__init__("127.0.0.1")
        self.handle, self.peer = socket.socketpair()
        self.peer.setblocking(False)

    def getHandle(self) -> socket.socket:
        return self.handle

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def startWriting(self) -> None:
        pass

    def turn(self) -> None:
        self.handle.sendall(self.value())  # type: ignore[no-untyped-call]  # Twisted's
        self.clear()  # type: ignore[no-untyped-call]  # Twisted's
        if self.producer is not None:
            self.producer.resumeProducing()


def test_a_stream_does_not_overtake_responses() -> None:
    """
    A client that sends SETUP and PLAY at once receives both responses before the packets.
    """
    place, _ = streaming()
    client = place.connect()
    wire = LateWire()
    wire.protocol = client.caller.wire.protocol = place.place.server.buildProtocol(wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
    client.caller.wire = wire
    wire.protocol.makeConnection(wire)
    transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
    client.send(
        client.request("SETUP", f"{URL}/trackID=1", Transport=transport) + client.request("PLAY")
    )
    for _ in range(5):
        wire.turn()
        place.turn()

    received = wire.peer.recv(1 << 20)
    wire.handle.close()
    wire.peer.close()
    assert received.startswith(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n")
    assert 0 < received.find(b"CSeq: 2\r\n") < received.find(b"$")


def test_a_client_that_reads_no_response() -> None:
    """
    The next request is not answered before the kernel has the last response; then it is closed.
    """
    place = RtspPlace()
    client = place.connect()
    wire = LateWire()
    wire.protocol = place.place.server.buildProtocol(wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
    client.caller.wire = wire
    wire.protocol.makeConnection(wire)

    client.send(client.request("OPTIONS") * 3)
    assert client.caller.written().count(b"CSeq") == 1
    assert wire.producerState == "paused"
    place.pass_seconds(11)

    assert wire.aborted
    wire.handle.close()
    wire.peer.close()


def test_players_send_a_key_in_the_url_or_as_password() -> None:
    """
    With any user name.
    """
    place = RtspPlace("^/cam$ rtsp:cam,view_key=see,wait=0")
    basic = "Basic " + base64.b64encode(b"me:see").decode()

    assert place.connect().ask("DESCRIBE", f"{URL}?key=see").status == 404
    assert place.connect().ask("DESCRIBE", Authorization=basic).status == 404
    assert place.connect().ask("DESCRIBE", f"{URL}?key=sea").status == 401


def test_strangers_may_not_publish_without_a_key() -> None:
    """
    Where no publish key is set, only this machine may publish.
    """
    client = RtspPlace().connect("192.0.2.1")

    assert client.ask("ANNOUNCE", body=SDP, Content_Type="application/sdp").status == 403


def test_garbage_between_packets_is_skipped() -> None:
    """
    The packet behind it is received; too much garbage ends the connection.
    """
    place, publisher = streaming()
    player = place.connect()
    player.play()

    publisher.send(bytes(37))
    publisher.picture(5)
    player.responses()
    assert [each.channel for each in player.packets].count(0) >= 3
    publisher.send(bytes(70_000))
    assert not publisher.open


def granted(seconds: float = 600, **claims: object) -> str:
    return jwt.encode({"sub": "mia", "exp": 1_000_000 + seconds, **claims}, "0123456789abcdef" * 4)


def test_players_and_publishers_need_a_token() -> None:
    """
    In the URL, as Bearer, or as the password; it covers the channel, and ends the stream.
    """
    tokens = TokenVerifier([TokenKey.of("0123456789abcdef" * 4)], now=lambda: 1_000_000.0)
    place = RtspPlace("^/cam$ rtsp:cam,allow=token,wait=0", changed={"gate": Gate(tokens=tokens)})

    def status(method: str, token: str, way: str = "url") -> int:
        url, headers = URL, {"Content_Type": "application/sdp"} if method == "ANNOUNCE" else {}
        if token and way == "url":
            url = f"{URL}?token={token}"
        elif token:
            password = base64.b64encode(f"u:{token}".encode()).decode()
            headers["Authorization"] = f"Bearer {token}" if way == "bearer" else f"Basic {password}"
        body = SDP if method == "ANNOUNCE" else b""
        response = place.connect("192.0.2.1").ask(method, url, body, **headers)
        if response.status == 401:
            assert "www-authenticate" in response.headers
        return response.status

    assert status("DESCRIBE", "") == 401
    assert status("DESCRIBE", "nonsense") == 401
    assert status("ANNOUNCE", "") == 401
    for way in ("url", "bearer", "basic"):
        assert status("DESCRIBE", granted(), way) == 404  # the route names the channel
        assert status("ANNOUNCE", granted(), way) == 200
    assert status("DESCRIBE", granted(-60)) == 401


class Reader:
    """
    A subscriber of plain messages.
    """

    def __init__(self, place: RtspPlace) -> None:
        self._caller = Caller(place.place.server, "127.0.0.1").send(get(b"/sse"))
        self._place = place

    @property
    def text(self) -> bytes:
        self._place.turn()
        return self._caller.written()


def test_packets_as_plain_messages() -> None:
    """
    Each is unchanged, with its channel as event type; any codec can be recorded.
    """
    place = RtspPlace("^/sse$ stream:cam", "^/cam$ rtsp:cam,as=raw")
    reader = Reader(place)
    publisher = place.connect()
    publisher.record(SDP.replace(b"H264", b"theora"))
    publisher.picture(0, b"anything")

    assert b"\x80\xe0\0\0\0\0\0\0\0\0\0\x07anything" in reader.text


def test_frames_as_plain_messages() -> None:
    """
    Channel, time in milliseconds and frame, with start codes and parameter sets.
    """
    place = RtspPlace("^/sse$ stream:cam", "^/cam$ rtsp:publish=cam,track_prefix=1")
    reader = Reader(place)
    publisher = place.connect()
    publisher.record()
    publisher.sound(0)
    publisher.picture(0, IDR)
    publisher.picture(1)
    publisher.picture(2)

    text = reader.text
    assert b"\x02" + bytes(8) + b"\xff\xf1" in text
    assert b"\0" + bytes(8) + b"\0\0\0\1\x67" in text
    assert b"\0\0\0\1\x68\xce\x0f\xc8\0\0\0\1" + IDR in text
    assert b"\0" + (40).to_bytes(8) + b"\0\0\0\1" + SLICE in text


class UdpReactor:
    """
    A reactor that records datagrams; everything else is that of a clock.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.open = 0
        self.most = 100  # open ports
        self.unread = 0  # ports that are not read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> UdpReactor:
        if self.open == self.most:
            raise CannotListenError(interface, port, OSError(24, "too many open files"))
        self.open += 1
        return self

    def stopReading(self) -> None:
        self.unread += 1

    def write(self, data: bytes, target: tuple[str, int]) -> None:
        self.sent.append((data, target))

    def stopListening(self) -> None:
        self.open -= 1


class FullReactor(UdpReactor):
    """
    A reactor that cannot send.
    """

    def __init__(self, clock: Any, error: Exception) -> None:
        super().__init__(clock)
        self._error = error

    def write(self, data: bytes, target: tuple[str, int]) -> None:
        super().write(data, target)
        raise self._error


@pytest.mark.parametrize("error", [OSError(1, "not permitted"), MessageLengthError()])
def test_packets_that_cannot_be_relayed_are_lost(error: Exception) -> None:
    """
    As by UDP: the publisher goes on.
    """
    reactor = FullReactor(Clock(), error)
    place = RtspPlace("^/cam$ interleaved:10.0.0.5:5004", reactor=reactor)
    publisher = place.connect()
    publisher.record()
    publisher.picture(0, IDR)
    publisher.picture(1)

    assert len(reactor.sent) == 2
    assert publisher.open


def test_a_client_that_does_not_read_the_last_response() -> None:
    """
    The connection is closed at once in the end.
    """
    place = RtspPlace()
    client = place.connect()
    client.send(b"OPTIONS * RTSP/3.0\r\n\r\n")
    assert client.caller.wire.disconnecting
    place.pass_seconds(9)
    assert not client.caller.wire.aborted

    place.pass_seconds(2)

    assert client.caller.wire.aborted


@pytest.mark.parametrize("kind", ["options", "describe", "record", "play", "pause", "teardown"])
def test_connections_leave_no_reference_cycles(kind: str) -> None:
    """
    A connection is freed when it is lost, without the garbage collector.
    """
    place, _ = streaming()
    client = place.connect()
    if kind == "record":
        client = RtspPlace().connect()
        client.record()
        client.picture(0, IDR)
    elif kind in ("play", "pause", "teardown"):
        client.play()
        if kind != "play":
            client.send(client.request(kind.upper()))
    else:
        client.ask(kind.upper())
    wire = client.caller.wire
    connections = [
        weakref.ref(each)
        for each in gc.get_objects()
        if isinstance(each, RtspConnection | Dialogue | Recording)
    ]
    before = len([each for each in connections if each() is not None])
    gc.disable()
    try:
        client.caller.hang_up()
        wire.protocol = None
        client.place.pass_seconds(1)
        after = len([each for each in connections if each() is not None])
    finally:
        gc.enable()

    assert before - after == (3 if kind == "record" else 2)


def test_packets_are_relayed_to_udp_targets() -> None:
    """
    RTCP goes to the port above; a track without a target is left out.
    """
    clock = Clock()
    reactor = UdpReactor(clock)
    place = RtspPlace("^/cam$ interleaved:[fd00::6]:5006", reactor=reactor)
    publisher = place.connect()
    publisher.record()
    publisher.picture(0, IDR)
    publisher.send(b"$\1\0\4\x80rtc$\2\0\4\x80abc")
    assert reactor.open == reactor.unread == 1
    publisher.ask("TEARDOWN")

    assert [(data[-3:], target) for data, target in reactor.sent] == [
        (b"ame", ("fd00::6", 5006)),
        (b"rtc", ("fd00::6", 5007)),
    ]
    assert reactor.open == 0


def test_a_forwarder_without_a_free_port() -> None:
    """
    RECORD is refused, and no port of it stays open; there may be one later.
    """
    reactor = UdpReactor(Clock())
    reactor.most = 1
    place = RtspPlace("^/cam$ interleaved:10.0.0.5:5004;[fd00::6]:5006", reactor=reactor)
    publisher = place.connect()
    publisher.ask("ANNOUNCE", body=SDP, Content_Type="application/sdp")
    for index in range(2):
        publisher.setup(f"streamid={index}", f"{2 * index}-{2 * index + 1}")

    assert publisher.ask("RECORD").status == 503
    assert reactor.open == 0
    reactor.most = 2
    assert publisher.ask("RECORD").status == 200
    assert reactor.open == 2


def test_a_silent_forwarder_ends() -> None:
    """
    As any session does: its ports are closed.
    """
    clock = Clock()
    reactor = UdpReactor(clock)
    place = RtspPlace("^/cam$ interleaved:10.0.0.5:5004", reactor=reactor)
    publisher = place.connect()
    publisher.record()
    clock.pump([1.0] * 50)
    publisher.picture(0, IDR)
    clock.pump([1.0] * 50)
    assert publisher.open

    clock.pump([1.0] * 30)

    assert not publisher.open
    publisher.caller.hang_up()
    assert reactor.open == 0


@pytest.mark.parametrize(
    "line", ["interleaved:host:5004", "interleaved:10.0.0.5", "interleaved:1.2.3.4:0"]
)
def test_wrong_targets(line: str) -> None:
    """
    Addresses with ports, and nothing that a name server decides.
    """
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        RtspPlace(f"^/cam$ {line}")


def test_a_codec_of_the_route() -> None:
    """
    Where the description names none, as uwsgi-realtime's lines do.
    """
    place = RtspPlace("^/cam$ rtsp:publish=cam,video_demuxer=h264,audio_demuxer=aac")
    nameless = SDP.replace(b"a=rtpmap:96 H264/90000\r\n", b"")
    publisher = place.connect()

    publisher.record(nameless)
    publisher.sound(0)
    for number in range(4):
        publisher.picture(number, SLICE if number else IDR)

    assert b"H264/90000" in place.connect().ask("DESCRIBE").body


def test_sessions_that_do_nothing_are_bounded() -> None:
    """
    Those of one address; they count no more when their connections are lost.
    """
    place, _ = streaming()
    idle = [place.connect() for _ in range(MAX_IDLE_SESSIONS + 1)]
    statuses = []
    for client in idle:
        client.ask("DESCRIBE")
        statuses.append(client.setup("trackID=1", "0-1").status)
    assert statuses == [200] * MAX_IDLE_SESSIONS + [453]

    idle[0].caller.hang_up()
    assert idle[-1].setup("trackID=1", "0-1").status == 200
    assert idle[1].ask("PLAY").status == 200
    assert place.connect().play().status == 200
