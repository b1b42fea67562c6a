"""
Live streams over HTTP: ffmpeg publishes, curl and ffprobe look.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon
from tests.real.live_programs import (
    QUICK,
    ROUTES,
    STATS,
    STREAM,
    VP8,
    Camera,
    camera,
    is_live,
    largest_step,
    output,
    start,
    stats,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import AUDIO, VIDEO, decoded, encode, probe
from tests.real.redis_server import redis

__all__ = ["camera", "redis", "start", "viewer"]  # fixtures


def test_a_late_viewer_begins_at_a_keyframe(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    The first picture is a keyframe, wherever in its group the viewer joins. After the
    publisher's end the stream ends cleanly, with every frame in between.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    early = viewer(f"{server.url}/cam.webm", "early.webm")
    publisher = camera(f"{server.url}/cam.webm", 7)
    wait_for(lambda: is_live(server))
    time.sleep(3.5)
    late = viewer(f"{server.url}/cam.webm", "late.webm")

    assert output(publisher) == ""
    for process in (early, late):
        assert output(process) == '200 video/webm; codecs="vp8,opus"'

    assert decoded(tmp_path / "early.webm")[0] == 175
    [pictures, _] = decoded(tmp_path / "late.webm")
    assert pictures < 175
    packets = probe(tmp_path / "late.webm")
    assert video(packets)[0].key
    assert largest_step(packets) < 0.09


def test_a_stalled_viewer_skips_to_a_later_keyframe(
    daemon: StartDaemon, start: Camera, tmp_path: Path
) -> None:
    """
    The viewer's file plays without an error and without a hole in its times, though it misses
    pictures; another viewer gets all of them.
    """
    noise = (*VP8[:2], "-b:v", "20M", *VP8[4:], "-g", "25", "-vf", "noise=alls=100:allf=t")
    encode(tmp_path / "noise.webm", *noise, "-c:a", "libopus", seconds=4)
    server = daemon(
        "--route=GET ^/cam.webm$ webm:subscribe=cam,behind=100000", ROUTES[1], STATS, *QUICK
    )
    loop = ("-re", "-stream_loop", "3", "-i", tmp_path / "noise.webm", "-c", "copy")
    sent = (*loop, "-f", "webm", "-method", "PUT", f"{server.url}/cam.webm")
    publisher = start("ffmpeg", "ffmpeg", "-v", "error", *sent)
    wait_for(lambda: is_live(server))
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /cam.webm HTTP/1.0\r\n\r\n")
        received = connection.recv(2000)
        wait_for(lambda: stats(server)["messages"]["skips"] > 0)
        while piece := connection.recv(1 << 20):
            received += piece
    publisher.wait(PATIENCE)

    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    (tmp_path / "slow.webm").write_bytes(body)
    [pictures, _] = decoded(tmp_path / "slow.webm")
    assert 0 < pictures < 400
    packets = probe(tmp_path / "slow.webm")
    assert video(packets)[0].key
    assert largest_step(packets) < 0.2
    assert stats(server)["readers"]["closed"]["ended"] == 1  # type: ignore[index]


def test_a_source_without_length_runs_until_it_closes(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    ffmpeg publishes as to an old Icecast, with the key as its password.
    """
    server = daemon(*ROUTES, STATS, *QUICK, "--publish-key=secret")
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    target = f"icecast://source:secret@127.0.0.1:{server.port}/cam.webm"
    icecast = ("-legacy_icecast", "1", "-content_type", "video/webm")
    encoded = (*VIDEO, *AUDIO, "-t", "3", *STREAM, "-f", "webm", *icecast)

    publisher = start("ffmpeg", "ffmpeg", "-v", "error", "-re", *encoded, target)

    output(publisher)
    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "seen.webm")[0] == 75


def test_a_second_publisher_is_refused(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    The first one's viewers notice nothing; without the key there is no publisher at all.
    """
    server = daemon(*ROUTES, STATS, *QUICK, "--publish-key=secret")
    url = f"http://live:secret@127.0.0.1:{server.port}/cam.webm"
    first = camera(url, 5)
    wait_for(lambda: is_live(server))
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")

    second = camera(url, 20)
    assert second.wait(PATIENCE)
    stranger = camera(f"{server.url}/cam.webm", 20)
    assert stranger.wait(PATIENCE)

    assert output(first) == ""
    output(seen)
    assert largest_step(probe(tmp_path / "seen.webm")) < 0.09


def test_viewers_stay_while_a_publisher_is_killed_and_back(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Times continue where they ended; the stream has no hole.
    """
    server = daemon(*ROUTES, STATS, "--live-timeout=8", "--live-grace=12")
    first = camera(f"{server.url}/cam.webm", 60)
    wait_for(lambda: is_live(server))
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    time.sleep(3)
    first.kill()
    second = camera(f"{server.url}/cam.webm", 4)
    output(second)

    output(seen)

    decoded(tmp_path / "seen.webm")
    packets = probe(tmp_path / "seen.webm")
    assert len(video(packets)) > 125
    assert largest_step(packets) < 0.09


def test_a_viewer_without_a_publisher_is_refused(daemon: StartDaemon, viewer: Camera) -> None:
    """
    The answer is 503 after the time that the route line states.
    """
    server = daemon("--route=^/cam.webm$ webm:subscribe=cam,wait=1")

    assert output(viewer(f"{server.url}/cam.webm", "none")).startswith("503 ")


def test_a_codec_that_webm_cannot_carry_is_refused(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    A publisher of Matroska may send H264; the response names the route word that can.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    h264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p")
    source = ("-re", *VIDEO, "-t", "20", *h264, "-f", "matroska", "-method", "PUT")
    start("ffmpeg", "ffmpeg", "-v", "error", *source, f"{server.url}/cam.webm")

    printed = output(viewer(f"{server.url}/cam.webm", "refused"))

    assert printed.startswith("415 ")
    assert "the route word mp4 can" in (tmp_path / "refused").read_text()


def test_a_history_file_refuses_live_streams(daemon: StartDaemon, camera: Camera) -> None:
    """
    Units would fill the file; the publisher's response names the setting.
    """
    server = daemon(*ROUTES, "--history-file=log.sqlite")
    publisher = camera(f"{server.url}/cam.webm", 20)

    assert publisher.wait(PATIENCE)


# Fragmented MP4.

MP4_ROUTES = (
    "--route=GET ^/cam.mp4$ mp4:cam",
    "--route=GET ^/cam.webm$ webm:cam",
    "--route=^/cam istream:cam,as=auto",
)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac")
B_FRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", *H264[4:])
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "50", *STREAM[-2:])
PER_FRAME = ("-f", "mp4", "-movflags", "frag_every_frame+empty_moov+default_base_moof")
PER_GROUP = ("-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof")
MATROSKA = ("-f", "matroska", "-cluster_time_limit", "100")


@pytest.mark.parametrize(
    ("codecs", "container", "kind"),
    [
        (H264, PER_FRAME, 'codecs="avc1.42C00D,mp4a.40.2"'),
        (H264, PER_GROUP, 'codecs="avc1.42C00D,mp4a.40.2"'),
        (H264, MATROSKA, 'codecs="avc1.42C00D,mp4a.40.2"'),
        (B_FRAMES, MATROSKA, 'codecs="avc1.64000D,mp4a.40.2"'),
        (VP9, PER_FRAME, 'codecs="vp09.'),
    ],
)
def test_a_late_viewer_of_mp4_begins_at_a_keyframe(
    codecs: tuple[str, ...],
    container: tuple[str, ...],
    kind: str,
    daemon: StartDaemon,
    start: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    Publishers may fragment as they like, or send Matroska.
    """
    server = daemon(*MP4_ROUTES, STATS, *QUICK)
    encoded = ("-re", *VIDEO, "-re", *AUDIO, "-t", "6", *codecs, *container, "-method", "PUT")
    publisher = start("ffmpeg", "ffmpeg", "-v", "error", *encoded, f"{server.url}/cam.mp4")
    wait_for(lambda: is_live(server))
    time.sleep(1)
    late = viewer(f"{server.url}/cam.mp4", "late.mp4", "-r", "0-")

    assert output(publisher) == ""
    assert output(late).startswith(f"200 video/mp4; {kind}")

    [pictures, _] = decoded(tmp_path / "late.mp4")
    assert 25 < pictures <= 150
    packets = probe(tmp_path / "late.mp4")
    assert video(packets)[0].key
    times = sorted(packet.pts for packet in video(packets))
    assert max(after - before for before, after in pairwise(times)) < 0.09


def test_a_container_that_cannot_carry_the_codecs_is_refused(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    VP8 is not for MP4; HEAD is answered with the codecs of the container that carries it.
    """
    server = daemon(*MP4_ROUTES, STATS, *QUICK)
    camera(f"{server.url}/cam.webm", 20)
    wait_for(lambda: is_live(server))

    assert output(viewer(f"{server.url}/cam.mp4", "refused")).startswith("415 ")
    assert "the route word webm can" in (tmp_path / "refused").read_text()
    head = output(viewer(f"{server.url}/cam.webm", "head", "-I"))
    assert head == '200 video/webm; codecs="vp8,opus"'


# Two nodes.


def node(daemon: StartDaemon, redis: Server, *options: str) -> Server:
    """
    Start a daemon that shares its channels by *redis*.
    """
    return daemon(*ROUTES, STATS, "--broker=redis", f"--redis-port={redis.port}", *options)


def test_a_viewer_of_another_node_begins_at_a_keyframe(
    daemon: StartDaemon,
    redis: Server,
    camera: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    Heads and groups come from redis, for the first viewer of the node and for later ones. A
    second publisher is refused there too.
    """
    here, there = node(daemon, redis, *QUICK), node(daemon, redis, *QUICK)
    publisher = camera(f"{here.url}/cam.webm", 8)
    own = viewer(f"{here.url}/cam.webm", "own.webm")
    wait_for(lambda: is_live(here))
    time.sleep(1)
    first = viewer(f"{there.url}/cam.webm", "first.webm")
    wait_for(lambda: is_live(there))
    second = viewer(f"{there.url}/cam.webm", "second.webm")
    assert camera(f"{there.url}/cam.webm", 20).wait(PATIENCE)

    assert output(publisher) == ""
    for process, name in ((own, "own.webm"), (first, "first.webm"), (second, "second.webm")):
        assert output(process).startswith("200 ")
        decoded(tmp_path / name)
        packets = probe(tmp_path / name)
        assert video(packets)[0].key
        assert largest_step(packets) < 0.09


def test_the_streams_of_all_nodes_are_listed(
    daemon: StartDaemon, redis: Server, camera: Camera
) -> None:
    """
    Also by a node on which nobody views them, and until they end.
    """
    lists = "--route=GET ^/live.json$ streams:ca"
    here, there = node(daemon, redis, lists, *QUICK), node(daemon, redis, lists, *QUICK)

    def listed(server: Server) -> list[str]:
        with urlopen(f"{server.url}/live.json", timeout=PATIENCE) as response:
            names: list[str] = json.load(response)["streams"]
        return names

    assert listed(there) == []
    publisher = camera(f"{here.url}/cam.webm", 60)
    wait_for(lambda: listed(there) == ["m"])
    assert listed(here) == ["m"]
    third = node(daemon, redis, lists, *QUICK)
    assert listed(third) == ["m"]  # its first list waits for the other nodes

    publisher.send_signal(signal.SIGINT)
    wait_for(lambda: listed(there) == listed(third) == [])


def test_viewers_end_when_the_publishers_node_is_killed(
    daemon: StartDaemon,
    redis: Server,
    serve: Serve,
    camera: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    No end is announced: the other node ends its viewers by its own clock, cleanly, and then
    replays nothing of the old stream.
    """
    here, there = node(daemon, redis, *QUICK), node(daemon, redis, *QUICK)
    camera(f"{here.url}/cam.webm", 60)
    seen = viewer(f"{there.url}/cam.webm", "seen.webm")
    wait_for(lambda: is_live(there))

    here.kill(signal.SIGKILL)

    assert output(seen).startswith("200 ")
    decoded(tmp_path / "seen.webm")
    assert stats(there)["history"]["live"] == 0


def test_a_publisher_may_return_on_another_node(
    daemon: StartDaemon,
    redis: Server,
    camera: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    The viewers' times continue, on every node.
    """
    options = ("--live-timeout=8", "--live-grace=12")
    here, there = node(daemon, redis, *options), node(daemon, redis, *options)
    first = camera(f"{here.url}/cam.webm", 60)
    seen = viewer(f"{here.url}/cam.webm", "seen.webm")
    wait_for(lambda: is_live(here))
    time.sleep(2)
    first.kill()
    first.wait(PATIENCE)

    output(camera(f"{there.url}/cam.webm", 4))

    output(seen)
    decoded(tmp_path / "seen.webm")
    packets = probe(tmp_path / "seen.webm")
    assert len(video(packets)) > 110
    assert largest_step(packets) < 0.09
