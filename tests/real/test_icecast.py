"""
Radio as it is: source clients, players and scripts of Icecast. The dialogues of one station run
against icecast2, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, Server, StartDaemon, free_port, require
from tests.real.live_programs import Camera, start, wait_for
from tests.real.media_programs import VIDEO, probe
from tests.real.redis_server import redis

__all__ = ["redis", "start"]  # fixtures

ROUTES = (
    r"--route=^/(status(-json)?\.xsl|admin/\w+)$ icecast-admin:password=boss",
    r"--route=^/\w+\.\w+\.(m3u|xspf)$ icecast-playlist",
    r"--route=^/(\w+\.(mp3|aac|ogg|opus|webm))$ icecast:channel=radio/$1,password=hackme",
    "--live-grace=2",
)
LISTENER = (
    r"<listener><IP>127.0.0.1</IP><UserAgent>curl/[^<]*</UserAgent><Connected>\d+</Connected>"
    r"<ID>(\d+)</ID></listener>"
)
TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100")
MP3 = ("-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3")
UPDATE = "/admin/metadata?mount=/live.mp3&mode=updinfo&song=Artist+-+T%C3%AFtle"


@dataclass(frozen=True, slots=True)
class Station:
    """
    A server for Icecast's clients.

    Args:
        port: of 127.0.0.1.
        title_password: of `/admin/metadata`.
    """

    port: int
    title_password: str = "hackme"

    @property
    def url(self) -> str:
        """
        Its URL without a slash at the end.
        """
        return f"http://127.0.0.1:{self.port}"

    def source_url(self, mount: str = "/live.mp3", password: str = "hackme") -> str:
        """
        Return the URL by which ffmpeg is a source.
        """
        return f"icecast://source:{password}@127.0.0.1:{self.port}{mount}"

    def get(self, path: str, password: str = "") -> tuple[int, str]:
        """
        Return status and body of a response.
        """
        login = ("-u", f"admin:{password}") if password else ()
        command = [require("curl", "curl"), "-s", "-w", "\n%{http_code}", *login, self.url + path]
        printed = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout
        body, _, status = printed.decode().rpartition("\n")
        return int(status), body

    def sources(self) -> list[dict[str, object]]:
        """
        Return the sources in `status-json.xsl`, as a monitoring script does.
        """
        stats = json.loads(self.get("/status-json.xsl")[1])["icestats"]
        found = stats.get("source", [])
        return found if isinstance(found, list) else [found]

    def is_live(self, mount: str = "/live.mp3") -> bool:
        """
        Return whether a mount has a source.
        """
        return any(str(one["listenurl"]).endswith(mount) for one in self.sources())


@pytest.fixture
def ours(daemon: StartDaemon) -> Station:
    return Station(daemon(*ROUTES).port)


def icecast2(folder: Path, stack: ExitStack) -> Station:
    """
    Start icecast2, which refuses to run as root.
    """
    program = require("icecast2", "icecast2")
    port = free_port()
    share = "/usr/share/icecast2"
    settings = folder / "icecast.xml"
    settings.write_text(
        "<icecast><location>x</location><admin>x</admin><limits><sources>9</sources></limits><authentication>"
        "<source-password>hackme</source-password><admin-user>admin</admin-user>"
        "<admin-password>boss</admin-password></authentication><hostname>127.0.0.1</hostname>"
        f"<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>"
        f"<paths><basedir>{share}</basedir><logdir>/tmp</logdir><webroot>{share}/web</webroot>"
        f"<adminroot>{share}/admin</adminroot></paths><logging><accesslog>-</accesslog>"
        "<errorlog>-</errorlog></logging></icecast>"
    )
    for path in (settings, *[one for one in settings.parents if "pytest" in str(one)]):
        path.chmod(0o755)
    unprivileged = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    process = subprocess.Popen(
        [*unprivileged, program, "-c", settings],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    station = Station(port, "boss")

    def is_up() -> bool:
        try:
            with urlopen(f"{station.url}/status-json.xsl", timeout=PATIENCE) as response:
                json.load(response)
                return True
        except (OSError, ValueError):  # it sends no valid JSON until all is configured
            return False

    wait_for(is_up)
    return station


@pytest.fixture(params=["rt_twisted", "icecast2"])
def station(
    request: pytest.FixtureRequest, daemon: StartDaemon, tmp_path: Path
) -> Iterator[Station]:
    """
    Each server in turn.
    """
    with ExitStack() as stack:
        if request.param == "icecast2":
            yield icecast2(tmp_path, stack)
        else:
            yield Station(daemon(*ROUTES).port)


def ffmpeg(start: Camera, url: str, seconds: float, *options: str) -> subprocess.Popen[bytes]:
    """
    Start ffmpeg as a source.
    """
    quiet = ("-nostdin", "-v", "error", "-re")
    return start("ffmpeg", "ffmpeg", *quiet, *TONE, "-t", str(seconds), *(options or MP3), url)


def listen(url: str, seconds: float, *options: str) -> tuple[str, bytes]:
    """
    Return the head and the body that curl receives in some seconds.
    """
    command = [require("curl", "curl"), "-s", "-i", "-m", str(seconds), *options, url]
    received = subprocess.run(command, capture_output=True, timeout=PATIENCE).stdout
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body


def split_titles(stream: bytes, interval: int) -> tuple[bytes, list[bytes]]:
    """
    Return the audio and the titles in a stream with `icy-metaint`.
    """
    audio, titles = b"", []
    while len(stream) > interval:
        audio += stream[:interval]
        size = stream[interval] * 16
        if size:
            titles.append(stream[interval + 1 : interval + 1 + size].rstrip(b"\0"))
        stream = stream[interval + 1 + size :]
    return audio + stream, titles


def check_audio(data: bytes, path: Path, seconds: float) -> None:
    """
    Check that a file of MP3 plays at least so long, without a damaged frame behind the first.
    """
    path.write_bytes(data)
    packets = probe(path)
    assert packets[-1].pts - packets[0].pts >= seconds
    assert len({packet.size for packet in packets[1:-1]}) <= 2


@pytest.mark.parametrize("method", [(), ("-legacy_icecast", "1")])
def test_a_station(station: Station, start: Camera, tmp_path: Path, method: tuple[str]) -> None:
    """
    ffmpeg publishes by PUT and by SOURCE, a script sets the title, listeners get audio at once,
    and the title if they ask for it; monitoring finds both.
    """
    named = ("-ice_name", "My Radio", "-ice_genre", "Jazz")
    source = ffmpeg(start, station.source_url(), 12, *MP3, *named, *method)
    wait_for(station.is_live)
    time.sleep(2)

    assert station.get(UPDATE)[0] == 401
    assert station.get(UPDATE, "wrong")[0] == 401
    status, answer = station.get(UPDATE, station.title_password)
    assert status == 200
    assert "<message>Metadata update successful</message><return>1</return>" in answer
    time.sleep(0.5)
    begin = time.monotonic()
    head, body = listen(f"{station.url}/live.mp3", 5, "-H", "Icy-MetaData: 1")
    assert time.monotonic() - begin < PATIENCE

    assert "200 OK" in head
    for line in ("Content-Type: audio/mpeg", "icy-metaint:", "icy-name:", "icy-genre:", "icy-pub:"):
        assert f"\r\n{line}" in head
    audio, titles = split_titles(body, 16_000)
    check_audio(audio, tmp_path / "a.mp3", 5)  # curl listened for 5 s, and got a burst
    title = "StreamTitle='Artist - Tïtle';".encode()
    assert title in titles
    head, plain = listen(f"{station.url}/live.mp3", 1)
    assert "icy-metaint" not in head
    check_audio(plain, tmp_path / "b.mp3", 1)
    [one] = station.sources()
    assert one["server_name"] == "My Radio"
    assert one["genre"] == "Jazz"
    assert one["server_type"] == "audio/mpeg"
    assert "T" in str(one["title"])
    assert station.get("/admin/stats", "boss")[1].count('<source mount="/live.mp3">') == 1
    assert "<Connected>" in station.get("/admin/listmounts", "boss")[1]
    assert station.get("/live.mp3.m3u")[1].strip() == f"{station.url}/live.mp3"
    assert "<location>" in station.get("/live.mp3.xspf")[1]
    assert source.communicate(timeout=PATIENCE)[0] == b""
    assert source.returncode == 0


def test_refusals(station: Station, start: Camera) -> None:
    """
    A wrong password, a mount in use, a mount without source: as clients expect them.
    """
    wrong = ffmpeg(start, station.source_url(password="wrong"), 2)
    assert b"401" in wrong.communicate(timeout=PATIENCE)[0]
    source = ffmpeg(start, station.source_url(), 10)
    wait_for(station.is_live)

    busy = ffmpeg(start, station.source_url(), 2)
    assert b"403" in busy.communicate(timeout=PATIENCE)[0]
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{station.url}/none.mp3", timeout=PATIENCE)

    assert station.get(UPDATE.replace("live", "none"), "boss")[0] == 400
    status, answer = station.get("/admin/killsource?mount=/live.mp3", "boss")
    assert (status, "Source Removed" in answer) == (200, True)
    source.wait(PATIENCE)
    wait_for(lambda: not station.is_live())


def test_listeners_are_moved(station: Station, start: Camera, tmp_path: Path) -> None:
    """
    A script lists the listeners of a mount, moves them to another one, and disconnects one.
    """
    mounts = ("/live.mp3", "/other.mp3")
    sources = [ffmpeg(start, station.source_url(mount), 60) for mount in mounts]
    wait_for(lambda: all(map(station.is_live, mounts)))
    received = tmp_path / "received.mp3"
    listener = start("curl", "curl", "-sN", "-o", str(received), f"{station.url}/live.mp3")
    page = "/admin/listclients?mount="

    def listed(mount: str) -> list[str]:
        status, text = station.get(page + mount, "boss")
        assert status == 200
        return re.findall(LISTENER, text)

    wait_for(lambda: len(listed("/live.mp3")) == 1)
    move = "/admin/moveclients?mount=/live.mp3&destination="
    for wrong in (page + "/none.mp3", move + "/none.mp3", move + "/live.mp3"):
        assert station.get(wrong, "boss")[0] == 400
    assert station.get(page + "/live.mp3", "wrong")[0] == 401
    answer = station.get(move + "/other.mp3", "boss")[1]
    assert "Clients moved from /live.mp3 to /other.mp3" in answer
    wait_for(lambda: len(listed("/other.mp3")) == 1)
    assert listed("/live.mp3") == []
    wait_for_more(received)
    [id] = listed("/other.mp3")
    kill = f"/admin/killclient?mount=/other.mp3&id={id}"
    answer = station.get(kill, "boss")[1]
    assert f"<message>Client {id} removed</message><return>1</return>" in answer
    listener.wait(PATIENCE)
    assert "<return>0</return>" in station.get(kill, "boss")[1]
    for source in sources:
        source.kill()
    check_audio(received.read_bytes(), received, 1)


def wait_for_more(received: Path) -> None:
    """
    Wait until a listener has received another second of audio.
    """
    wait_for(received.exists)
    size = received.stat().st_size
    wait_for(lambda: received.stat().st_size > size + 16000)


def test_listeners_move_to_a_fallback_and_return(
    daemon: StartDaemon, start: Camera, tmp_path: Path
) -> None:
    """
    The source is killed, and comes back; a listener gets the other mount meanwhile.
    """
    mount = "channel=radio/$1,password=hackme"
    fallback = rf"--route=^/(live\.mp3)$ icecast:{mount},fallback=/quiet.mp3"
    quiet = rf"--route=^/(quiet\.mp3)$ icecast:{mount}"
    station = Station(daemon(ROUTES[0], fallback, quiet).port)
    ffmpeg(start, station.source_url("/quiet.mp3"), 60)
    source = ffmpeg(start, station.source_url("/live.mp3"), 60)
    wait_for(lambda: station.is_live("/quiet.mp3") and station.is_live())
    received = tmp_path / "received.mp3"
    start("curl", "curl", "-sN", "-o", str(received), f"{station.url}/live.mp3")

    def listeners(mount: str) -> int:
        found = [one for one in station.sources() if str(one["listenurl"]).endswith(mount)]
        return int(str(found[0]["listeners"])) if found else 0

    wait_for(lambda: listeners("/live.mp3") == 1)
    source.kill()
    wait_for(lambda: listeners("/quiet.mp3") == 1)
    wait_for_more(received)
    ffmpeg(start, station.source_url("/live.mp3"), 60)
    wait_for(lambda: listeners("/live.mp3") == 1)
    wait_for_more(received)
    check_audio(received.read_bytes(), received, 2)


def test_ezstream(station: Station, start: Camera, tmp_path: Path) -> None:
    """
    libshout asks without a password first, with `Content-Length: 0`, and sets the title itself.
    """
    audio = tmp_path / "tone.mp3"
    tags = ("-metadata", "artist=A", "-metadata", "title=Song", "-id3v2_version", "3")
    encoded = ("-t", "8", "-c:a", "libmp3lame", *tags)
    command = [require("ffmpeg", "ffmpeg"), "-nostdin", "-v", "error", *TONE, *encoded, str(audio)]
    subprocess.run(command, check=True)
    settings = tmp_path / "ezstream.xml"
    settings.write_text(
        f"<ezstream><servers><server><hostname>127.0.0.1</hostname><port>{station.port}</port>"
        "<password>hackme</password><reconnect_attempts>1</reconnect_attempts></server></servers>"
        "<streams><stream><mountpoint>/live.mp3</mountpoint><format>MP3</format></stream></streams>"
        f"<intakes><intake><type>file</type><filename>{audio}</filename><stream_once>yes</stream_once>"
        "</intake></intakes></ezstream>"
    )
    settings.chmod(0o600)
    source = start("ezstream", "ezstream", "-c", str(settings))
    wait_for(station.is_live)
    wait_for(lambda: any("Song" in str(one.get("title")) for one in station.sources()))

    _, body = listen(f"{station.url}/live.mp3", 3)

    check_audio(body, tmp_path / "a.mp3", 2)
    source.wait(PATIENCE)


def test_mpg123_plays(station: Station, start: Camera) -> None:
    """
    The player shows name and title.
    """
    ffmpeg(start, station.source_url(), 12, *MP3, "-ice_name", "My Radio")
    wait_for(station.is_live)
    station.get(UPDATE, "boss")
    time.sleep(2)

    player = require("mpg123", "mpg123")
    command = [player, "-t", "-n", "200", f"{station.url}/live.mp3"]
    played = subprocess.run(command, capture_output=True, timeout=PATIENCE)

    printed = played.stderr + played.stdout
    assert played.returncode == 0, printed
    assert b"ICY-NAME: My Radio" in printed
    assert b"ICY-META: StreamTitle='Artist - T" in printed


@pytest.mark.parametrize("codec", ["libopus", "libvorbis"])
def test_ogg_for_a_late_listener(
    station: Station, start: Camera, tmp_path: Path, codec: str
) -> None:
    """
    A listener that joins in the middle gets the headers first, and decodes without an error.
    """
    kind = ("-content_type", "application/ogg")
    paged = ("-c:a", codec, "-page_duration", "200000", "-f", "ogg", *kind)
    ffmpeg(start, station.source_url("/live.ogg"), 12, *paged)
    wait_for(lambda: station.is_live("/live.ogg"))
    time.sleep(3)

    head, body = listen(f"{station.url}/live.ogg", 3)

    assert "Content-Type: application/ogg" in head
    path = tmp_path / "a.ogg"
    path.write_bytes(body[: body.rindex(b"OggS")])
    command = [require("ffmpeg", "ffmpeg"), "-v", "error", "-i", str(path), "-f", "null", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    packets = probe(path)
    assert packets[-1].pts - packets[0].pts > 2


def test_aac(station: Station, start: Camera, tmp_path: Path) -> None:
    """
    AAC is sent in ADTS, as it was received.
    """
    kind = ("-c:a", "aac", "-f", "adts", "-content_type", "audio/aac")
    ffmpeg(start, station.source_url("/live.aac"), 10, *kind)
    wait_for(lambda: station.is_live("/live.aac"))
    time.sleep(2)

    head, body = listen(f"{station.url}/live.aac", 3)

    assert "Content-Type: audio/aac" in head
    path = tmp_path / "a.aac"
    path.write_bytes(body)
    assert len(probe(path)) > 43 * 2


def test_webm_begins_at_a_keyframe(ours: Station, start: Camera, tmp_path: Path) -> None:
    """
    A mount takes WebM, too, with the codecs in its content type.
    """
    video = (
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-g",
        "25",
        "-c:a",
        "libopus",
        "-b:v",
        "300k",
    )
    options = (*VIDEO, *video, "-content_type", "video/webm", "-f", "webm")
    ffmpeg(start, ours.source_url("/live.webm"), 8, *options)
    wait_for(lambda: ours.is_live("/live.webm"))
    time.sleep(1.5)

    head, body = listen(f"{ours.url}/live.webm", 3)

    assert 'Content-Type: video/webm; codecs="' in head
    path = tmp_path / "a.webm"
    path.write_bytes(body)
    pictures = [packet for packet in probe(path) if packet.key]
    assert pictures


def test_a_listener_stays_while_the_source_reconnects(
    ours: Station, start: Camera, tmp_path: Path
) -> None:
    """
    The blocks with titles stay at their places.
    """
    first = ffmpeg(start, ours.source_url(), 60)
    wait_for(ours.is_live)
    listener = start(
        "curl", "curl", "-sN", "-m", "10", "-H", "Icy-MetaData: 1", f"{ours.url}/live.mp3"
    )
    time.sleep(3)
    first.kill()
    first.wait()
    ffmpeg(start, ours.source_url(), 60)
    time.sleep(2)
    assert ours.get(UPDATE, "boss")[0] == 200
    received, _ = listener.communicate(timeout=PATIENCE)

    audio, titles = split_titles(received, 16_000)
    assert titles[-1] == "StreamTitle='Artist - Tïtle';".encode()
    assert all(title.startswith(b"StreamTitle='") for title in titles)
    assert len(audio) > 16_000 * 6


def test_two_nodes(daemon: StartDaemon, redis: Server, start: Camera) -> None:
    """
    A listener and a script on another node reach the source by redis.
    """
    shared = (*ROUTES, "--broker=redis", f"--redis-port={redis.port}")
    here, there = [Station(daemon(*shared).port) for _ in range(2)]
    ffmpeg(start, here.source_url(), 20, *MP3, "-ice_name", "My Radio")
    wait_for(here.is_live)

    assert there.get(UPDATE, "boss")[0] == 200
    time.sleep(2)
    head, body = listen(f"{there.url}/live.mp3", 3, "-H", "Icy-MetaData: 1")

    assert "icy-name: My Radio" in head
    assert split_titles(body, 16_000)[1][-1] == "StreamTitle='Artist - Tïtle';".encode()
    assert there.is_live()
    refused = ffmpeg(start, there.source_url(), 2)
    assert b"403" in refused.communicate(timeout=PATIENCE)[0]
