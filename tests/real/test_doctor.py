"""
The doctor against a daemon behind nginx and haproxy, with settings that break streams.
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
WORKING = 'proxy_http_version 1.1; proxy_set_header Connection ""; client_max_body_size 2m;'
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

    def start(daemon: Server, lines: str = WORKING, certificate: str = "") -> Server:
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
    Write a self-signed certificate and its key.

    Returns:
        the lines of nginx that use them.
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


class DoctorReport:
    """
    Results of a run of the doctor.
    """

    def __init__(self, status: int, found: dict[str, Any]) -> None:
        self.status = status
        self.verdict = found["verdict"]
        self.checks = {check["check"]: check for check in found["checks"]}

    def __getitem__(self, name: str) -> str:
        return str(self.checks[name]["verdict"])

    def detail(self, name: str) -> str:
        """
        Return the measurement of a check.
        """
        return str(self.checks[name]["said"])

    @property
    def faults(self) -> set[str]:
        """
        Return the names of the checks with warnings or failures.
        """
        return {name for name in self.checks if self[name] in ("warn", "fail")}


def run_doctor(url: str, *arguments: str, key: str = KEY) -> DoctorReport:
    """
    Run the doctor's command, and return its results.
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
    return DoctorReport(done.returncode, json.loads(done.stdout))


@pytest.fixture
def server(daemon: StartDaemon) -> Server:
    """
    Return a daemon with a key and a heartbeat of one second.
    """
    return daemon(f"--http-secret={KEY}", "--heartbeat=1")


def test_a_daemon_without_a_proxy_has_no_faults(server: Server) -> None:
    """
    Without a proxy all checks pass.
    """
    report = run_doctor(server.url + "/", "--patience=3")

    assert report.faults == set(), report.checks
    assert report.status == 0
    assert report["idle streams"] == "ok"
    assert "heartbeats" in report.detail("idle streams")
    assert report["resume"] == report["buffering"] == report["caching"] == "ok"


def test_the_documented_nginx_lines_have_no_faults(server: Server, nginx: Proxy) -> None:
    """
    The documented lines for nginx, with the larger body size, pass all checks.
    """
    report = run_doctor(nginx(server).url + "/", "--patience=3")

    assert report.faults == set(), report.checks
    assert report.status == 0
    assert "taken" in report.detail("headers")


def test_buffering_is_detected(server: Server, nginx: Proxy) -> None:
    """
    nginx buffers everything, even the head, if it ignores X-Accel-Buffering and uses HTTP/1.0
    to the daemon.
    """
    lines = "client_max_body_size 2m; proxy_ignore_headers X-Accel-Buffering;"
    report = run_doctor(nginx(server, lines).url + "/")

    assert report.status == 2
    assert report["reach"] == report["status"] == "ok"
    assert report["buffering"] == "fail"
    assert "KiB had been sent behind it" in report.detail("buffering")
    assert report.checks["buffering"]["nginx"].startswith("proxy_buffering off;")
    assert report["resume"] == "skip"
    assert report.faults == {"buffering"}, report.checks


def test_compression_is_detected(server: Server, nginx: Proxy) -> None:
    """
    gzip on event streams is a warning as long as messages still come at once.
    """
    report = run_doctor(nginx(server, WORKING + "gzip on; gzip_types text/event-stream;").url + "/")

    assert report.faults == {"compression"}, report.checks
    assert report.status == 1
    assert report["compression"] == "warn"
    assert "gzip" in report.detail("compression")


def test_a_short_read_timeout_is_measured(daemon: StartDaemon, nginx: Proxy) -> None:
    """
    The doctor measures after how many idle seconds a stream is cut.
    """
    server = daemon(f"--http-secret={KEY}")
    report = run_doctor(
        nginx(server, WORKING + "proxy_read_timeout 2s;").url + "/", "--patience=20"
    )

    assert report.faults == {"idle streams"}, report.checks
    assert report.status == 2
    words = report.detail("idle streams").split()
    assert words[:2] == ["cut", "after"]
    assert 1.5 < float(words[2]) < 10
    assert "proxy_read_timeout" in report.checks["idle streams"]["nginx"]


def test_a_stripped_last_event_id_is_detected(server: Server, nginx: Proxy) -> None:
    """
    A stripped header is distinguished from a daemon without history: the same id in the URL works.
    """
    report = run_doctor(nginx(server, WORKING + 'proxy_set_header Last-Event-ID "";').url + "/")

    assert report.faults == {"resume"}, report.checks
    assert report.status == 2
    assert "stripped" in report.detail("resume")


def test_a_daemon_without_history_is_distinguished_from_a_proxy(daemon: StartDaemon) -> None:
    """
    Without history a resume fails with a gap, and no header is blamed.
    """
    report = run_doctor(daemon(f"--http-secret={KEY}", "--history=0").url + "/")

    assert report["resume"] == "fail"
    assert "gap" in report.detail("resume")


def test_rewritten_headers_are_detected(server: Server, nginx: Proxy) -> None:
    """
    A missing Cache-Control is a warning, one that permits caching a failure.
    """
    stripped = run_doctor(nginx(server, WORKING + "proxy_hide_header Cache-Control;").url + "/")
    rewritten = run_doctor(nginx(server, WORKING + "expires 1h;").url + "/")

    assert stripped.faults == {"headers"}, stripped.checks
    assert stripped["headers"] == "warn"
    assert rewritten["headers"] == "fail"
    assert "max-age=3600" in rewritten.detail("headers")


def test_a_cache_is_detected(server: Server, nginx: Proxy) -> None:
    """
    A proxy that serves a cached stream to a second subscriber fails the check.
    """
    lines = (
        "proxy_cache kept; proxy_cache_valid 200 1m; expires off;"
        "proxy_ignore_headers X-Accel-Buffering Cache-Control;"
    )
    report = run_doctor(nginx(server, WORKING + lines).url + "/")

    assert report.status == 2
    assert report.faults == {"caching"}, report.checks
    assert "proxy_cache off" in report.checks["caching"]["nginx"]


def test_nginx_with_default_settings(server: Server, nginx: Proxy) -> None:
    """
    nginx with default settings only limits requests to 1 MiB.
    """
    report = run_doctor(nginx(server, "").url + "/")

    assert report.faults == {"request size"}, report.checks
    assert "413" in report.detail("request size")
    assert report.checks["request size"]["nginx"].startswith("client_max_body_size 2m;")


def test_a_proxy_that_closes_each_connection_is_detected(server: Server, nginx: Proxy) -> None:
    """
    Without keep-alive publishers need a connection for each request.
    """
    report = run_doctor(nginx(server, WORKING + "keepalive_timeout 0;").url + "/")

    assert report.faults == {"keep-alive"}, report.checks


def test_haproxy_with_usual_timeouts_has_no_faults(server: Server, haproxy: Proxy) -> None:
    """
    HAProxy buffers nothing and removes no header.
    """
    report = run_doctor(haproxy(server).url + "/", "--patience=3")

    assert report.faults == set(), report.checks


def test_short_timeouts_of_haproxy_are_measured(daemon: StartDaemon, haproxy: Proxy) -> None:
    """
    The doctor measures when an idle stream is cut, and names the setting of haproxy.
    """
    server = daemon(f"--http-secret={KEY}")
    report = run_doctor(haproxy(server, server="2s", client="2s").url + "/", "--patience=20")

    assert report.faults == {"idle streams"}, report.checks
    assert 1.5 < float(report.detail("idle streams").split()[2]) < 10
    assert "timeout server 75s" in report.checks["idle streams"]["haproxy"]


def test_changes_by_haproxy_are_detected(server: Server, haproxy: Proxy) -> None:
    """
    A removed request header, a rewritten response header and closed connections are detected.
    """
    lines = (
        "http-request del-header Last-Event-ID\n    http-response set-header Cache-Control no-cache"
    )
    report = run_doctor(haproxy(server, lines=lines, defaults="option httpclose").url + "/")

    assert report.faults == {"resume", "keep-alive", "headers"}, report.checks


def test_checks_that_need_a_key_are_skipped_without_one(server: Server) -> None:
    """
    Without the key the doctor cannot publish: it skips some checks, and there are no faults.
    """
    report = run_doctor(server.url + "/", key="")

    assert report.status == 0
    assert {name for name in report.checks if report[name] == "skip"} >= {"buffering", "resume"}
    assert "KEY" in report.detail("resume")
    assert "first bytes" in report.detail("buffering")


def test_a_daemon_without_keys_needs_none(daemon: StartDaemon) -> None:
    """
    Publishing from the daemon's own machine is open by default.
    """
    assert run_doctor(daemon().url + "/", key="")["resume"] == "ok"


def test_other_routes_and_publish_urls(daemon: StartDaemon) -> None:
    """
    The doctor works with a route that names the channel, and another publish URL.
    """
    server = daemon("--route=^/news$ sse:lotofnews", "--route=^/in$ publish")
    url = server.url + "/news"
    report = run_doctor(url, f"--publish={server.url}/in", "--channel=lotofnews", key="")

    assert report.faults == set(), report.checks
    assert "--channel" in run_doctor(url, f"--publish={server.url}/in", key="").detail("buffering")
    assert "--publish" in run_doctor(url, key="").detail("buffering")


def test_an_unreachable_url_is_one_finding() -> None:
    """
    A closed port and an unknown host give one finding, and the other checks are skipped.
    """
    for url in (f"http://127.0.0.1:{free_port()}/", "http://nobody.invalid/"):
        report = run_doctor(url)
        assert report.status == 2
        assert report.faults == {"reach"}
        assert report.detail("reach")


def test_an_untrusted_certificate(server: Server, nginx: Proxy, tmp_path: Path) -> None:
    """
    An untrusted certificate is the only finding; with --insecure the other checks run.
    """
    proxy = nginx(server, certificate=certificate(tmp_path))
    url = f"https://localhost:{proxy.port}/"
    report = run_doctor(url)
    assert report.faults == {"reach"}
    assert "certificate" in report.detail("reach")

    report = run_doctor(url, "--insecure")
    assert report.faults == set(), report.checks
    assert report["resume"] == "ok"


def test_a_proxy_without_a_daemon(daemon: StartDaemon, nginx: Proxy) -> None:
    """
    A 502 is reported as a proxy that does not reach the daemon.
    """
    server = daemon()
    proxy = nginx(server)
    server.kill()

    report = run_doctor(proxy.url + "/")
    assert report.faults == {"status"}
    assert "502: the proxy does not reach the daemon" in report.detail("status")
    server.start()


def test_a_full_daemon(daemon: StartDaemon) -> None:
    """
    A full daemon rejects new streams with Retry-After; the doctor reports no proxy fault.
    """
    server = daemon("--max-readers=1")
    with urllib.request.urlopen(f"{server.url}/?channels=a") as reader:
        reader.readline()
        report = run_doctor(server.url + "/", key="")

    assert report.faults == {"status"}
    assert "accepts no subscriber now" in report.detail("status")


def test_a_url_that_is_no_stream(daemon: StartDaemon) -> None:
    """
    The URL of a page fails the content type check.
    """
    report = run_doctor(daemon().url + "/try")

    assert report.faults == {"content type"}
    assert "text/html" in report.detail("content type")


def test_the_text_has_reasons_and_fixes(server: Server, nginx: Proxy) -> None:
    """
    Without --json the output has a line for each check, its reason, and fixes for failed ones.
    """
    url = nginx(server, WORKING + 'proxy_set_header Last-Event-ID "";').url + "/"
    command = [sys.executable, "-m", "rt_twisted.doctor", url, "-", *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=KEY + "\n")

    assert done.returncode == 2
    assert "fail  resume" in done.stdout
    assert "nginx:   proxy_set_header Last-Event-ID $http_last_event_id;" in done.stdout
    assert "haproxy: no http-request del-header Last-Event-ID" in done.stdout
    assert KEY not in done.stdout
