"""
Write a folder to start with: `python -m rt_twisted.tools.init [FOLDER]`.

It has the settings with all defaults, fresh keys, units for systemd, and files for proxies and
dashboards, with the paths of this installation. Files that exist are never overwritten.
"""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rt_twisted.tools.errors import SetupError

SETTINGS = "realtime.conf"
KEYS = "realtime.env"
KEY_BYTES = 24  # of randomness in each key
SYSTEMD = "examples/systemd"

# systemd splits a line at blanks, and replaces a percent sign.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@,:=-]+")
# Folders that units with ProtectHome, PrivateTmp and a user of their own cannot read.
_PRIVATE = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")

_COPIES: Mapping[str, str] = {
    f"{SYSTEMD}/realtime.service": "realtime.service",
    f"{SYSTEMD}/realtime@.service": "realtime@.service",
    f"{SYSTEMD}/realtime-socket.service": "realtime-socket.service",
    f"{SYSTEMD}/realtime-socket.socket": "realtime-socket.socket",
    f"{SYSTEMD}/logrotate.conf": "logrotate.conf",
    "examples/nginx/realtime.conf": "nginx.conf",
    "examples/haproxy/haproxy.cfg": "haproxy.cfg",
    "examples/dashboards/grafana-prometheus.json": "dashboards/grafana-prometheus.json",
    "examples/dashboards/grafana-graphite.json": "dashboards/grafana-graphite.json",
    "examples/dashboards/graphite.json": "dashboards/graphite.json",
}

_HEAD = """\
## Settings of the daemon. They are followed by all others, as comments.

port = 8888
trusted-proxies = 127.0.0.1 # nginx on this machine
http-secret = env:PUBLISH_KEY # in {keys}
stats-key = env:STATS_KEY # in {keys}


"""

_NEXT = """
To try it:
    set -a; . {keys}; set +a
    {twistd} -n realtime --config {settings}
To install it as a service, as root:
    cp {folder}/realtime.service /etc/systemd/system/
    systemctl daemon-reload && systemctl enable --now realtime
To put nginx in front of it:
    cp {folder}/nginx.conf /etc/nginx/conf.d/realtime.conf && systemctl reload nginx
To apply changed settings:
    systemctl reload realtime
Publishers send PUBLISH_KEY, which is in {keys}:
    curl -H "Authorization: Bearer $PUBLISH_KEY" -d channel=news -d message=hello http://127.0.0.1:8888/publish
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """
    Where things are.

    Args:
        folder: that is written; absolute.
        twistd: the command; absolute.
    """

    folder: Path
    twistd: Path

    @property
    def names(self) -> Mapping[str, str]:
        """
        The paths by their names in texts.
        """
        return {
            "folder": str(self.folder),
            "twistd": str(self.twistd),
            "settings": str(self.folder / SETTINGS),
            "keys": str(self.folder / KEYS),
        }

    def settings(self) -> str:
        """
        Return the text of the settings file.
        """
        return _HEAD.format_map(self.names) + self.example("etc/realtime.conf")

    def example(self, name: str) -> str:
        """
        Return the text of the file *name* of the repository, with the paths of this installation.
        """
        text = read_shipped(name)
        for example, path in (
            ("/opt/realtime/bin/twistd", self.names["twistd"]),
            ("--config etc/realtime.conf", f"--config {self.names['settings']}"),
            ("/etc/realtime.conf", self.names["settings"]),
            ("/etc/realtime.env", self.names["keys"]),
        ):
            text = text.replace(example, path)
        return text


def main(arguments: Sequence[str]) -> int:
    """
    Write the folder, print what was written and what to do next.

    Args:
        arguments: of the command line.

    Returns:
        The exit status: 1 if nothing could be written.
    """
    parser = argparse.ArgumentParser(prog="python -m rt_twisted.tools.init", description=__doc__)
    parser.add_argument("folder", nargs="?", default="realtime", help="is created [realtime]")
    folder = Path(os.path.abspath(parser.parse_args(arguments).folder))
    try:
        installation = Installation(folder, find_twistd())
        for path, written in write_folder(installation):
            print(f"{'wrote' if written else 'kept '} {path}")
    except OSError as error:
        print(f"{error.filename or folder}: {error.strerror}", file=sys.stderr)
        return 1
    except SetupError as error:
        print(str(error), file=sys.stderr)
        return 1
    print(_NEXT.format_map(installation.names), end="")
    for note in notes(installation):
        print(f"Note: {note}")
    store_plugins()
    return 0


def find_twistd() -> Path:
    """
    Return the path of this installation's `twistd`.

    Raises:
        SetupError: there is none.
    """
    places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    found = [place / "twistd" for place in places if (place / "twistd").is_file()]
    program = found[0] if found else shutil.which("twistd")
    if program is None:
        raise SetupError(f"twistd is not beside {sys.executable}, and not in PATH: install Twisted")
    return Path(os.path.abspath(program))


def write_folder(installation: Installation) -> Iterator[tuple[Path, bool]]:
    """
    Write all files that do not exist.

    Args:
        installation: the paths that files contain.

    Yields:
        each file, and whether it was written.

    Raises:
        OSError: a file cannot be written.
        SetupError: a path cannot stand in a unit of systemd, or this installation is not complete.
    """
    names = installation.names
    for needed in (names["folder"], names["twistd"]):
        if not _PLAIN_PATH.fullmatch(needed):
            raise SetupError(f"{needed}: units of systemd need paths without blanks and %")
    files: list[tuple[str, int, Callable[[], str]]] = [
        (SETTINGS, 0o644, installation.settings),
        (KEYS, 0o600, fresh_keys),
    ]
    for source, target in _COPIES.items():
        files.append((target, 0o644, partial(installation.example, source)))
    for target, mode, text in files:
        path = installation.folder / target
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        yield path, _write_new(path, mode, text)


def fresh_keys() -> str:
    """
    Return the variables of the daemon's keys, with new values.
    """
    names = ("PUBLISH_KEY", "STATS_KEY")
    return "".join(f"{name}={secrets.token_hex(KEY_BYTES)}\n" for name in names)


def read_shipped(name: str) -> str:
    """
    Return the text of a file that the distribution has outside of the package.

    Args:
        name: its path in the repository. A wheel has it beside this module; see setup.py.

    Raises:
        SetupError: it is in neither place.
    """
    here = Path(__file__).parent
    for root in (here / "shipped", here.parents[1]):
        if (root / name).is_file():
            return (root / name).read_text(encoding="utf-8")
    raise SetupError(f"{name} is missing from this installation: install rt-twisted again")


def notes(installation: Installation) -> Iterator[str]:
    """
    Yield a sentence if the service cannot run with these paths.
    """
    paths = map(str, (installation.folder, installation.twistd))
    unreadable = [path for path in paths if path.startswith(_PRIVATE)]
    if unreadable:
        yield (
            "the service has a user of its own, which cannot read "
            f"{' and '.join(unreadable)}: install into /opt/realtime, and write /etc/realtime"
        )


def store_plugins() -> None:
    """
    Let Twisted store the list of its plug-ins, which the user of the service could not.
    """
    from twisted.application.service import IServiceMaker
    from twisted.plugin import getPlugins

    for _ in getPlugins(IServiceMaker):
        pass


def _write_new(path: Path, mode: int, text: Callable[[], str]) -> bool:
    """
    Write *text* to a new file.

    Returns:
        False if something of that name exists.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.write(text())
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
