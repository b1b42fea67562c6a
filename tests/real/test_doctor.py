"""
The doctor, looking through real proxies that do what proxies do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.real.conftest import PATIENCE, ROOT, Serve, Server, StartDaemon, free_port, require

NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    proxy_cache_path cache keys_zone=kept:1m;
    server {{
        listen 127.0.0.1:{port}{ssl};
        location / {{
            proxy_pass http://127.0.0.1:{daemon}/;
            {lines}
        }}
    }}
}}
"""
GOOD = 'proxy_http_version 1.1; proxy_set_header Connection ""; client_max_body_size 2m;'
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client {client}
    timeout server {server}
    {defaults}
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    {lines}
    server daemon 127.0.0.1:{daemon}
"""
HAPROXY_GOOD = {"client": "60s", "server": "60s", "defaults": "", "lines": ""}
KEY = "sesame"
QUICK = ("--patience=1", "--timeout=4")

Proxy = Callable[..., Server]


@pytest.fixture
def nginx(serve: Serve, tmp_path: Path) -> Proxy:
    """
    Starts nginx in front of a server, with some lines in its location.
    """
    program = require("nginx", "nginx")

    def start(daemon: Server, lines: str = GOOD, certificate: str = "") -> Server:
        port = free_port()
        folder = tmp_path / f"nginx-{port}"
        folder.mkdir()
        ssl = f" ssl; {certificate}".rstrip(";") if certificate else ""
        text = NGINX.format(port=port, daemon=daemon.port, lines=lines, ssl=ssl)
        (folder / "nginx.conf").write_text(text)
        command = [program, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        return serve(command, port, folder)

    return start


@pytest.fixture
def haproxy(serve: Serve, tmp_path: Path) -> Proxy:
    """
    Starts haproxy in front of a server.
    """
    program = require("haproxy", "haproxy")

    def start(daemon: Server, **lines: str) -> Server:
        port = free_port()
        folder = tmp_path / f"haproxy-{port}"
        folder.mkdir()
        text = HAPROXY.format(port=port, daemon=daemon.port, **{**HAPROXY_GOOD, **lines})
        (folder / "haproxy.cfg").write_text(text)
        return serve([program, "-db", "-f", "haproxy.cfg"], port, folder)

    return start


def certificate(folder: Path) -> str:
    """
    Make a certificate that nobody has signed.

    Returns:
        the lines of nginx that use it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(key.private_bytes(pem, *form))
    (folder / "certificate.pem").write_bytes(signed.public_bytes(pem))
    return f"ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;"


class Told:
    """
    What the doctor said.
    """

    def __init__(self, status: int, found: dict[str, Any]) -> None:
        self.status = status
        self.verdict = found["verdict"]
        self.checks = {check["check"]: check for check in found["checks"]}

    def __getitem__(self, name: str) -> str:
        return str(self.checks[name]["verdict"])

    def said(self, name: str) -> str:
        """
        What was measured.
        """
        return str(self.checks[name]["said"])

    @property
    def bad(self) -> set[str]:
        """
        The checks that went wrong.
        """
        return {name for name in self.checks if self[name] in ("warn", "fail")}


def look(url: str, *arguments: str, key: str = KEY) -> Told:
    """
    Ask the doctor, as a user does.
    """
    command = [sys.executable, "-m", "rt_twisted.doctor", url, *([key] if key else [])]
    done = subprocess.run(
        [*command, "--json", *QUICK, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return Told(done.returncode, json.loads(done.stdout))


@pytest.fixture
def server(daemon: StartDaemon) -> Server:
    """
    A daemon with a key, and a heartbeat that a test sees.
    """
    return daemon(f"--http-secret={KEY}", "--heartbeat=1")


def test_a_daemon_by_itself_is_well(server: Server) -> None:
    """
    Nothing is wrong where no proxy is.
    """
    told = look(server.url + "/", "--patience=3")

    assert told.bad == set(), told.checks
    assert told.status == 0
    assert told["idle streams"] == "ok"
    assert "heartbeats" in told.said("idle streams")
    assert told["resume"] == told["buffering"] == told["caching"] == "ok"


def test_the_nginx_of_our_documents_is_well(server: Server, nginx: Proxy) -> None:
    """
    The few lines that the documents show are enough, with the larger body beside them.
    """
    told = look(nginx(server).url + "/", "--patience=3")

    assert told.bad == set(), told.checks
    assert told.status == 0
    assert "taken" in told.said("headers")


def test_buffering_is_seen_and_measured(server: Server, nginx: Proxy) -> None:
    """
    nginx holds everything back, even the head, if told to ignore what the daemon asks
    for and left to speak HTTP/1.0 with it.
    """
    lines = "client_max_body_size 2m; proxy_ignore_headers X-Accel-Buffering;"
    told = look(nginx(server, lines).url + "/")

    assert told.status == 2
    assert told["reach"] == told["status"] == "ok"
    assert told["buffering"] == "fail"
    assert "KiB had been sent behind it" in told.said("buffering")
    assert told.checks["buffering"]["nginx"].startswith("proxy_buffering off;")
    assert told["resume"] == "skip"
    assert told.bad == {"buffering"}, told.checks


def test_compression_is_seen(server: Server, nginx: Proxy) -> None:
    """
    gzip on event streams is a warning as long as messages still come at once.
    """
    told = look(nginx(server, GOOD + "gzip on; gzip_types text/event-stream;").url + "/")

    assert told.bad == {"compression"}, told.checks
    assert told.status == 1
    assert told["compression"] == "warn"
    assert "gzip" in told.said("compression")


def test_a_short_read_timeout_is_measured(daemon: StartDaemon, nginx: Proxy) -> None:
    """
    A stream that is cut between two heartbeats, and after how long.
    """
    server = daemon(f"--http-secret={KEY}")
    told = look(nginx(server, GOOD + "proxy_read_timeout 2s;").url + "/", "--patience=20")

    assert told.bad == {"idle streams"}, told.checks
    assert told.status == 2
    words = told.said("idle streams").split()
    assert words[:2] == ["cut", "after"]
    assert 1.5 < float(words[2]) < 10
    assert "proxy_read_timeout" in told.checks["idle streams"]["nginx"]


def test_a_stripped_last_event_id_is_seen(server: Server, nginx: Proxy) -> None:
    """
    A stripped header is distinguished from a daemon without history: the same id in the URL works.
    """
    told = look(nginx(server, GOOD + 'proxy_set_header Last-Event-ID "";').url + "/")

    assert told.bad == {"resume"}, told.checks
    assert told.status == 2
    assert "stripped" in told.said("resume")


def test_a_daemon_without_history_is_told_from_a_proxy(daemon: StartDaemon) -> None:
    """
    Nothing to resume from is no fault of a header.
    """
    told = look(daemon(f"--http-secret={KEY}", "--history=0").url + "/")

    assert told["resume"] == "fail"
    assert "gap" in told.said("resume")


def test_rewritten_headers_are_seen(server: Server, nginx: Proxy) -> None:
    """
    Cache-Control taken away is a warning, one that invites caches is worse.
    """
    stripped = look(nginx(server, GOOD + "proxy_hide_header Cache-Control;").url + "/")
    rewritten = look(nginx(server, GOOD + "expires 1h;").url + "/")

    assert stripped.bad == {"headers"}, stripped.checks
    assert stripped["headers"] == "warn"
    assert rewritten["headers"] == "fail"
    assert "max-age=3600" in rewritten.said("headers")


def test_a_cache_is_seen(server: Server, nginx: Proxy) -> None:
    """
    A second reader gets what was meant for the first.
    """
    lines = (
        "proxy_cache kept; proxy_cache_valid 200 1m; expires off;"
        "proxy_ignore_headers X-Accel-Buffering Cache-Control;"
    )
    told = look(nginx(server, GOOD + lines).url + "/")

    assert told.status == 2
    assert told.bad == {"caching"}, told.checks
    assert "proxy_cache off" in told.checks["caching"]["nginx"]


def test_nginx_as_it_comes(server: Server, nginx: Proxy) -> None:
    """
    Without any line of its own it takes requests of 1 MiB, and closes nothing.
    """
    told = look(nginx(server, "").url + "/")

    assert told.bad == {"request size"}, told.checks
    assert "413" in told.said("request size")
    assert told.checks["request size"]["nginx"].startswith("client_max_body_size 2m;")


def test_a_proxy_that_closes_each_connection_is_seen(server: Server, nginx: Proxy) -> None:
    """
    Publishers connect anew each time then.
    """
    told = look(nginx(server, GOOD + "keepalive_timeout 0;").url + "/")

    assert told.bad == {"keep-alive"}, told.checks


def test_haproxy_is_well_with_its_usual_timeouts(server: Server, haproxy: Proxy) -> None:
    """
    HAProxy buffers nothing and strips nothing.
    """
    told = look(haproxy(server).url + "/", "--patience=3")

    assert told.bad == set(), told.checks


def test_short_timeouts_of_haproxy_are_measured(daemon: StartDaemon, haproxy: Proxy) -> None:
    """
    A quiet stream is cut, and haproxy's own line is named.
    """
    server = daemon(f"--http-secret={KEY}")
    told = look(haproxy(server, server="2s", client="2s").url + "/", "--patience=20")

    assert told.bad == {"idle streams"}, told.checks
    assert 1.5 < float(told.said("idle streams").split()[2]) < 10
    assert "timeout server 75s" in told.checks["idle streams"]["haproxy"]


def test_haproxy_can_break_things_too(server: Server, haproxy: Proxy) -> None:
    """
    A header taken from the request, another rewritten, each connection closed.
    """
    lines = (
        "http-request del-header Last-Event-ID\n    http-response set-header Cache-Control no-cache"
    )
    told = look(haproxy(server, lines=lines, defaults="option httpclose").url + "/")

    assert told.bad == {"resume", "keep-alive", "headers"}, told.checks


def test_it_says_what_it_cannot_check(server: Server) -> None:
    """
    Without the key nothing can be published: some checks are left out, and nothing is wrong.
    """
    told = look(server.url + "/", key="")

    assert told.status == 0
    assert {name for name in told.checks if told[name] == "skip"} >= {"buffering", "resume"}
    assert "KEY" in told.said("resume")
    assert "first bytes" in told.said("buffering")


def test_without_keys_none_is_needed(daemon: StartDaemon) -> None:
    """
    Publishing from the daemon's own machine is open by default.
    """
    assert look(daemon().url + "/", key="")["resume"] == "ok"


def test_routes_and_publishing_elsewhere(daemon: StartDaemon) -> None:
    """
    A stream whose route names the channel, and publishing at another address.
    """
    server = daemon("--route=^/news$ sse:lotofnews", "--route=^/in$ publish")
    url = server.url + "/news"
    told = look(url, f"--publish={server.url}/in", "--channel=lotofnews", key="")

    assert told.bad == set(), told.checks
    assert "--channel" in look(url, f"--publish={server.url}/in", key="").said("buffering")
    assert "--publish" in look(url, key="").said("buffering")


def test_what_is_not_there_is_said() -> None:
    """
    A closed port and an unknown host give one finding, and the other checks are skipped.
    """
    for url in (f"http://127.0.0.1:{free_port()}/", "http://nobody.invalid/"):
        told = look(url)
        assert told.status == 2
        assert told.bad == {"reach"}
        assert told.said("reach")


def test_tls_is_looked_through(server: Server, nginx: Proxy, tmp_path: Path) -> None:
    """
    A certificate that browsers would refuse is the first thing to say; --insecure
    looks at the rest.
    """
    proxy = nginx(server, certificate=certificate(tmp_path))
    url = f"https://localhost:{proxy.port}/"
    told = look(url)
    assert told.bad == {"reach"}
    assert "certificate" in told.said("reach")

    told = look(url, "--insecure")
    assert told.bad == set(), told.checks
    assert told["resume"] == "ok"


def test_a_proxy_without_a_daemon_is_said(daemon: StartDaemon, nginx: Proxy) -> None:
    """
    502, and who it is that does not answer.
    """
    server = daemon()
    proxy = nginx(server)
    server.kill()

    told = look(proxy.url + "/")
    assert told.bad == {"status"}
    assert "502: the proxy does not reach the daemon" in told.said("status")
    server.start()


def test_a_daemon_that_is_full_is_said(daemon: StartDaemon) -> None:
    """
    A full daemon rejects new streams with Retry-After; the doctor blames no proxy.
    """
    server = daemon("--max-readers=1")
    with urllib.request.urlopen(f"{server.url}/?channels=a") as reader:
        reader.readline()
        told = look(server.url + "/", key="")

    assert told.bad == {"status"}
    assert "accepts no subscriber now" in told.said("status")


def test_a_page_is_no_stream(daemon: StartDaemon) -> None:
    """
    The URL of something else.
    """
    told = look(daemon().url + "/try")

    assert told.bad == {"content type"}
    assert "text/html" in told.said("content type")


def test_a_person_reads_why_and_what_to_do(server: Server, nginx: Proxy) -> None:
    """
    Without --json: a line for each check, why it matters, and the cure of what is wrong.
    """
    url = nginx(server, GOOD + 'proxy_set_header Last-Event-ID "";').url + "/"
    command = [sys.executable, "-m", "rt_twisted.doctor", url, "-", *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=KEY + "\n")

    assert done.returncode == 2
    assert "fail  resume" in done.stdout
    assert "nginx:   proxy_set_header Last-Event-ID $http_last_event_id;" in done.stdout
    assert "haproxy: no http-request del-header Last-Event-ID" in done.stdout
    assert KEY not in done.stdout
