"""
`python -m benchmarks.rtmp`: publishers by RTMP beside nginx-rtmp and node-media-server.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.machine import SetupError, free_port, memory_kib, times

_PATIENCE = 30.0  # s
_SETTLE = 3.0  # s
_SECONDS = 20  # of the file, which repeats
_NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
_ENCODE = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")


def ours(port: int, _: Path) -> Sequence[str]:
    """
    Return the command of this daemon.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    return (twistd, "-n", "--pidfile=", "realtime", f"--port={port}")


def nginx(port: int, folder: Path) -> Sequence[str]:
    """
    Return the command of nginx with its RTMP module.

    Raises:
        SetupError: it is not installed.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None or not _NGINX_MODULE.exists():
        raise SetupError("nginx-rtmp is not installed: Debian has libnginx-mod-rtmp.")
    (folder / "nginx.conf").write_text(
        f"load_module {_NGINX_MODULE};\nworker_processes 1;\nmaster_process off;\n"
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
    )
    return (program, "-p", str(folder), "-c", str(folder / "nginx.conf"))


def node_media_server(modules: Path, port: int, folder: Path) -> Sequence[str]:
    """
    Return the command of node-media-server 4.

    Raises:
        SetupError: node or the package is not installed.
    """
    node, package = shutil.which("node"), modules / "node_modules" / "node-media-server"
    if node is None or not package.exists():
        raise SetupError(f"npm install --prefix {modules} node-media-server@4")
    ports = ("--rtmp-port", str(port), "--http-port", str(free_port()))
    return (
        node, str(package / "bin" / "app.js"), "-b", "127.0.0.1", *ports, "--no-admin",
        "--data-path", str(folder),
    )  # fmt: skip


@contextmanager
def running(command: Sequence[str], port: int, folder: Path) -> Iterator[int]:
    """
    Run a server, and yield its process id.
    """
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise SetupError(f"{command[0]} does not run") from None
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def publishing(file: Path, urls: Sequence[str], *options: str) -> Iterator[None]:
    """
    Publish *file* with ffmpeg in real time to each of *urls*; the *options* name the format.
    """
    command = ("ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(file), "-c", "copy")
    processes = [
        subprocess.Popen(
            (*command, *options, url),
            stdin=subprocess.DEVNULL,
        )
        for url in urls
    ]
    try:
        yield
        if any(process.poll() is not None for process in processes):
            raise SetupError("a publisher was refused")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def encode(path: Path, rate: str) -> Path:
    """
    Write a file with H264 of *rate* and AAC.
    """
    picture = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30,noise=alls=20:allf=t")
    rates = ("-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate, "-g", "60")
    command = ("ffmpeg", "-v", "error", "-y", *picture, "-f", "lavfi", "-i", "sine")
    sound = ("-c:a", "aac", "-b:a", "96k")
    subprocess.run([*command, "-t", str(_SECONDS), *_ENCODE, *rates, *sound, str(path)], check=True)
    return path


def main() -> None:
    """
    Measure all servers in turn, and print the medians.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--modules", type=Path, default=Path.home() / ".cache/rt-twisted-npm")
    given = parser.parse_args()
    servers: dict[str, Callable[[int, Path], Sequence[str]]] = {
        "ours": ours,
        "nginx-rtmp": nginx,
        "node-media-server": partial(node_media_server, given.modules),
    }
    found: dict[tuple[str, str], list[float]] = {}
    memory: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        files = Path(name)
        works = {
            "20 publishers of 1 Mbit/s": (encode(files / "1.flv", "1M"), 20),
            "1 publisher of 10 Mbit/s": (encode(files / "10.flv", "10M"), 1),
        }
        for _ in range(given.rounds):
            for title, (file, count) in works.items():
                for server, command in servers.items():
                    folder = Path(tempfile.mkdtemp(dir=files))
                    port = free_port()
                    try:
                        words = command(port, folder)
                    except SetupError as error:
                        print(f"{server} is left out: {error}")
                        continue
                    urls = [f"rtmp://127.0.0.1:{port}/live/cam{each}" for each in range(count)]
                    sent = publishing(file, urls, "-f", "flv")
                    with running(words, port, folder) as pid, sent:
                        time.sleep(_SETTLE)
                        before, start = times(pid).ran, time.monotonic()
                        time.sleep(given.seconds)
                        share = (times(pid).ran - before) / (time.monotonic() - start)
                        found.setdefault((title, server), []).append(100 * share)
                        memory.setdefault((title, server), []).append(memory_kib(pid) / 1024)
    for (title, server), shares in found.items():
        size = median(memory[title, server])
        print(f"{title}: {server}: {median(shares):.1f} % of a core, {size:.0f} MiB")


if __name__ == "__main__":
    main()
