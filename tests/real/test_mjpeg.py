"""
Motion JPEG over HTTP: ffmpeg and curl publish; ffprobe, curl and Chromium look.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rt_twisted.media.jpeg import is_picture
from rt_twisted.media.multipart import MultipartReader
from tests.real.conftest import PATIENCE, Browser, Server, StartDaemon
from tests.real.live_programs import Camera, is_live, output, start, stats, viewer, wait_for
from tests.real.media_programs import decoded, encode
from tests.real.redis_server import redis

__all__ = ["redis", "start", "viewer"]  # fixtures

ROUTES = (
    "--route=GET ^/cam$ mjpeg:cam",
    "--route=GET ^/cam.mjpg$ mjpg:subscribe=cam,boundary=x",
    "--route=GET ^/cam.jpg$ jpeg:subscribe=cam,wait=1",
    "--route=^/cam istream:cam",
    "--route=^/stats$ stats:full",
)
QUICK = ("--live-timeout=8", "--live-grace=2")
SIZES = ("320x240", "1280x720")  # ffmpeg sends pictures of more than 32 KiB in several chunks


@pytest.fixture
def camera(start: Camera) -> Camera:
    """
    Publishes a test picture to a URL in real time, for some seconds.
    """

    def run(
        url: str, seconds: float, muxer: str, size: str = SIZES[0], *options: str
    ) -> subprocess.Popen[bytes]:
        source = ("-re", "-f", "lavfi", "-i", f"testsrc=size={size}:rate=25", "-t", str(seconds))
        quality = ("-c:v", "mjpeg", "-q:v", "2", "-f", muxer)
        return start("ffmpeg", "ffmpeg", "-v", "error", *source, *quality, *options, url)

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], bytes]:
    """
    Returns a JPEG picture of one color, as ffmpeg writes it.
    """

    def draw(color: str) -> bytes:
        path = tmp_path / f"{color}.jpg"
        source = ("-f", "lavfi", "-i", f"color={color}:size=160x120", "-frames:v", "1")
        subprocess.run(["ffmpeg", "-y", "-v", "error", *source, path], check=True, timeout=PATIENCE)
        return path.read_bytes()

    return draw


def post(server: Server, data: bytes, path: str = "/cam") -> int:
    """
    Send a picture with curl, and return the status.
    """
    sent = ("-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-")
    done = subprocess.run(
        ["curl", *sent, server.url + path], input=data, capture_output=True, timeout=PATIENCE
    )
    return int(done.stdout)


def pictures(path: Path) -> list[bytes]:
    found = MultipartReader().feed(path.read_bytes())
    assert all(map(is_picture, found))
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("muxer", ["mpjpeg", "mjpeg"])
def test_every_picture_of_ffmpeg_arrives_whole(
    muxer: str, size: str, daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    ffprobe counts them all, in either form that ffmpeg sends; a late viewer begins with a picture.
    """
    server = daemon(*ROUTES, *QUICK)
    early = viewer(f"{server.url}/cam", "early")
    publisher = camera(f"{server.url}/cam", 4, muxer, size)
    wait_for(lambda: is_live(server))
    time.sleep(1)
    late = viewer(f"{server.url}/cam.mjpg", "late")

    assert output(publisher) == ""
    assert output(early) == "200 multipart/x-mixed-replace; boundary=frame"
    assert output(late) == "200 multipart/x-mixed-replace; boundary=x"

    assert 95 <= len(pictures(tmp_path / "early")) <= 100  # it begins when it is admitted
    assert 20 < len(pictures(tmp_path / "late")) < 90
    for name in ("early", "late"):
        raw = tmp_path / f"{name}.mjpeg"
        raw.write_bytes(b"".join(pictures(tmp_path / name)))
        assert decoded(raw) == [len(pictures(tmp_path / name))]


def test_ffprobe_reads_what_viewers_get(
    daemon: StartDaemon, camera: Camera, tmp_path: Path
) -> None:
    """
    The same as a browser, without lengths of parts.
    """
    server = daemon(*ROUTES, *QUICK)
    camera(f"{server.url}/cam", 5, "mpjpeg")
    wait_for(lambda: is_live(server))
    counted = ("-v", "error", "-f", "mpjpeg", "-strict_mime_boundary", "1", "-count_frames")
    shown = ("-of", "csv=p=0", "-show_entries", "stream=nb_read_frames,codec_name,width,height")

    found = subprocess.run(
        ["ffprobe", *counted, *shown, f"{server.url}/cam"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    codec, width, height, count = found.stdout.strip().split(",")
    assert (codec, width, height) == ("mjpeg", "320", "240")
    assert int(count) > 50


def test_pictures_by_post(
    daemon: StartDaemon,
    picture: Callable[[str], bytes],
    camera: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    Each replaces the one before; while ffmpeg publishes a stream they are refused.
    """
    server = daemon(*ROUTES, *QUICK)
    red, blue = picture("red"), picture("blue")
    assert output(viewer(f"{server.url}/cam.jpg", "none")).startswith("503 ")

    for sent in (red, blue):
        assert post(server, sent) == 200
        assert output(viewer(f"{server.url}/cam.jpg", "seen.jpg")) == "200 image/jpeg"
        assert (tmp_path / "seen.jpg").read_bytes() == sent
    assert post(server, red + blue) == 400
    assert post(server, red[:-2]) == 400

    publisher = camera(f"{server.url}/cam", 3, "mjpeg")
    wait_for(lambda: is_live(server))
    assert post(server, red) == 403
    output(publisher)
    wait_for(lambda: not is_live(server))
    assert post(server, red) == 200


def test_a_snapshot_while_the_publisher_is_away(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    A snapshot is the last picture, up to the end of the grace time; then 503.
    """
    server = daemon(*ROUTES, "--live-grace=4")
    publisher = camera(f"{server.url}/cam", 60, "mpjpeg")
    wait_for(lambda: is_live(server))
    publisher.kill()
    publisher.wait(PATIENCE)

    assert output(viewer(f"{server.url}/cam.jpg", "last.jpg")) == "200 image/jpeg"
    assert decoded(tmp_path / "last.jpg") == [1]
    wait_for(lambda: not is_live(server))
    assert output(viewer(f"{server.url}/cam.jpg", "none")).startswith("503 ")


def test_a_slow_viewer_gets_whole_pictures_and_the_newest_last(
    daemon: StartDaemon, start: Camera, tmp_path: Path
) -> None:
    """
    A viewer that stops reading misses pictures; its memory is one picture.
    """
    noise = ("-map", "0:v", "-vf", "noise=alls=100:allf=t", "-c:v", "mjpeg", "-q:v", "2")
    encode(tmp_path / "noise.mjpeg", *noise, "-s", "1280x720", seconds=2)
    server = daemon(*ROUTES, *QUICK)
    looped = ("-re", "-stream_loop", "3", "-i", tmp_path / "noise.mjpeg", "-c", "copy")
    publisher = start(
        "ffmpeg", "ffmpeg", "-v", "error", *looped, "-f", "mpjpeg", f"{server.url}/cam"
    )
    wait_for(lambda: is_live(server))
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(b"GET /cam HTTP/1.0\r\n\r\n")
        received = connection.recv(2000)
        publisher.wait(PATIENCE)
        assert stats(server)["messages"]["skips"] > 20
        last = subprocess.run(
            ["curl", "-s", f"{server.url}/cam.jpg"], capture_output=True, timeout=PATIENCE
        ).stdout
        while piece := connection.recv(1 << 20):
            received += piece

    found = MultipartReader().feed(received.partition(b"\r\n\r\n")[2])
    assert all(map(is_picture, found))
    assert found[-1] == last
    assert "a viewer of cam is too slow and gets only the newest pictures" in server.log


def test_a_viewer_of_another_node(
    daemon: StartDaemon,
    redis: Server,
    camera: Camera,
    picture: Callable[[str], bytes],
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    Pictures pass through redis, also those that programs publish there; a stream on one node
    keeps single pictures out on all.
    """
    options = ("--broker=redis", f"--redis-port={redis.port}", *ROUTES, *QUICK)
    here, there = daemon(*options), daemon(*options)
    seen = viewer(f"{there.url}/cam", "seen")
    publisher = camera(f"{here.url}/cam", 3, "mpjpeg")
    wait_for(lambda: is_live(there))
    assert post(there, picture("red")) == 403
    output(publisher)
    output(seen)
    assert len(pictures(tmp_path / "seen")) > 50

    assert post(here, picture("red")) == 200
    assert output(viewer(f"{there.url}/cam.jpg", "red")).startswith("200 ")
    assert (tmp_path / "red").read_bytes() == picture("red")
    published = ("redis-cli", "-p", str(redis.port), "-x", "PUBLISH", "cam")
    subprocess.run(published, input=picture("blue"), check=True, timeout=PATIENCE)
    wait_for(
        lambda: (
            output(viewer(f"{there.url}/cam.jpg", "blue")).startswith("200 ")
            and (tmp_path / "blue").read_bytes() != picture("red")
        )
    )
    assert (tmp_path / "blue").read_bytes().rstrip(b"\n") == picture("blue")


PAGE = """<!doctype html><img id=a src=/cam><canvas id=c width=160 height=120></canvas><script>
function shown() {
    var context = c.getContext('2d');
    context.drawImage(a, 0, 0);
    var color = context.getImageData(80, 60, 1, 1).data;
    return ['red', 'lime', 'blue'].filter((name, index) => color[index] > 200).join();
}
</script>"""


def test_chromium_paints_each_picture_at_once(
    daemon: StartDaemon, picture: Callable[[str], bytes], browser: Browser, tmp_path: Path
) -> None:
    """
    No further picture is needed: the header of the next part is sent ahead of time.
    """
    (tmp_path / "page.html").write_text(PAGE)
    server = daemon(*ROUTES, f"--route=^/files static:{tmp_path}")
    assert post(server, picture("red")) == 200
    browser.open(f"{server.url}/files/page.html")

    for name in ("red", "lime", "blue", "red"):
        assert post(server, picture(name)) == 200
        browser.wait_for(f"shown() == '{name}'")
