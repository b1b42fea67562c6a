"""
Run the steps of a Dockerfile in Debian root folders, where no container tool works.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# Debian's slim images are without these.
_NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
_NOT_IN_IMAGE = ("var/lib/apt/lists", "var/cache/apt", "var/log", "proc", "sys", "dev")


@dataclass
class Image:
    """
    What a Dockerfile has built.

    Args:
        root: its root folder.
        environment: of its processes.
        user: `UID:GID` of its processes.
        folder: where they run.
        entrypoint: the words of the daemon's command.
        health: the words of the health check.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def command(self, words: list[str], **environment: str) -> list[str]:
        """
        Return the command that runs *words* in the image.
        """
        variables = {**self.environment, **environment}
        settings = [f"{name}={value}" for name, value in variables.items()]
        within = f"cd {shlex.quote(self.folder)} && exec {shlex.join(words)}"
        shell = ["env", "-i", *settings, "sh", "-c", within]
        return ["chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", *shell[1:]]

    def megabytes(self) -> float:
        """
        Return the size of the files that an image has.
        """
        left_out = [f"--exclude={self.root / each}" for each in (*_NOT_IN_SLIM, *_NOT_IN_IMAGE)]
        words = ["du", "-s", "--apparent-size", "--block-size=1000", *left_out, str(self.root)]
        return int(subprocess.check_output(words, text=True).split()[0]) / 1000


def read_steps(dockerfile: str) -> list[tuple[str, str]]:
    """
    Return the instructions of a Dockerfile with their arguments.
    """
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    found = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(word, arguments.strip()) for word, _, arguments in found]


def build(source: Path, base: Path, work: Path, environment: dict[str, str]) -> Image:
    """
    Build the last stage of the Dockerfile in *source*.

    Args:
        source: the folder of the Dockerfile.
        base: a Debian root folder, in place of the image that `FROM` names.
        work: for the folders of the stages.
        environment: of the steps, on top of the image's.
    """
    stages: dict[str, Image] = {}
    image = Image(base)
    for number, (word, arguments) in enumerate(read_steps((source / "Dockerfile").read_text())):
        if word == "FROM":
            name = arguments.split()[-1] if " AS " in arguments else f"stage{number}"
            image = stages[name] = Image(work / name, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
            if not arguments.startswith("scratch"):
                subprocess.run(["cp", "-a", str(base), str(image.root)], check=True)
        elif word == "RUN":
            steps = ["sh", "-c", arguments]
            subprocess.run(image.command(steps, **environment), check=True)
        elif word == "COPY":
            _copy(arguments, source, stages, image)
        elif word == "ENV":
            image.environment |= dict(one.split("=", 1) for one in shlex.split(arguments))
        elif word == "USER":
            image.user = arguments
        elif word == "WORKDIR":
            image.folder = arguments
            (image.root / arguments.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENTRYPOINT":
            image.entrypoint = json.loads(arguments)
        elif word == "HEALTHCHECK":
            image.health = json.loads(arguments.partition("CMD ")[2])
        else:
            assert word == "EXPOSE", f"{word} is not known here"
    return image


def _copy(arguments: str, source: Path, stages: dict[str, Image], image: Image) -> None:
    *options, origin, target = arguments.split()
    place = image.root / target.lstrip("/")
    if options:
        stage = stages[options[0].removeprefix("--from=")]
        copied = str(stage.root / origin.lstrip("/"))
        subprocess.run(["cp", "-a", "-T", copied, str(place)], check=True)
        return
    for line in (source / ".dockerignore").read_text().splitlines():
        if not line.startswith("!"):
            continue
        name = line[1:]
        place.mkdir(exist_ok=True)
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "dropin.cache", "node_modules")
            shutil.copytree(source / name, place / name, ignore=ignored)
        else:
            shutil.copy(source / name, place / name)


def host_wheels(source: Path, folder: Path) -> None:
    """
    Write to *folder* the wheels of what the package needs, and of what builds it.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "-w", str(folder)]
    constraints = ["-c", str(source / "constraints.txt")]
    subprocess.run([*pip, *constraints, str(source), "setuptools", "wheel"], check=True)
