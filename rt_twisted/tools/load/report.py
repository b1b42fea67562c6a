"""
Results of a load test as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BUSY = 0.8  # of a core: above, the figures describe this program more than the server
MAX_CHANNELS = 20  # rows of the table
MAX_NAME = 24  # characters of a channel's name in the table
PARTS = ("p50", "p99")


def report(found: Mapping[str, Any]) -> str:
    """
    Format the summary of a load test as text.
    """
    counts = found["readers"]
    lines = [
        f"readers    {counts['opened']:,} of {counts['asked']:,} connected, "
        f"{counts['open_at_end']:,} until the end, {counts['reconnects']:,} reconnects",
        f"connect    {_times(found['connect_ms'])}",
        f"published  {found['published']:,} in {found['seconds']:.1f} s"
        + (f", {found['unsure']:,} unconfirmed" if found["unsure"] else ""),
        f"delivered  {found['delivered']:,}"
        + (f", and {found['other_events']:,} of others" if found["other_events"] else ""),
    ]
    if found["delivered"]:
        lines.append(f"latency    {_times(found['latency_ms'])}")
    for name, each in found["transports"].items():
        lines.append(f"  {name:<9}{each['delivered']:,}  {_times(each['latency_ms'])}")
    lines.append(
        f"wrong      {found['lost']:,} lost, {found['repeated']:,} repeated, "
        f"{found['out_of_order']:,} out of order, {found['gaps']:,} gaps"
        + (f", {found['stray']:,} of a channel not subscribed" if found["stray"] else "")
    )
    lines += [f"error      {count:,} x {kind}" for kind, count in found["errors"].items()]
    if found["client_busy"] > BUSY:
        lines.append(
            f"note       this client used {found['client_busy']:.0%} of a core: the latencies are "
            "its own as much as the server's"
        )
    if found["delivered"]:
        lines += ["", *_channel_table(found["channels"])]
    return "\n".join(lines) + "\n"


def _times(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:,.1f} ms" for name, value in values.items())


def _channel_table(channels: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield a row per channel: its subscribers, messages, latencies, and times to the last subscriber.
    """
    shown = [(_shorten(name), each) for name, each in list(channels.items())[:MAX_CHANNELS]]
    width = max(len("channel"), *(len(name) for name, _ in shown))
    row = "{:<{width}}  {:>11}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}"
    yield row.format("", "", "", "each", "", "last", "", width=width).rstrip()
    yield row.format(
        "channel", "subscribers", "messages", "p50 ms", "p99 ms", "p50 ms", "p99 ms", width=width
    )
    for name, each in shown:
        times = [f"{each[kind][part]:,.1f}" for kind in ("latency_ms", "last_ms") for part in PARTS]
        counts = [f"{each[key]:,}" for key in ("readers", "messages")]
        yield row.format(name, *counts, *times, width=width)
    if len(channels) > MAX_CHANNELS:
        yield f"and {len(channels) - MAX_CHANNELS:,} more channels: --json has all"


def _shorten(name: str) -> str:
    printable = "".join(each if each.isprintable() else "?" for each in name)
    return printable if len(printable) <= MAX_NAME else printable[: MAX_NAME - 1] + "…"
