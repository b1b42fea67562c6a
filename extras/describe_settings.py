"""
Write etc/realtime.conf, and the tables of docs/configuration.md between their two
marks, from the table of settings in rt_twisted.tap.settings.

    python extras/describe_settings.py            write both
    python extras/describe_settings.py --check    name those that are out of date
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from rt_twisted.tap.settings import SECTIONS, Setting

ROOT = Path(__file__).parents[1]
FILE = ROOT / "etc" / "realtime.conf"
PAGE = ROOT / "docs" / "configuration.md"
BEGIN = "<!-- settings: written by extras/describe_settings.py -->\n"
END = "<!-- settings: end -->\n"

# Lines that show what a setting can have, beside its default; none of them is in force.
EXAMPLES = {
    "route": (
        ("server-sent events of the channel news", ("^/news$ sse:news",)),
        ("a camera by RTSP, played by RTSP and in browsers", (
            "^/cam$ rtsp:cam",
            "GET ^/cam\\.mp4$ mp4:cam",
        )),
        ("a camera that is fetched while it has viewers", (
            "^/door$ rtsp:door,source=env:DOOR_CAMERA,demand=yes",
            "GET ^/door\\.mp4$ mp4:door",
        )),
        ("OBS and other encoders by RTMP", ("^/studio/(\\w+)$ rtmp:cam-$1,takeover=yes",)),
        ("RTP by UDP to another program", ("^/udp$ interleaved:127.0.0.1:5004;127.0.0.1:5006",)),
        ("a radio station, as Icecast has it", (
            "^/(\\w+\\.mp3)$ icecast:channel=radio/$1,password=env:SOURCE_PASSWORD",
        )),
        ("uploads, also by tus", ("^/upload upload:to=/srv/uploads,channel=uploads",)),
    ),
}  # fmt: skip

HEAD = """\
## Every setting of the daemon, with its default. To change one, remove the "# " in
## front of it and write another value after the equals sign.
##
##     twistd -n realtime --config etc/realtime.conf
##     twistd -n realtime --config etc/realtime.conf --check
##
## An empty value unsets a setting. Sizes are bytes, or 64k, 1m, 1g. Times are
## seconds, or 30s, 10m, 1h, 1d. See docs/configuration.md.
"""


def settings_file() -> str:
    """
    Return a settings file in which every line is a comment.
    """
    lines = [HEAD]
    for title, settings in SECTIONS:
        lines.append(f"\n\n## {title}\n")
        for setting in settings:
            wrapped = textwrap.fill(
                setting.help, 88, initial_indent="## ", subsequent_indent="## ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            lines.append(f"\n{wrapped}\n")
            for meaning, values in EXAMPLES.get(setting.name, ()):
                shown = "".join([f"##     {setting.name} = {value}\n" for value in values])
                lines.append(f"## {meaning}:\n{shown}")
            lines.append(f"{f'# {setting.name} = {setting.default}'.rstrip()}\n")
    return "".join(lines)


def tables() -> str:
    """
    Return a table in Markdown for each section.
    """
    parts = []
    for title, settings in SECTIONS:
        rows = [f"| {_name(one)} | {_default(one)} | {one.help} |\n" for one in settings]
        parts.append(f"### {title}\n\n| setting | default | meaning |\n| --- | --- | --- |\n")
        parts += [*rows, "\n"]
    return "".join(parts)


def page(old: str) -> str:
    """
    Return *old* with the current tables between the marks.
    """
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def _name(setting: Setting) -> str:
    return f"`{setting.name}`" + (f", `-{setting.short}`" if setting.short else "")


def _default(setting: Setting) -> str:
    return f"`{setting.default}`" if setting.default else "unset"


def main(arguments: list[str]) -> int:
    """
    Write both files, or with `--check` only compare them.

    Returns:
        the exit status.
    """
    wanted = {FILE: settings_file(), PAGE: page(PAGE.read_text())}
    old = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in old:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date: run extras/describe_settings.py")
        else:
            path.write_text(wanted[path])
    return 1 if old and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
