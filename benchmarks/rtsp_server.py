"""
GStreamer's RTSP server with a file of H264 and AAC at /live/cam, or with the H264 that it gets as
RTP on a UDP port. The system's Python runs this file, with the port and the path of the file, or
`udp:PORT` instead.
"""

import sys

import gi  # type: ignore[import-not-found]  # of the system

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")

from gi.repository import (  # type: ignore[import-not-found]  # noqa: E402
    GLib,
    Gst,
    GstRtspServer,
)

Gst.init(None)
server = GstRtspServer.RTSPServer(service=sys.argv[1], address="127.0.0.1")
factory = GstRtspServer.RTSPMediaFactory(shared=True)
source, _, number = sys.argv[2].partition(":")
if source == "udp":
    caps = (
        "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96,"
        'sprop-parameter-sets=(string)\\"Z0LADdoFB+wEQAAAAwBAAAAMo8UKqA==\\,aM4PyA==\\"'
    )
    factory.set_launch(
        f'( udpsrc address=127.0.0.1 port={number} caps="{caps}"'
        " ! rtph264depay ! rtph264pay name=pay0 pt=96 )"
    )
else:
    factory.set_launch(
        f"( filesrc location={source} ! qtdemux name=d"
        " d. ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1"
        " d. ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
    )
server.get_mount_points().add_factory("/live/cam", factory)
server.attach(None)
GLib.MainLoop().run()
