"""
The command's options, the settings of the file, and route words with their arguments.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, TWISTD
from tests.recorded.conftest import Check
from tests.recorded.transcript import Transcript

Accepts = Callable[..., bool]

NOT_IN_THE_FILE = ("check", "config", "help", "show-config", "version")
SUBSCRIBE = "subscribe=news,subscribe=$1"
# Each route word with all of its arguments.
ROUTES = {
    "sse": f"{SUBSCRIBE},history=5,retry=5,slow=skip,ids=no,page=try,buffer_size=5",
    "sseraw": f"{SUBSCRIBE},history=5,retry=5,slow=disconnect,ids=yes,page=try,buffer_size=5",
    "stream": rf"{SUBSCRIBE},prefix=<,suffix=\n,type=text/plain,history=5,slow=skip",
    "poll": f"{SUBSCRIBE},history=5,wait=0.5",
    "publish": "channel=news,channel=${qs[x]}",
    "stats": "format=full,channels=5",
    "metrics": "channels=5",
    "alive": "",
    "ready": "",
    "page": "file=realtime.js",
    "static": "path=.",
    "resource": "name=twisted.web.resource.Resource",
    "wsgi": "name=wsgiref.simple_server:demo_app",
    "websocket": f"{SUBSCRIBE},publish=news,publish=sport,prefix=<,suffix=>,protocol=raw,"
    "binary=yes,history=5,slow=skip,subprotocol=one,subprotocol=two",
    "socket.io": f"{SUBSCRIBE},publish=news,publish=sport,history=5,positions=no",
    "engine.io": f"{SUBSCRIBE},subscribe=a.*,publish=news,publish=sport,binary=yes,history=5,"
    "slow=skip,pattern=yes",
    "icecast": "channel=radio,password=x,burst=2,wait=0.5,behind=65536,max=9,charset=latin-1",
    "icecast-admin": "password=x",
    "istream": "publish=live,takeover=yes,timeout=5,grace=0",
    "webm": "subscribe=live,burst=2,wait=0.5,behind=65536,video_codec=V_VP9,"
    "audio_codec=A_OPUS,track_prefix=yes",
}
NEED_ARGUMENTS = ("static", "resource", "wsgi", "icecast", "istream", "webm")
BARE = (
    "sse:news", "sseraw:news", "stream:news", "poll:news", "publish:news", "stats:full",
    "metrics:5", "page:attributes.js", "page:jquery.sse.js", "static:.",
    "resource:twisted.web.resource.Resource", "wsgi:wsgiref.simple_server:demo_app",
    "websocket:news", "socket.io:news", "engine.io:news", "istream:live", "webm:live", "alive:x",
    "ready:x",
)  # fmt: skip
# Names that would be those of the action's own attributes, and one that nothing is called.
NO_ARGUMENTS = ("house=x", "context=x", "nosuch=x")
VALUES = (
    "sse:history=x", "sse:retry=x", "sse:slow=x", "sse:slow=disconnect", "sse:ids=x", "sse:ids=0",
    "sse:ids=true", "sse:ids=NO", "sse:history=5,history=6", "sse:news,history=5",
    "sse:subscribe=$2", "sse:subscribe=${nothing}", "sse:subscribe=${cookie[x]}-${HTTP_X_USER}",
    "sse:subscribe=${PATH_INFO}${QUERY_STRING}${REMOTE_ADDR}${REQUEST_METHOD}${uwsgi[uuid]}",
    "sse:subscribe=a\\,b", "sse:subscribe=a\\", "poll:wait=x", "stats:format=counts",
    "stats:format=xml", "stats:channels=-1", "metrics:channels=x", "page:file=other.js",
    "websocket:protocol=json", "websocket:protocol=x", "websocket:app=nothing.there",
    "socket.io:app=nothing.there", "socket.io:positions=x", "sse:server=127.0.0.1:1",
    "sse:server=redis://127.0.0.1:1/0", "sse:server=x", "websocket:server=127.0.0.1:1",
    "publish:server=127.0.0.1:1", "stats:server=127.0.0.1:1", "page:server=127.0.0.1:1",
    "engine.io:binary=x", "istream:timeout=0", "istream:grace=-1", "istream:publish=$2",
    "webm:burst=x", "webm:behind=-1", "webm:video_codec=x", "sse:subscribe=a*,pattern=yes",
    "sse:subscribe=a,pattern=yes",
    "interleaved", "mjpeg", "mjpg", "rtsp", "upload", "events", "SSE", "nothing.there",
)  # fmt: skip


@pytest.fixture(scope="module")
def accepts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accepts]:
    """
    Whether `--check` finds options right.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("checks.py"))],
        cwd=tmp_path_factory.mktemp("checks"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        reading, writing = process.stdout, process.stdin
        assert reading is not None
        assert writing is not None

        def ask(*options: str) -> bool:
            writing.write(json.dumps(options) + "\n")
            writing.flush()
            status = reading.readline().strip()
            assert status in ("0", "1"), f"status {status} of {options}"
            return status == "0"

        yield ask
        writing.close()


def read_help() -> list[tuple[str, str, str]]:
    """
    Option, short name and default of each option in `--help`; "-" if none is named.
    """
    done = subprocess.run(
        [*TWISTD, "realtime", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    found = re.findall(
        r"^  (?:(-\w), )?--([\w-]+=?)\n(.*?)(?=^  (?:-\w, )?--|^\S|\Z)",
        done.stdout,
        re.DOTALL | re.MULTILINE,
    )
    options = []
    for short, name, text in found:
        default = re.search(r"\[default:\s*(.*?)\]\s*\Z", " ".join(text.split()))
        options.append((name, short or "-", default[1] if default else "-"))
    return sorted(options, key=lambda option: option[0].rstrip("="))


def test_options(check: Check) -> None:
    """
    Names, short names and defaults of all options.
    """
    lines = [f"--{name} {short} {default}".rstrip() for name, short, default in read_help()]
    check("options.txt", "\n".join(lines) + "\n")


def test_settings_of_the_file(accepts: Accepts, check: Check, tmp_path: Path) -> None:
    """
    Which options may stand in the file, with which defaults, and what is refused.
    """
    record = Transcript()
    file = tmp_path / "realtime.conf"
    lines = []
    record.title("settings")
    for option, _, default in read_help():
        name = option.rstrip("=")
        if name in NOT_IN_THE_FILE:
            file.write_text(f"{name} = 1\n")
            record.add(f"{name} = 1: {'accepted' if accepts(f'--config={file}') else 'refused'}")
        else:
            secret = "secret" if name.endswith("-key") else ""
            if name == "token-key":
                secret *= 6  # at least 32 bytes
            lines.append(f"{name} = {default.strip('-') or secret}".rstrip())
    file.write_text("\n".join(lines))
    record.add(f"{'accepted' if accepts(f'--config={file}') else 'refused'} together:")
    record.add(file.read_text())
    record.title("lines")
    for line in ("# comment", "", "--port=9000", "port=9000", "port = 99999", "port", "ports = 1",
                 "history = -1", "history-age = 10x", "history-age = 2h", "history-bytes = 64k",
                 "trim = yes", "trim = maybe", "slow = skip", "slow = never", "broker = memory",
                 "broker = http", "broker = none", "export = graphite", "log-format = json",
                 "log-format = x", "channel-pattern = [", "use-ssl = 1", "workers = 2",
                 "credentials = 1", "http-secret = env:NOTHING_SET", "http-secret = file:none",
                 "route = ^/x$ sse", "route = GET ^/x$ sse", "route = x", "endpoint = tcp:0",
                 "endpoint = nothing", "trusted-proxies = 10.0.0.0/8 unix",
                 "trusted-proxies = x"):  # fmt: skip
        file.write_text(f"{line}\n")
        record.add(f"{line}: {'accepted' if accepts(f'--config={file}') else 'refused'}")
    file.unlink()
    record.add(f"no file: {'accepted' if accepts(f'--config={file}') else 'refused'}")
    record.add(f"an unknown option: {'accepted' if accepts('--unknown=1') else 'refused'}")
    check("settings.txt", record)


def test_routes(accepts: Accepts, check: Check) -> None:
    """
    Each route word, the arguments that it accepts and the values that these accept.
    """

    def route(text: str) -> None:
        answer = "accepted" if accepts(rf"--route=^/(\w)$ {text}") else "refused"
        record.add(f"{text}: {answer}")

    record = Transcript()
    for word, arguments in ROUTES.items():
        record.title(word)
        needed = arguments if word in NEED_ARGUMENTS else ""
        route(word)
        route(f"{word}:{arguments}")
        for name in NO_ARGUMENTS:
            route(f"{word}:{','.join(filter(None, (needed, name)))}")
    record.title("arguments without a name")
    for text in BARE:
        route(text)
    record.title("values and words")
    for text in VALUES:
        route(text)
    check("routes.txt", record)
