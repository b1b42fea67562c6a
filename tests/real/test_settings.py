"""
Settings, as a user gives them: in a file, and in the environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from rt_twisted.tap.setting_values import variable_name
from rt_twisted.tap.settings import SETTINGS
from rt_twisted.tap.show_config import mask
from tests.real.conftest import PATIENCE, TWISTD, Serve, Server, StartDaemon, free_port
from tests.real.redis_server import start_redis
from tests.real.test_daemon import publish
from tests.real.test_reload import reload, wait_until
from tests.unit.tap.test_environment import sample

KEYS = ("battery", "horse", "correct", "of-the-file")


def status(url: str) -> int:
    """
    Return the status of the response to GET *url*.
    """
    try:
        with urlopen(url, timeout=PATIENCE) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def twistd(
    *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run `twistd -n realtime` with *options* that end it.
    """
    return subprocess.run(
        [*TWISTD, "realtime", *options],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_own_and_built_in_routes(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With `route = built-in`, health checks and the JavaScript client are served beside own routes.
    """
    config = tmp_path / "shop.conf"
    config.write_text("route = ^/shop/ping$ alive\nroute = built-in\n")
    alone = daemon("--route=^/shop/ping$ alive")
    both = daemon(f"--config={config}")

    for path, without in (("/shop/ping", 200), ("/healthz", 404), ("/realtime.js", 404)):
        assert status(alone.url + path) == without
        assert status(both.url + path) == 200


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--allow=token", f"--token-key={'x' * 31}"), "a secret of at least 32 bytes"),
        (("--allow=token",), "tokens need a token-key"),
        (("--allow=app",), "allow=app needs authorize"),
        (("--route=^/a$ sse:allow=token",), "tokens need a token-key"),
        (("--route=^/a$ sse:allow=app",), "allow=app needs authorize"),
        (("--allow=app", "--port=8080", "--authorize=http://127.0.0.1:8080/may"), "leads back"),
    ],
)
def test_a_check_names_access_settings_that_cannot_work(
    options: tuple[str, ...], reason: str
) -> None:
    """
    One sentence; the start fails for the same reason, if the daemon could not decide at all.
    """
    checked = twistd("--check", *options)

    assert reason in checked.stdout + checked.stderr
    assert (checked.returncode == 0) == (reason == "leads back")
    assert "Traceback" not in checked.stderr


def test_a_check_names_what_own_routes_remove() -> None:
    """
    `--check` says which paths have no route, and what to add.
    """
    checked = twistd("--route=^/news$ sse:news", "--check")

    assert checked.returncode == 0
    assert checked.stdout == (
        "realtime: note: own routes replace the built-in ones, so these have none: /healthz, "
        "/readyz, /metrics, /realtime.js; route = built-in adds them\n"
        "realtime: the settings are right\n"
    )


# Settings from the environment.


def test_every_setting_is_set_by_its_variable(tmp_path: Path) -> None:
    """
    Each setting of the table takes its value from its own variable, in a daemon with a fresh HOME.
    """
    texts = {name: sample(name) for name in SETTINGS}
    variables = {variable_name(name): text for name, text in texts.items()}
    shown = twistd("--show-config", environment={**variables, "HOME": str(tmp_path)})

    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    settings = [line for line in shown.stdout.splitlines() if not line.startswith("#")]
    assert settings == [
        f"{name} = {mask(SETTINGS[name], text)} # {variable_name(name)}"
        for name, text in texts.items()
    ]


def test_a_daemon_needs_only_its_environment(serve: Serve, tmp_path: Path) -> None:
    """
    Port, routes and keys come from the environment; its file can be named there too. The log
    reports an unknown variable and links to services, and has no secret.
    """
    (tmp_path / "my.conf").write_text("stats-key = staple\nhttp-secret = of-the-file\n")
    port = free_port()
    server = serve(
        [*TWISTD, "realtime"],
        port,
        tmp_path,
        {
            "HOME": str(tmp_path / "home"),
            "RT_CONFIG": "my.conf",
            "RT_PORT": str(port),
            "RT_HTTP_SECRET": "battery",
            "RT_PUBLISH_KEY": "horse order-*\nenv:SHOP_KEY news",
            "SHOP_KEY": "correct",
            "RT_ROUTE": "^/orders$ sse:order-1\nbuilt-in",
            "RT_PROT": "80",
            "RT_REDIS_PORT": "tcp://10.96.3.8:6379",
        },
    )

    assert [publish(port, channel="order-1", message="m", key=key) for key in KEYS] == [
        200, 200, 403, 401,
    ]  # fmt: skip
    assert publish(port, channel="news", message="m", key="correct") == 200
    assert (status(f"{server.url}/stats?key=staple"), status(f"{server.url}/stats")) == (200, 401)
    assert status(f"{server.url}/healthz") == 200
    assert "RT_PROT in the environment names no setting; did you mean RT_PORT?" in server.log
    assert "ignored links to services in the environment: RT_REDIS_PORT;" in server.log
    assert not any(key in server.log for key in ("battery", "horse", "correct", "staple"))


def test_a_reload_keeps_the_environment(serve: Serve, tmp_path: Path) -> None:
    """
    SIGHUP reads the file, and the file of a secret that the environment names. A variable still
    overrides the file.
    """
    (tmp_path / "key").write_text("old")
    file = tmp_path / "my.conf"
    file.write_text("stats-key = staple\n")
    port = free_port()
    environment = {"RT_PORT": str(port), "RT_HTTP_SECRET": "file:key", "RT_CONFIG": "my.conf"}
    server = serve([*TWISTD, "realtime"], port, tmp_path, environment)
    assert publish(port, channel="news", message="m", key="old") == 200

    (tmp_path / "key").write_text("new")
    file.write_text("stats-key = other\nhttp-secret = battery\nport = 1\n")
    logged = reload(server, "reloaded, changed: ")

    assert "reloaded, changed: http-secret, stats-key\n" in logged
    assert "restart" not in logged
    found = [publish(port, channel="news", message="m", key=key) for key in ("new", "battery")]
    assert found == [200, 401]
    assert status(f"{server.url}/stats?key=other") == 200


def test_workers_have_the_settings_of_the_environment(serve: Serve, tmp_path: Path) -> None:
    """
    Worker processes have the settings of their parent's environment, also after a reload.
    """
    redis = start_redis(serve)
    port = free_port()
    environment = {
        "RT_PORT": str(port),
        "RT_WORKERS": "2",
        "RT_BROKER": "redis",
        "RT_REDIS_URL": f"redis://127.0.0.1:{redis.port}",
        "RT_HTTP_SECRET": "battery",
        "RT_ROUTE": "^/orders$ sse:order-1\nbuilt-in",
    }
    server = serve([*TWISTD, "realtime"], port, tmp_path, environment)

    for reloads in range(2):
        wait_until(lambda: publish(port, channel="news", message="m", key="battery") == 200)
        for _ in range(8):  # whichever worker accepts
            assert publish(port, channel="news", message="m", key="staple") == 401
        server.send(signal.SIGHUP)
        expected = 2 * (reloads + 1)
        wait_until(partial(_has_reloaded, server, expected))


def _has_reloaded(server: Server, times: int) -> bool:
    return server.log.count("reloaded, changed: nothing") >= times


def test_a_daemon_in_the_background_has_its_environment(tmp_path: Path) -> None:
    """
    Without `-n`, twistd forks; the daemon that remains has the same settings.
    """
    port = free_port()
    program = Path(TWISTD[0])
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "RT_PORT": str(port),
        "RT_HTTP_SECRET": "battery",
    }
    subprocess.run(
        [program, "--pidfile=a.pid", "--logfile=a.log", "realtime"],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=PATIENCE,
    )
    pid = int((tmp_path / "a.pid").read_text())
    try:
        assert publish(port, channel="news", message="m", key="battery") == 200
        assert publish(port, channel="news", message="m", key="staple") == 401
        assert "battery" not in (tmp_path / "a.log").read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (tmp_path / "a.pid").exists())
